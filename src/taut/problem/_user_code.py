"""Errors that Python and JAX raise inside the user's model, said again as sentences at the user's own line."""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from taut._errors import TautError
from taut.problem._levels import one_level

_JAX_ERRORS: dict[type[Exception], tuple[str, str]] = {
    jax.errors.TracerBoolConversionError: (
        "Python branches (if, while, and, or, assert) on a value that is known only during the fit",
        "jnp.where(condition, a, b), or abs(x) for a sign; sizes and switches belong in the data as int, bool or str",
    ),
    jax.errors.TracerIntegerConversionError: (
        "a value known only during the fit is used as a Python whole number",
        "pass the number in the data as an int: dict(n=8, ...); to pick an entry: jnp.asarray(values)[index]",
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

# What Python and NumPy say of a traced value in plain TypeErrors and ValueErrors.
_PLAIN_ERRORS: tuple[tuple[str, str, str], ...] = (
    (
        "Only integer scalar arrays can be converted to a scalar index",
        "a value known only during the fit is used as a Python whole number",
        "pass the number in the data as an int: dict(n=8, ...); to pick an entry: jnp.asarray(values)[index]",
    ),
    (
        "setting an array element with a sequence",
        "a value known only during the fit is written into a NumPy array",
        "jnp.stack([a, b]), or x = x.at[i].set(value) with x = jnp.zeros(n)",
    ),
    (
        "JAX arrays are immutable",
        "an array of JAX is changed in place",
        "x = x.at[i].set(value)",
    ),
    (
        "unhashable type: '",
        "a value known only during the fit is used as a key",
        "jnp.asarray(values)[index] to pick by a computed number",
    ),
    (
        "unsupported format string passed to ",
        "a value known only during the fit is turned into text",
        'jax.debug.print("x = {x}", x=x), or taut.deterministic("x", x) to read it in the result',
    ),
)

# What the user's own expression shows: the function to write instead.
_BY_CODE: tuple[tuple[str, str], ...] = (
    (r"assert\b", "delete the assert: the distribution's support says the same, and values are checked before the fit"),
    (r"max\(", "jnp.maximum(a, b)"),
    (r"min\(", "jnp.minimum(a, b)"),
    (r"sorted\(", "jnp.sort(jnp.stack([a, b]))"),
    (r"float\(", "leave float() out: jax.numpy computes with the value as it is"),
    (r"int\(", "jnp.floor(x), or pass the number in the data as an int"),
    (r"range\(", "pass the number of rounds in the data as an int: dict(n=8, ...); for rows: taut.plate"),
    (r"(?:np|numpy)\.random\.", 'taut.sample("x", dist.Normal(0, 1)): what is random is a site'),
    (r"(?:np|numpy|math|scipy\.special)\.([\w.]+)\(", "jnp.{0}(...) of jax.numpy (jax.scipy for SciPy's)"),
)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors of tracing into `TautError` ``control-flow`` with the user's line, and refuse statements inside of
    transformations."""
    try:
        with one_level():
            yield
    except tuple(_JAX_ERRORS) as error:
        found, remedy = next(text for kind, text in _JAX_ERRORS.items() if isinstance(error, kind))
        raise _sentence(error, found, remedy) from error
    except (TypeError, ValueError) as error:
        text = str(error)
        known = [(found, remedy) for part, found, remedy in _PLAIN_ERRORS if part in text]
        # Quotes and formats may fail on values that are not traced: those errors are the user's own.
        if not known or (text.startswith(("unhashable", "unsupported")) and "Tracer" not in text):
            raise
        raise _sentence(error, *known[0]) from error


def _sentence(error: Exception, found: str, remedy: str) -> TautError:
    frame = _users_frame(error)
    part = _failing_part(frame)
    for pattern, better in _BY_CODE:
        match = re.match(pattern, part)
        if match:
            remedy = better.format(*match.groups())
            break
    return TautError(
        "control-flow",
        source=f"{Path(frame.filename).name}:{frame.lineno or 0}",
        found=f"{found}: `{(frame.line or '').strip()}`",
        expected="arithmetic that JAX can trace",
        remedy=remedy,
    )


def _users_frame(error: Exception) -> traceback.FrameSummary:
    own = {str(Path(__file__).resolve().parents[1]), str(Path(jax.__file__).resolve().parent)}
    frames = traceback.extract_tb(error.__traceback__)
    users = [
        f
        for f in frames
        if not any(f.filename.startswith(root) for root in own)
        # Nor functions of compiled libraries, whose files no user has.
        and not ("site-packages" in f.filename or f.filename.endswith((".pyx", ".pxi")))
    ]
    return (users or list(frames))[-1]


def _failing_part(frame: traceback.FrameSummary) -> str:
    """The expression of the user's line that failed, as Python marks it in tracebacks; an assert as a whole."""
    line = frame.line or ""
    if line.lstrip().startswith("assert"):
        return line.lstrip()
    if frame.colno is None or frame.end_colno is None or frame.end_lineno != frame.lineno:
        return line.strip()
    return (
        linecache.getline(frame.filename, frame.lineno or 0)
        .encode()[frame.colno : frame.end_colno]
        .decode(errors="replace")
        .strip()
    )
