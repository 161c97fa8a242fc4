"""How much one evaluation of a program computes, read off its equations."""

from __future__ import annotations

import math
from typing import Any

from jax.extend import core as jex

from taut._errors import TautWarning
from taut.core import warn
from taut.problem._program import Program

# Equations, and discrete sites among them, of a program that a loop in Python has made long; and what compiling an
# equation takes, measured on a CPU on chains of 30 to 100 steps.
_MANY_EQUATIONS, _MANY_SITES = 4000, 20
_SECONDS = 0.0035


def warn_of_length(program: Program) -> None:
    """Warn of chains written step by step: each step is compiled by itself, where a scan compiles one."""
    sums = program.sums
    if sums is None or len(sums.latents) < _MANY_SITES or len(sums.jaxpr.eqns) < _MANY_EQUATIONS:
        return
    first, *_, last = sums.latents.values()
    count = len(sums.jaxpr.eqns)
    warn(
        TautWarning(
            "unrolled",
            site=first.name,
            source=first.source,
            found=f"{first.name!r} to {last.name!r} are {len(sums.latents)} discrete sites, {count:,} equations: each "
            f"of the few functions that a fit compiles takes about {_SECONDS * count:.0f} seconds",
            expected="one site for all steps: compiled once, however many there are",
            remedy="from numpyro.contrib.control_flow import scan; scan(step, z, y)",
        )
    )


def elements(jaxpr: Any) -> int:
    """Array elements that the equations of a jaxpr produce, loops counted as often as they run.

    A rough measure of work, the same on every machine: matrix products count by their results alone.
    """
    total = 0
    for eqn in jaxpr.eqns:
        inner = sum(elements(body) for value in eqn.params.values() for body in _bodies(value))
        total += inner * eqn.params.get("length", 1) if inner else sum(math.prod(v.aval.shape) for v in eqn.outvars)
    return total


def maxima(jaxpr: Any) -> set[int]:
    """Lengths of the axes that a jaxpr takes a maximum over: the first step of every sum of exponentials."""
    found: set[int] = set()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "reduce_max":
            found |= {eqn.invars[0].aval.shape[axis] for axis in eqn.params["axes"]}
        for value in eqn.params.values():
            for body in _bodies(value):
                found |= maxima(body)
    return found


def _bodies(value: Any) -> list[Any]:
    if isinstance(value, jex.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, jex.Jaxpr):
        return [value]
    if isinstance(value, tuple | list):
        return [body for item in value for body in _bodies(item)]
    return []
