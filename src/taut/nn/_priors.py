"""Priors of a network's weights, leaf by leaf."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taut import dist
from taut._errors import TautError


@dataclass(frozen=True)
class FanIn:
    r"""Normal weights scaled by how many inputs a unit has, $w \sim \mathcal N(0, g^2 / n_\text{in})$.

    Each layer then passes on the scale of its inputs, whatever its width. The inputs of a leaf ``(out, in, ...)`` are
    the product of all of its dimensions but the first; biases, and leaves of fewer than two dimensions, have none, and
    get ``bias`` as standard deviation.

    Args:
        gain: $g$; $\sqrt 2$ keeps the scale through rectifiers.
        bias: standard deviation of biases.

    Source: Neal (1996), Bayesian learning for neural networks, chapter 2; He et al. (2015) for the gain.

    Example:
        >>> taut.nn.FanIn(gain=2.0)("layers[0].weight", (3, 100)).scale
        0.2
    """

    gain: float = 1.0
    bias: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "gain", "bias")

    def __call__(self, path: str, shape: tuple[int, ...]) -> Any:
        """The prior of a leaf."""
        if len(shape) < 2 or re.search(r"bias\W*$", path):
            return dist.Normal(0.0, self.bias)
        return dist.Normal(0.0, self.gain / math.sqrt(math.prod(shape[1:])))


@dataclass(frozen=True)
class Horseshoe:
    r"""Weights that are shrunk to nothing or left alone, $w_j = \tau \lambda_j z_j$, each $\lambda_j$ half-Cauchy.

    $$z_j \sim \mathcal N(0, 1), \quad \lambda_j \sim \mathcal C^+(1), \quad \tau \sim \mathcal C^+(s)$$

    Written non-centred, with one $\tau$ per leaf: the sites ``leaf/z``, ``leaf/local`` and ``leaf/global`` are latents,
    and the weights themselves a deterministic site. With a slab $c$, $\lambda_j$ is replaced by
    $c \lambda_j / \sqrt{c^2 + \tau^2 \lambda_j^2}$, so that large weights are normal with standard deviation $c$.

    Args:
        scale: $s$, the scale of $\tau$: small where few weights are expected to matter.
        slab: $c$; none by default.

    Source: Carvalho, Polson, Scott (2010), The horseshoe estimator for sparse signals; Piironen, Vehtari (2017),
    Sparsity information and regularization in the horseshoe, for the slab; Ghosh, Yao, Doshi-Velez (2018), Structured
    variational learning of Bayesian neural networks with horseshoe priors.
    """

    scale: float = 1.0
    slab: float | None = None

    def __post_init__(self) -> None:
        positive(self, "scale", *(() if self.slab is None else ("slab",)))


@dataclass(frozen=True)
class Frozen:
    """Leaves that stay as they are in the module: neither drawn nor learned."""


# What a leaf may be given: a distribution, a function of its path and shape, one of the objects above, or None.
Prior = Any
_REMEDY = "prior=taut.dist.Normal(0.0, 1.0), or taut.nn.FanIn()"


def prior_of(prior: Prior, path: str, shape: tuple[int, ...]) -> Any:
    """The prior of one leaf: a distribution, `Horseshoe`, `Frozen`, or ``None``.

    Args:
        prior: what `bayesian` was given.
        path: the leaf's place in the module, such as ``"layers[0].weight"``.
        shape: its shape.

    Raises:
        TautError: ``bad-argument``.
    """
    if isinstance(prior, Mapping):
        return prior_of(_matching(prior, path), path, shape)
    if dist.is_distribution(prior) or prior is None or isinstance(prior, Horseshoe | Frozen):
        return prior
    if isinstance(prior, type) or not callable(prior):
        shown = prior.__name__ if isinstance(prior, type) else repr(prior)
        raise TautError(
            "bad-argument",
            site=path,
            found=f"prior={shown}",
            expected="a distribution, a function (path, shape) -> distribution, a mapping by name pattern, or None",
            remedy=f"prior=taut.nn.{shown}()" if isinstance(prior, type) and shown in _OBJECTS else _REMEDY,
        )
    found = prior(path, shape)
    if callable(found) and not dist.is_distribution(found):
        raise TautError(
            "bad-argument",
            site=path,
            found=f"prior({path!r}, {shape}) = {found!r}",
            expected="a distribution",
            remedy="prior=lambda path, shape: taut.dist.Normal(0.0, 1.0)",
        )
    return prior_of(found, path, shape)


def check_patterns(prior: Prior, paths: list[str]) -> None:
    """Refuse a pattern of a mapping that no leaf answers to: most likely it is misspelt.

    Raises:
        TautError: ``site-missing``.
    """
    for pattern in prior if isinstance(prior, Mapping) else ():
        if not any(_pattern(pattern).fullmatch(path) for path in paths):
            close = difflib.get_close_matches(pattern, paths, 1, 0.4)
            raise TautError(
                "site-missing",
                site=pattern,
                found=f"the pattern {pattern!r}, which no leaf has for a name",
                expected=f"patterns of {', '.join(paths) or 'nothing: the module has no arrays'}",
                remedy=f"did you mean {close[0]!r}?" if close else '"*" stands for every leaf',
            )


def positive(settings: Any, *names: str) -> None:
    """Refuse settings that are not positive, finite numbers.

    Raises:
        TautError: ``bad-argument``.
    """
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            title = type(settings).__name__
            raise TautError(
                "bad-argument",
                site=name,
                found=f"{title}({name}={value!r})",
                expected="a positive number",
                remedy=f"taut.nn.{title}({name}=1.0)",
            )


def _matching(prior: Mapping[str, Prior], path: str) -> Prior:
    for pattern, entry in prior.items():
        if _pattern(pattern).fullmatch(path):
            return entry
    raise TautError(
        "bad-argument",
        site=path,
        found=f"priors for {', '.join(map(repr, prior)) or 'nothing'}",
        expected=f"a pattern that {path!r} answers to: a leaf without a word would be left out in silence",
        remedy='"*": taut.nn.FanIn() as last entry; None learns a leaf as a point, taut.nn.Frozen() leaves it as it is',
    )


def _pattern(pattern: str) -> re.Pattern[str]:
    """A name with ``*`` for any characters and ``?`` for one; brackets are themselves."""
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."))


_OBJECTS: dict[str, Callable[..., Any]] = {"FanIn": FanIn, "Horseshoe": Horseshoe, "Frozen": Frozen}
