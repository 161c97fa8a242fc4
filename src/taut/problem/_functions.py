"""A fingerprint of a function: of the rules of custom derivatives and callbacks, which equations do not show.

Two functions of one name may do different things, as when a notebook cell is run again with another number in it. What
counts is their code and what they close over; where that cannot be told, each object counts as different.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

# Functions of these packages are known by name; what they close over is looked into only for functions of others.
_LIBRARIES = ("jax", "jaxlib", "numpy", "numpyro", "taut", "functools", "contextlib")
_DEPTH = 12


def function_parts(function: Any) -> Iterator[bytes]:
    """Bytes that are equal for functions that do the same, and differ for those that may not."""
    yield from _parts(function, _DEPTH, set(), foreign=False)


def _parts(value: Any, depth: int, seen: set[int], *, foreign: bool) -> Iterator[bytes]:
    if isinstance(value, bool | int | float | complex | str | bytes | np.generic | type(None)):
        yield repr(value).encode()
    elif isinstance(value, Tracer):
        yield str(value.aval).encode()
    elif isinstance(value, np.ndarray | jax.Array):
        yield f"{value.dtype}{value.shape}".encode() + np.asarray(value).tobytes()
    elif isinstance(value, type | ModuleType | BuiltinFunctionType):
        yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}".encode()
    elif id(value) in seen:
        yield b"again"
    elif depth == 0:
        yield f"{type(value).__qualname__}@{id(value)}".encode()
    else:
        seen.add(id(value))
        yield from _compound(value, depth - 1, seen, foreign=foreign)


def _compound(value: Any, depth: int, seen: set[int], *, foreign: bool) -> Iterator[bytes]:
    if isinstance(value, FunctionType):
        yield from _function(value, depth, seen)
    elif isinstance(value, MethodType):
        for part in (value.__func__, value.__self__):
            yield from _parts(part, depth, seen, foreign=foreign)
    elif isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.items()):
            yield from _parts(part, depth, seen, foreign=foreign)
    elif isinstance(value, tuple | list):
        yield f"({len(value)}".encode()
        for part in value:
            yield from _parts(part, depth, seen, foreign=foreign)
    elif isinstance(value, dict) and foreign:
        for part in value.items():
            yield from _parts(part, depth, seen, foreign=True)
    elif callable(value) or hasattr(value, "call_wrapped"):
        yield type(value).__qualname__.encode()
        for name in (*getattr(type(value), "__slots__", ()), *getattr(value, "__dict__", {})):
            part = getattr(value, name, None)
            if callable(part) or isinstance(part, tuple | list) or hasattr(part, "call_wrapped"):
                yield from _parts(part, depth, seen, foreign=foreign)
    elif foreign and not _library(type(value).__module__):
        yield f"{type(value).__qualname__}@{id(value)}".encode()


def _function(function: FunctionType, depth: int, seen: set[int]) -> Iterator[bytes]:
    yield f"{function.__module__}.{function.__qualname__}".encode()
    foreign = not _library(function.__module__)
    cells = [_content(cell) for cell in function.__closure__ or ()]
    if not foreign:
        # Caches and counters of the library are no part of what a function means.
        cells = [c for c in cells if not isinstance(c, dict) and type(c) is not object]
    for part in (*cells, function.__defaults__ or (), *(function.__kwdefaults__ or {}).values()):
        yield from _parts(part, depth, seen, foreign=foreign)
    if foreign:
        yield from _code(function.__code__)
        for name in _names(function.__code__):
            if name in function.__globals__:
                part = function.__globals__[name]
                if not isinstance(part, ModuleType):
                    yield from _parts(part, depth, seen, foreign=foreign)


def _library(module: str | None) -> bool:
    return (module or "").split(".")[0] in _LIBRARIES


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _code(const)
        else:
            yield repr(const).encode()


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)
