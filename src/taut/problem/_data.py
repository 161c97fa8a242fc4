"""Data: a mapping from argument names to values, split into what is traced and what is fixed."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut._precision import real_dtype
from taut.core import allowed
from taut.problem._untraced import Untraced


def split(model: Callable[..., Any], data: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the data against the model's arguments and tell arrays from constants.

    Args:
        model: the program.
        data: values by argument name, or a data frame. Numbers with a decimal point, sequences of numbers, arrays,
            and dicts of these are arrays; whole numbers, booleans, strings, ``None`` and other objects are constants,
            which the model may use for sizes and branches.

    Returns:
        ``(arrays, constants)``, both by argument name; arrays are NumPy or JAX arrays, or pytrees of them.

    Raises:
        TautError: ``data-missing``, ``data-unknown``, ``data-type``, ``data-iterator``.
    """
    data = {} if data is None else data
    if hasattr(data, "columns") and hasattr(data, "keys"):
        # A data frame: its columns are the arguments.
        data = {name: data[name] for name in data.keys()}  # noqa: SIM118
    if not isinstance(data, Mapping):
        raise TautError(
            "data-type",
            found=f"data of type {type(data).__name__}",
            expected="a mapping from the model's argument names to values",
            remedy="taut.fit(model, dict(x=x, y=y))",
        )
    _check_names(model, list(data))
    _check_closure(model)
    arrays: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    for name, value in data.items():
        converted = _convert(name, value)
        traced = _is_array(converted) and not isinstance(model, Untraced)
        (arrays if traced else constants)[name] = converted
    return arrays, constants


def exempt(data: Mapping[str, Any], allow: Mapping[str, str | Iterable[str]] | None) -> frozenset[str]:
    """The data entries that may have no effect.

    Args:
        data: the data.
        allow: codes by entry.

    Raises:
        TautError: ``bad-argument`` for an unknown code, ``data-unknown`` for an entry that the data do not have.
    """
    found = {name: allowed(name, codes) for name, codes in (allow or {}).items()}
    unknown = [name for name in found if name not in data]
    if unknown:
        raise TautError(
            "data-unknown",
            site=unknown[0],
            found=f"allow for {unknown[0]!r}",
            expected=f"an entry of the data: {', '.join(data) or 'there is none'}",
            remedy=f"leave {unknown[0]!r} out of allow",
        )
    return frozenset(name for name, codes in found.items() if "unused-argument" in codes)


def in_scope(array: Any) -> Any:
    """Real numbers in the precision of the scope in force, so that data and latents meet with one type."""
    kind = np.issubdtype(array.dtype, np.floating) or array.dtype == jax.numpy.bfloat16
    dtype = real_dtype() if kind else jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype == dtype:
        return array
    spread = isinstance(array, jax.Array) and not array.is_fully_addressable
    return array.astype(dtype) if spread else np.asarray(array).astype(dtype)


def nonfinite(array: Any) -> tuple[int, tuple[int, ...]] | None:
    """How many entries are NaN or infinite, and where the first is; ``None`` if all are finite."""
    if isinstance(array, jax.Array):
        array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.inexact):
        return None
    bad = ~np.isfinite(array)
    if not bad.any():
        return None
    return int(bad.sum()), tuple(int(i) for i in np.argwhere(bad)[0])


def _check_names(model: Callable[..., Any], names: list[str]) -> None:
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p.name for p in parameters if p.name in known and p.default is p.empty]
    title = getattr(model, "__name__", "model")
    unknown = [n for n in names if n not in known]
    missing = [n for n in needed if n not in names]
    if unknown and not open_ended:
        close = _close(unknown[0], known)
        raise TautError(
            "data-unknown",
            site=unknown[0],
            found=f"data entry {unknown[0]!r}",
            expected=f"one of {title}'s arguments: {', '.join(known) or 'it takes none'}",
            remedy=f"rename it to {close[0]!r}" if close else f"leave {unknown[0]!r} out of the data",
        )
    if missing:
        close = _close(missing[0], names)
        raise TautError(
            "data-missing",
            site=missing[0],
            found=f"data for {', '.join(names) or 'nothing'}",
            expected=f"a value for {title}'s argument {missing[0]!r}",
            remedy=f"rename {close[0]!r}" if close else f"dict({missing[0]}=..., ...)",
        )


def _check_closure(model: Callable[..., Any]) -> None:
    """Refuse a model that reads from an iterator of its surroundings: it would be read once, while it is traced."""
    try:
        around = inspect.getclosurevars(inspect.unwrap(model))
    except (TypeError, ValueError):
        return
    for name, value in {**around.globals, **around.nonlocals}.items():
        if isinstance(value, Iterator):
            raise _iterator(name, value)


def _iterator(name: str, value: Any) -> TautError:
    return TautError(
        "data-iterator",
        site=name,
        found=f"{name!r} is a {type(value).__name__}",
        expected="arrays with all rows; batches are drawn from them in the compiled loop",
        remedy=f"{name}=np.concatenate(list({name})), and in the model: "
        'with taut.plate("rows", len(y), subsample_size=100) as rows: ... obs=y[rows]',
    )


def _close(name: str, others: list[str]) -> list[str]:
    """The likeliest of the other names that ``name`` was meant to be, whatever its case."""
    lower = {other.lower(): other for other in others}
    return [lower[found] for found in difflib.get_close_matches(name.lower(), list(lower), 1)]


def _is_array(value: Any) -> bool:
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves)


def _convert(name: str, value: Any) -> Any:
    if isinstance(value, Iterator):
        raise _iterator(name, value)
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    if value is None or isinstance(value, bool | int | str | bytes | np.ndarray | jax.Array) or callable(value):
        if isinstance(value, np.ndarray) and value.dtype.kind not in "biufc":
            raise _not_numeric(name, f"an array of dtype {value.dtype}")
        return value
    if isinstance(value, float | complex | np.number):
        return np.asarray(value)
    if isinstance(value, Mapping):
        return {key: _convert(f"{name}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(v, np.ndarray | jax.Array) for v in value):
        return type(value)(_convert(f"{name}[{i}]", item) for i, item in enumerate(value))
    if isinstance(value, list | tuple) or hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
        except ValueError:
            raise _not_numeric(name, "rows of different lengths") from None
        if array.dtype.kind not in "biufc":
            example = array.ravel()[0] if array.size else None
            raise _not_numeric(name, f"entries of type {type(example).__name__}, such as {example!r}")
        return array
    return value


def _not_numeric(name: str, found: str) -> TautError:
    return TautError(
        "data-type",
        site=name,
        found=found,
        expected="numbers in a rectangular array",
        remedy=f"turn categories into numbers first: {name}, labels = pandas.factorize({name})",
    )
