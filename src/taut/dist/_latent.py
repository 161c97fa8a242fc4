"""Which distributions can be latents, and the map from the real line that each gets."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax.core import Tracer
from numpyro import distributions as nd
from numpyro.distributions import constraints, transforms

from taut.dist._support import describe, unconstrainer


class Refusal(NamedTuple):
    """Why a distribution cannot be a latent: the words of an error."""

    code: str
    found: str
    expected: str
    remedy: str


def unwrapped(fn: nd.Distribution) -> nd.Distribution:
    """The distribution inside of `expand`, `to_event` and `mask`."""
    while isinstance(fn, nd.Independent | nd.ExpandedDistribution | nd.MaskedDistribution):
        fn = fn.base_dist
    return fn


def unmasked(fn: nd.Distribution) -> tuple[nd.Distribution, Any]:
    """A distribution and the mask that ``fn.mask(...)`` laid on it; ``None`` if there is none."""
    if type(fn) is nd.MaskedDistribution:
        return fn.base_dist, fn._mask
    return fn, None


def latent_refusal(fn: nd.Distribution) -> Refusal | None:
    """Why ``fn`` has no density over a continuous coordinate; ``None`` if it has one."""
    base: Any = unwrapped(fn)
    name = type(base).__name__
    if base.is_discrete:
        return Refusal(
            "discrete-latent",
            f"{name}, whose values are discrete",
            "continuous latents, or the discrete one summed out",
            "for a mixture: dist.MixtureSameFamily(dist.Categorical(weights), components)",
        )
    if isinstance(base, _GATED):
        return Refusal(
            "discrete-latent",
            f"{name}, which puts a lump of probability on 0 and spreads the rest",
            "a density without lumps, or data: obs=y",
            "a latent that may be exactly 0 is a mixture: sum it out with taut.factor, or leave out the gate",
        )
    if isinstance(base, nd.Delta):
        return Refusal(
            "no-transform",
            "Delta, a single point",
            "a distribution with a density",
            'x = taut.deterministic("x", value)',
        )
    if isinstance(base, nd.Unit):
        return Refusal(
            "no-transform", "Unit, which has no values", "a distribution with a density", 'taut.factor("x", log_factor)'
        )
    if isinstance(base, nd.ProjectedNormal) and base.event_shape[0] not in (2, 3):
        return Refusal(
            "no-transform",
            f"ProjectedNormal in {base.event_shape[0]} dimensions, whose density has no closed form here",
            "two or three dimensions",
            'z = taut.sample("z", dist.Normal(concentration, 1.0).to_event(1)); x = z / jnp.linalg.norm(z)',
        )
    if type(base) in _CENSORED:
        inner = vars(base)["base_dist"]
        return Refusal(
            "no-transform",
            f"{name}, which describes how data were censored",
            "the distribution itself; censoring belongs to observed sites: obs=y",
            f"{type(inner).__name__}(...) for the latent",
        )
    return None


def unconstrainer_of(fn: nd.Distribution) -> tuple[transforms.Transform | None, str]:
    """The smooth map from the real line onto the values of ``fn``, ``None`` if there is none, and the support in words.

    A `TransformedDistribution` whose parts disagree on where values lie, such as a gamma variable shifted by an affine
    transform that takes its input to be real, is mapped through its parts.
    """
    base = unwrapped(fn)
    if type(base) is nd.TransformedDistribution and not _declares_its_support(base):
        inner = unconstrainer(base.base_dist.support)
        parts = [*(inner.parts if isinstance(inner, transforms.ComposeTransform) else [inner]), *base.transforms]
        support = f"an image of {describe(base.base_dist.support)}"
        return (None if inner is None else transforms.ComposeTransform(parts)), support
    return unconstrainer(fn.support), describe(fn.support)


def _declares_its_support(fn: nd.TransformedDistribution) -> bool:
    if describe(fn.base_dist.support) != describe(_widened(fn.transforms[0].domain, fn.base_dist.event_dim)):
        return False
    return not any(
        isinstance(t, transforms.AffineTransform) and t.domain is not constraints.real and isinstance(t.scale, Tracer)
        for t in fn.transforms
    )


def _widened(constraint: Any, event_dim: int) -> Any:
    return constraints.independent(constraint, max(0, event_dim - constraint.event_dim))


_GATED: tuple[type, ...] = (
    nd.HurdleGamma,
    nd.HurdleLogNormal,
    nd.HurdleProbs,
    nd.HurdleLogits,
    nd.ZeroInflatedProbs,
    nd.ZeroInflatedLogits,
)
_CENSORED: tuple[type, ...] = (
    nd.LeftCensoredDistribution,
    nd.RightCensoredDistribution,
    nd.IntervalCensoredDistribution,
)
