"""Latents whose sign the model does not see: the log joint is an even function of them.

An expression is even or odd in a latent by rules: products of odd functions are even, the absolute value of an odd
function is even, any function of an even one is even.
"""

from __future__ import annotations

from typing import Literal

from taut.problem._graph import MOVES, Node
from taut.problem._program import Program

Parity = Literal["even", "odd", None]

_ODD = {"neg", "sin", "tan", "sinh", "asinh", "tanh", "atan", "asin", "atanh", "erf", "erf_inv", "cbrt", "sign"}
_LINEAR = MOVES | {"reduce_sum", "cumsum"}
_EVEN = {"abs", "cos", "cosh", "square"}


def sign_notes(program: Program) -> list[str]:
    """A note for each real latent whose sign is not identified although data speak of it."""
    notes = []
    for name, latent in program.latents.items():
        told = any(
            name in program.reach["plain"][other]
            for other in program.outputs["plain"]
            if other != name and other not in program.latents
        )
        if latent.support == "real" and told and _even(program, name):
            notes.append(
                f"+{name} and -{name} are equally likely: the sign of {name!r} is not identified, read |{name}|"
            )
    return notes


def _even(program: Program, name: str) -> bool:
    source = program.nodes[program.outputs["value"][name]]
    known: dict[Node, Parity] = {source: "odd"}
    return all(_parity(program.nodes[place], known) == "even" for place in program.outputs["plain"].values())


def _parity(root: Node, known: dict[Node, Parity]) -> Parity:
    """The parity of a value in the source; constants and other latents are even. Without recursion: programs are
    deep."""
    pending = [root]
    while pending:
        node = pending[-1]
        if node in known:
            pending.pop()
            continue
        missing = [s for s in node.sources if s not in known]
        if missing:
            pending.extend(missing)
            continue
        known[node] = _rule(node, [known[s] for s in node.sources])
        pending.pop()
    return known[root]


def _rule(node: Node, parts: list[Parity]) -> Parity:
    name = node.primitive
    if all(p == "even" for p in parts):
        return "even"
    if None in parts:
        return None
    if name in _EVEN:
        return "even"
    if name in _ODD or name in _LINEAR:
        return parts[0]
    if name == "integer_pow":
        return "even" if node.params["y"] % 2 == 0 else "odd"
    if name in ("mul", "div", "dot_general"):
        return "even" if parts[0] == parts[1] else "odd"
    if name in ("eq", "ne"):
        # Whether a number is NaN, or infinite, has nothing to do with its sign.
        infinite = any(s.literal is not None and abs(s.literal) == float("inf") for s in node.sources)
        return "even" if infinite or parts == ["odd", "odd"] else None
    if name in ("add", "add_any", "sub"):
        zeros = [s.literal == 0.0 for s in node.sources]
        return "odd" if parts == ["odd", "odd"] or any(zeros) else None
    if name == "select_n" and parts[0] == "even" and len(set(parts[1:])) == 1:
        return parts[1]
    return None
