"""Arguments of distributions: whether a parameter or a latent that goes into one may leave its range.

What goes in directly, or through functions of one variable whose image is known, such as ``2 * s`` or ``tanh(s)``, is
judged before the first step. What goes through anything else shows in the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from taut import dist
from taut._errors import TautError
from taut.core import Site
from taut.problem._graph import MOVES, Node

_RISING: dict[str, Callable[[float], float]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sinh": np.sinh,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "cbrt": np.cbrt,
    "logistic": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "neg": lambda x: -x,
}
# With a known number c on one side, and whether the unknown stands left of it.
_WITH_NUMBER: dict[tuple[str, bool], Callable[[float, float], float]] = {
    ("add", True): lambda x, c: x + c,
    ("add", False): lambda x, c: c + x,
    ("sub", True): lambda x, c: x - c,
    ("sub", False): lambda x, c: c - x,
    ("mul", True): lambda x, c: x * c,
    ("mul", False): lambda x, c: c * x,
    ("div", True): lambda x, c: x / c,
}
_REAL = (-np.inf, np.inf)


class Argument(NamedTuple):
    """An argument of a site's distribution that not every number may be."""

    site: Site
    name: str
    constraint: Any
    value: Any


class Source(NamedTuple):
    """Something that moves during the fit: a ``param`` or a ``latent``, with the set that it moves in."""

    kind: str
    name: str
    constraint: Any
    source: str


class _Image(NamedTuple):
    """What an expression of one source can be: every number between two bounds."""

    source: Source
    low: float
    high: float


def constrained(site: Site) -> list[Argument]:
    """The arguments of a site's distribution that not every number may be, as far as they are computed."""
    fn = site.fn
    while isinstance(fn, dist.Independent | dist.ExpandedDistribution):
        fn = fn.base_dist
    return [
        Argument(site, name, constraint, vars(fn)[name])
        for name, constraint in fn.arg_constraints.items()
        if isinstance(constraint, dist.constraints.Constraint) and isinstance(vars(fn).get(name), Tracer)
    ]


def check_ranges(arguments: Iterable[tuple[Argument, Node]], sources: Mapping[Node, Source]) -> None:
    """Refuse a parameter or a latent that moves an argument out of its range.

    Args:
        arguments: arguments, each with its node in the traced program.
        sources: what moves, by its node.

    Raises:
        TautError: ``argument-range``.
    """
    for argument, node in arguments:
        image = None if "argument-range" in argument.site.allow else _image(node, sources)
        if image is not None and not _fits(image, argument.constraint):
            raise _refusal(argument, image)


def _image(node: Node, sources: Mapping[Node, Source]) -> _Image | None:
    """The image of a value, if one source alone moves it and every function on the way is known."""
    if node in sources:
        bounds = _bounds(sources[node].constraint)
        return None if bounds is None else _Image(sources[node], *bounds)
    name, operands = node.primitive, node.sources
    if name in MOVES and len(operands) == 1:
        return _image(operands[0], sources)
    if name in _RISING:
        return _mapped(_image(operands[0], sources), _RISING[name])
    if len(operands) != 2:
        return None
    for at, other in ((0, 1), (1, 0)):
        number, rule = operands[other].literal, _WITH_NUMBER.get((name, at == 0))
        if number is not None and rule is not None:
            return _mapped(_image(operands[at], sources), lambda x, rule=rule, c=number: rule(x, c))
    return None


def _mapped(image: _Image | None, fn: Callable[[float], float]) -> _Image | None:
    if image is None:
        return None
    with np.errstate(all="ignore"):
        ends = float(fn(np.float64(image.low))), float(fn(np.float64(image.high)))
    # NaN: an infinite bound times 0, or a function outside of its domain.
    return None if np.isnan(ends).any() else _Image(image.source, min(ends), max(ends))


def _fits(image: _Image, constraint: Any) -> bool:
    bounds = _bounds(constraint)
    if bounds is not None:
        return bounds[0] <= image.low and image.high <= bounds[1]
    # Of sets that are no intervals the whole line is surely too much, unless they are known only during the fit.
    unknown = isinstance(_base(constraint), type(dist.constraints.dependent))
    return unknown or (image.low, image.high) != _REAL


def _bounds(constraint: Any) -> tuple[float, float] | None:
    """The ends of an interval that are known before the fit; ``None`` for other sets."""
    base = _base(constraint)
    if isinstance(base, type(dist.constraints.real)):
        return _REAL
    low: Any = getattr(base, "lower_bound", None)
    high: Any = getattr(base, "upper_bound", None)
    known = [b for b in (low, high) if b is not None]
    if not known or any(isinstance(b, Tracer) or np.size(b) > 1 for b in known):
        return None
    return -np.inf if low is None else float(np.asarray(low)), np.inf if high is None else float(np.asarray(high))


def _base(constraint: Any) -> Any:
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    return constraint


def _refusal(argument: Argument, image: _Image) -> TautError:
    family, word = type(dist.unwrapped(argument.site.fn)).__name__, dist.describe(argument.constraint)
    kind, name, constraint, source = image.source
    direct = (image.low, image.high) == _bounds(constraint)
    found = f"{family}.{argument.name} is {kind} {name!r} ({source}), which is {dist.describe(constraint)}"
    if not direct:
        found = f"{family}.{argument.name} is computed from {kind} {name!r} ({source}), and anything from "
        found += f"{image.low:g} to {image.high:g}"
    return TautError(
        "argument-range",
        site=argument.site.name,
        source=argument.site.source,
        found=found,
        expected=f"{word} values",
        remedy=_remedy(kind, name, argument.name, word, direct),
    )


def _remedy(kind: str, name: str, argument: str, word: str, direct: bool) -> str:
    plain = word.isidentifier()
    if kind == "param" and direct and plain:
        return f'taut.param("{name}", ..., constraint=dist.constraints.{word})'
    if argument == "probs":
        return f"logits={name} in place of probs={name}"
    if kind == "latent" and direct and word == "positive":
        return f'taut.sample("{name}", dist.LogNormal(m, s))'
    return f"jnp.exp({name})" if word in ("positive", "nonnegative") else f"dist.biject_to(constraint)({name})"
