"""Evaluate some variables of a traced program: the equations that they need, and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core as jex

from taut.problem._holes import hole_names


def evaluate(
    jaxpr: Any, wanted: Sequence[Any], given: Mapping[Any, Any], holes: Mapping[str, Any] | None = None
) -> Any:
    """Values of variables.

    Args:
        jaxpr: the program.
        wanted: variables or literals of it.
        given: values of variables, inputs and constants among them, in place of what the equations give.
        holes: values of holes by name.

    Returns:
        A list, one value per wanted variable.
    """
    needed = {v for v in wanted if not isinstance(v, jex.Literal)}
    equations, openings = [], {v: value for v, value in given.items() if v in needed}
    for eqn in reversed(jaxpr.eqns):
        targets = [v for v in eqn.outvars if v in needed]
        if not targets:
            continue
        if all(v in given for v in targets):
            openings.update({v: given[v] for v in targets})
            continue
        name = hole_names(eqn)
        if name is not None:
            openings[eqn.outvars[0]] = (holes or {})[name]
            continue
        equations.append(eqn)
        needed.update(v for v in eqn.invars if not isinstance(v, jex.Literal))
    openings |= {v: given[v] for v in (*jaxpr.constvars, *jaxpr.invars) if v in needed}
    part = jaxpr.replace(
        constvars=[],
        invars=list(openings),
        outvars=list(wanted),
        eqns=equations[::-1],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(part, []))(*openings.values())
