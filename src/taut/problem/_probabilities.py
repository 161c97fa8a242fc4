"""Probabilities that round to 0 or 1 before their logarithm is taken: seen in the traced program, and in the data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.extend import core as jex

from taut._errors import TautWarning
from taut.core import warn
from taut.problem._kernel import Kernel
from taut.problem._program import Program

# Equations that a probability passes through unchanged, or cut off at its ends.
_PASSES = {
    "broadcast_in_dim",
    "reshape",
    "squeeze",
    "convert_element_type",
    "expand_dims",
    "slice",
    "copy",
    "transpose",
    "clamp",
    "max",
    "min",
    "stop_gradient",
}
_CALLS = ("jaxpr", "call_jaxpr")


@dataclass(eq=False)
class _Node:
    """One value of the program: the equation that made it, and what that was made from."""

    primitive: str
    sources: list[_Node] = field(default_factory=list)
    literal: float | None = None


def check_probabilities(program: Program, kernel: Kernel) -> None:
    """Warn of a distribution of 0 and 1, or of categories, whose ``probs`` are the sigmoid or the softmax of logits.

    At a logit of 20 the sigmoid is exactly 1 in single precision (37 in double), its logarithm and its slope are wrong
    from there on, and nothing says so; ``logits=`` has neither problem.
    """
    if not program.outputs["probs"]:
        return
    nodes = _nodes(program.closed.jaxpr)
    # A latent or a parameter between 0 and 1 is itself a sigmoid of its coordinate: that is the library's own.
    own = {id(nodes[index]) for group in ("value", "param") for index in program.outputs[group].values()}
    for name, index in program.outputs["probs"].items():
        site = program.sites[name]
        made_by = None if "probs-rounded" in site.allow else _made_by(nodes[index], own)
        if made_by is not None:
            family = "Categorical" if made_by == "softmax" else "Bernoulli"
            found = f"probs={made_by}(x), which is exactly 1 from x = {_LIMIT} on, and then has no slope"
            _warn(site, found, f"dist.{family}(logits=x) in place of dist.{family}(probs={made_by}(x))")
    fixed = [n for n in program.fixed("probs") if "probs-rounded" not in program.sites[n].allow]
    (known,) = kernel.constants(("probs",), fixed) if fixed else ({},)
    for name, probs in known.items():
        ends = int(np.sum((probs == 0) | (probs == 1)))
        if ends:
            _warn(program.sites[name], f"{ends} of {probs.size} probs exactly 0 or 1", "dist.Bernoulli(logits=x)")


_LIMIT = "37 (17 in single precision)"


def _warn(site: Any, found: str, remedy: str) -> None:
    warning = TautWarning(
        "probs-rounded",
        site=site.name,
        source=site.source,
        found=found,
        expected="logits, whose log density is exact however large they are",
        remedy=f'{remedy}; if it is meant: taut.sample("{site.name}", ..., allow="probs-rounded")',
    )
    warn(warning)


def _made_by(node: _Node, own: set[int]) -> str | None:
    """``"sigmoid"`` or ``"softmax"`` where a value is one; ``None`` for all else, a latent's own map included."""
    while id(node) not in own:
        if node.primitive == "logistic":
            return "sigmoid"
        if node.primitive == "sub" and node.sources[0].literal == 1.0:
            node = node.sources[1]
        elif node.primitive == "div":
            return _quotient(node)
        elif node.primitive in _PASSES:
            kept = [s for s in node.sources if s.literal is None]
            if len(kept) != 1:
                return None
            node = kept[0]
        else:
            return None
    return None


def _quotient(node: _Node) -> str | None:
    above, below = (_passed(s) for s in node.sources)
    if below.primitive == "add" and {s.literal for s in below.sources} & {1.0}:
        # 1 / (1 + exp(-x)) and exp(x) / (1 + exp(x)).
        powers = any(_passed(s).primitive == "exp" for s in below.sources)
        return "sigmoid" if powers and (above.literal == 1.0 or above.primitive == "exp") else None
    total = below.primitive == "reduce_sum" and _passed(below.sources[0]).primitive == "exp"
    return "softmax" if total and above.primitive == "exp" else None


def _passed(node: _Node) -> _Node:
    while node.primitive in _PASSES and len([s for s in node.sources if s.literal is None]) == 1:
        node = next(s for s in node.sources if s.literal is None)
    return node


def _nodes(jaxpr: Any, inputs: list[_Node] | None = None) -> list[_Node]:
    """The outputs of a program as nodes; calls are looked into."""
    env: dict[Any, _Node] = {v: _Node("constant") for v in jaxpr.constvars}
    given = inputs if inputs is not None else [_Node("input") for _ in jaxpr.invars]
    env.update(zip(jaxpr.invars, given, strict=True))

    def read(v: Any) -> _Node:
        if not isinstance(v, jex.Literal):
            return env[v]
        return _Node("literal", literal=float(v.val) if np.size(v.val) == 1 else np.nan)

    for eqn in jaxpr.eqns:
        sources = [read(v) for v in eqn.invars]
        body = next((eqn.params[p] for p in _CALLS if p in eqn.params), None)
        body = getattr(body, "jaxpr", body)
        if body is not None and len(body.invars) == len(sources) and len(body.outvars) == len(eqn.outvars):
            results = _nodes(body, sources)
        else:
            # A number stays one through a conversion or a broadcast.
            moved = eqn.primitive.name in _PASSES and sources and all(s.literal is not None for s in sources)
            results = [_Node(eqn.primitive.name, sources, sources[0].literal if moved else None) for _ in eqn.outvars]
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]
