"""Modules of NumPyro's that ask for their weights before they say what they start at: `numpyro.module`, Flax's.

The first run of a program finds the initial values; a second one, in the same trace, answers the question with what
is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# What NumPyro's modules call their weights: "net$params".
_SUFFIX = "$params"
_STARTS: ContextVar[Mapping[str, Any]] = ContextVar("taut_initial_weights")


class WeightsFound(Exception):
    """A module has said what its weights start at, after it had asked for them.

    Args:
        name: the parameter.
        init: its initial value.
    """

    def __init__(self, name: str, init: Any):
        super().__init__(name)
        self.name = name
        self.init = init


def known_start(name: str) -> Any:
    """The initial value of a module's weights, found in a run before this one; ``None`` in the first."""
    return _STARTS.get({}).get(name)


def with_weights(run: Callable[[], T]) -> T:
    """Call ``run``, and once more for each module whose initial weights it finds."""
    token = _STARTS.set({})
    try:
        while True:
            try:
                return run()
            except WeightsFound as found:
                _STARTS.set({**_STARTS.get({}), found.name: found.init})
    finally:
        _STARTS.reset(token)


def replaced_weights(params: Iterable[str], reach: Mapping[str, Mapping[str, frozenset[str]]]) -> list[str]:
    """The parameters of modules that nothing depends on: weights that have been given priors instead.

    Args:
        params: names of parameters.
        reach: for each group of outputs, what each output depends on.
    """
    groups = [outputs.values() for group, outputs in reach.items() if group not in ("param", "init")]
    seen = frozenset[str]().union(*(labels for outputs in groups for labels in outputs))
    return [name for name in params if _SUFFIX in name and name not in seen]
