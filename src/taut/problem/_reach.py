"""What depends on what: reachability in the traced program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend import core as jex

from taut.problem._holes import hole_names

_NOTHING: frozenset[str] = frozenset()


def dependencies(jaxpr: Any, input_names: Sequence[str]) -> list[frozenset[str]]:
    """Which holes and inputs each output of a program depends on.

    Calls are followed into their bodies; loops and branches count as depending on all of their inputs.

    Args:
        jaxpr: a jaxpr with holes.
        input_names: a label for each of its inputs.

    Returns:
        One set of labels per output.
    """
    return _follow(jaxpr, [frozenset((name,)) for name in input_names])


def _follow(jaxpr: Any, inputs: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    env: dict[Any, frozenset[str]] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(v: Any) -> frozenset[str]:
        return _NOTHING if isinstance(v, jex.Literal) else env.get(v, _NOTHING)

    for eqn in jaxpr.eqns:
        name = hole_names(eqn)
        if name is not None:
            env[eqn.outvars[0]] = frozenset((name,))
            continue
        sources = [read(v) for v in eqn.invars]
        body = eqn.params.get("jaxpr") if eqn.primitive.name in ("pjit", "jit", "closed_call") else None
        if body is not None:
            results = _follow(body.jaxpr, sources)
        else:
            results = [_NOTHING.union(*sources)] * len(eqn.outvars)
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]
