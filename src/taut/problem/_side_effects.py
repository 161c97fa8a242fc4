"""What a model keeps from one run for the next: it runs once, abstractly, so whatever it kept would be lost."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from taut._errors import TautError

# How far the walk goes into what a model refers to, and how many objects it looks at.
_DEPTH = 4
_MOST = 5000


@contextmanager
def no_side_effects(program: Callable[..., Any], data: Mapping[str, Any]) -> Iterator[None]:
    """Refuse a model or a guide that keeps a value, or a state, of the abstract run inside of the ``with`` statement.

    Args:
        program: what is run.
        data: its fixed arguments, which may hold layers too.

    Raises:
        TautError: ``side-effect``.
    """
    check_states(program, data)
    before = kept_numbers(program)
    yield
    check_side_effects(program, before)


def kept_numbers(model: Callable[..., Any]) -> set[str]:
    """Where numbers and arrays stand in what a model refers to: its closure, its globals, its object."""
    return {where for where, value in _reachable(model) if _is_number(value)}


def check_side_effects(model: Callable[..., Any], before: set[str]) -> None:
    """Refuse a model that replaced a number outside of itself by a value of its own run: a running state.

    A new entry (a list that values are appended to, an attribute set for the first time) is left alone: nothing can
    have been read from it.

    Args:
        model: the program, after its run.
        before: `kept_numbers` before its run.

    Raises:
        TautError: ``side-effect``.
    """
    for where, value in _reachable(model):
        if isinstance(value, Tracer) and where in before:
            raise TautError(
                "side-effect",
                site=where,
                found=f"the program replaced {where} by a value that exists only during the fit; it runs once, so the "
                "state would never be renewed",
                expected="a model and a guide without a state of their own",
                remedy='taut.deterministic("name", value) to read it in the result; a number to learn is a taut.param',
            )


def check_states(model: Callable[..., Any], data: Mapping[str, Any]) -> None:
    """Refuse layers of Equinox that change a running state, such as ``BatchNorm`` while it trains.

    Raises:
        TautError: ``side-effect``.
    """
    for where, value in (*_reachable(model), *_walk("data", dict(data), _DEPTH, set(), [_MOST])):
        if not type(value).__module__.startswith("equinox.nn") or getattr(value, "inference", None) is not False:
            continue
        if any(type(part).__name__ == "StateIndex" for part in vars(value).values()):
            name = type(value).__name__
            raise TautError(
                "side-effect",
                site=where,
                found=f"{name} in training mode: its running statistics would be the same in every step, and a row's "
                "likelihood would depend on the other rows and particles",
                expected="layers without a state, or with one that is fixed",
                remedy="equinox.nn.LayerNorm or GroupNorm, or net = equinox.nn.inference_mode(net)",
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | complex | np.ndarray | np.number | jax.Array) and not isinstance(
        value, Tracer
    )


def _reachable(model: Any) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    left = [_MOST]
    while isinstance(model, functools.partial) or hasattr(model, "__wrapped__"):
        if isinstance(model, functools.partial):
            yield from _walk("an argument", [*model.args, *model.keywords.values()], _DEPTH, seen, left)
            model = model.func
        else:
            model = model.__wrapped__
    if isinstance(model, MethodType):
        yield from _walk("self", model.__self__, _DEPTH, seen, left)
        model = model.__func__
    if not isinstance(model, FunctionType):
        yield from _walk("self", model, _DEPTH, seen, left)
        return
    for name, cell in zip(model.__code__.co_freevars, model.__closure__ or (), strict=True):
        try:
            yield from _walk(name, cell.cell_contents, _DEPTH, seen, left)
        except ValueError:  # a name that is not bound yet
            continue
    for name in model.__code__.co_names:
        if name in model.__globals__:
            yield from _walk(name, model.__globals__[name], _DEPTH, seen, left)


def _walk(where: str, value: Any, depth: int, seen: set[int], left: list[int]) -> Iterator[tuple[str, Any]]:
    if depth < 0 or left[0] <= 0:
        return
    left[0] -= 1
    if _is_number(value) or isinstance(value, Tracer):
        yield where, value
        return
    if id(value) in seen or isinstance(value, ModuleType | type | str | bytes):
        return
    seen.add(id(value))
    yield where, value
    if isinstance(value, Mapping):
        for key, part in list(value.items()):
            yield from _walk(f"{where}[{key!r}]", part, depth - 1, seen, left)
    elif isinstance(value, list | tuple | set | frozenset):
        for index, part in enumerate(value):
            yield from _walk(f"{where}[{index}]", part, depth - 1, seen, left)
    elif isinstance(value, FunctionType):
        # Helper functions are part of the model.
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield from _walk(name, cell.cell_contents, depth - 1, seen, left)
            except ValueError:
                continue
        for name in value.__code__.co_names:
            if name in value.__globals__ and not isinstance(value.__globals__[name], FunctionType):
                yield from _walk(name, value.__globals__[name], depth - 1, seen, left)
    else:
        for name, part in list(getattr(value, "__dict__", {}).items()):
            yield from _walk(f"{where}.{name}", part, depth - 1, seen, left)
