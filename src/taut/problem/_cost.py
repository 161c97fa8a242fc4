"""How much one evaluation of a program computes, read off its equations."""

from __future__ import annotations

import math
from typing import Any

from jax.extend import core as jex


def elements(jaxpr: Any) -> int:
    """Array elements that the equations of a jaxpr produce, loops counted as often as they run.

    A rough measure of work, the same on every machine: matrix products count by their results alone.
    """
    total = 0
    for eqn in jaxpr.eqns:
        inner = sum(elements(body) for value in eqn.params.values() for body in _bodies(value))
        total += inner * eqn.params.get("length", 1) if inner else sum(math.prod(v.aval.shape) for v in eqn.outvars)
    return total


def _bodies(value: Any) -> list[Any]:
    if isinstance(value, jex.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, jex.Jaxpr):
        return [value]
    if isinstance(value, tuple | list):
        return [body for item in value for body in _bodies(item)]
    return []
