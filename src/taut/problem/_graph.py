"""The traced program as a graph of values, calls looked into: for questions about one expression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.extend import core as jex

# Equations that move numbers without changing them.
MOVES = frozenset(
    [
        "broadcast_in_dim",
        "reshape",
        "squeeze",
        "convert_element_type",
        "expand_dims",
        "slice",
        "copy",
        "transpose",
        "rev",
        "reduce_precision",
    ]
)
_BODIES = ("jaxpr", "call_jaxpr")


@dataclass(eq=False)
class Node:
    """One value of a program.

    Attributes:
        primitive: the equation that made it; ``"input"``, ``"constant"`` or ``"literal"`` for what no equation made.
        sources: what that was made from.
        params: the equation's own parameters.
        literal: the number that it is, if it is a known one, however often repeated.
    """

    primitive: str
    sources: list[Node] = field(default_factory=list)
    params: Mapping[str, Any] = field(default_factory=dict)
    literal: float | None = None


def graph(jaxpr: Any, inputs: list[Node] | None = None) -> list[Node]:
    """The outputs of a program as nodes.

    Args:
        jaxpr: the program.
        inputs: its inputs; new ones by default.
    """
    env: dict[Any, Node] = {v: Node("constant") for v in jaxpr.constvars}
    given = [Node("input") for _ in jaxpr.invars] if inputs is None else inputs
    env.update(zip(jaxpr.invars, given, strict=True))

    def read(v: Any) -> Node:
        if not isinstance(v, jex.Literal):
            return env[v]
        return Node("literal", literal=float(v.val) if np.size(v.val) == 1 and np.isrealobj(v.val) else None)

    for eqn in jaxpr.eqns:
        sources = [read(v) for v in eqn.invars]
        body = next((eqn.params[p] for p in _BODIES if p in eqn.params), None)
        body = getattr(body, "jaxpr", body)
        if body is not None and len(body.invars) == len(sources) and len(body.outvars) == len(eqn.outvars):
            results = graph(body, sources) if eqn.primitive.name != "scan" else None
        else:
            results = None
        if results is None:
            name = eqn.primitive.name
            kept = sources[0].literal if name in MOVES and len(sources) == 1 else None
            results = [Node(name, sources, eqn.params, kept) for _ in eqn.outvars]
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]
