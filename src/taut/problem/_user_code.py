"""Errors that JAX raises inside the user's model, said again as sentences at the user's own line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from taut._errors import TautError
from taut.problem._levels import one_level

_REMEDIES: dict[type[Exception], tuple[str, str]] = {
    jax.errors.TracerBoolConversionError: (
        "Python branches (if, while, and, or) on a value that is known only during the fit",
        "jnp.where(condition, a, b), or abs(x) for a sign; sizes and switches belong in the data as int, bool or str",
    ),
    jax.errors.TracerIntegerConversionError: (
        "a value known only during the fit is used as a Python whole number",
        "pass the number in the data as an int: dict(n=8, ...)",
    ),
    jax.errors.TracerArrayConversionError: (
        "a NumPy function is applied to a value known only during the fit",
        "use the function of the same name in jax.numpy",
    ),
    jax.errors.NonConcreteBooleanIndexError: (
        "a boolean mask that is known only during the fit selects entries, so their number is unknown",
        "jnp.where(mask, x, 0), or select the entries before the fit and pass them in the data",
    ),
    jax.errors.ConcretizationTypeError: (
        "a value known only during the fit is needed as a plain number",
        "pass sizes and switches in the data as int, bool or str; use jax.numpy for arithmetic",
    ),
}


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn JAX's tracing errors into `TautError` ``control-flow`` with the user's line, and refuse statements inside of
    transformations."""
    try:
        with one_level():
            yield
    except tuple(_REMEDIES) as error:
        found, remedy = next(text for kind, text in _REMEDIES.items() if isinstance(error, kind))
        file, line, code = _users_frame(error)
        raise TautError(
            "control-flow",
            source=f"{file}:{line}",
            found=f"{found}: `{code}`",
            expected="arithmetic that JAX can trace",
            remedy=remedy,
        ) from error


def _users_frame(error: Exception) -> tuple[str, int, str]:
    own = {str(Path(__file__).resolve().parents[1]), str(Path(jax.__file__).resolve().parent)}
    frames = traceback.extract_tb(error.__traceback__)
    users = [
        f for f in frames if not any(f.filename.startswith(root) for root in own) and "site-packages" not in f.filename
    ]
    frame = (users or list(frames))[-1]
    return Path(frame.filename).name, frame.lineno or 0, frame.line or ""
