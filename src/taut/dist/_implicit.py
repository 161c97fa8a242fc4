r"""Draws from mixtures that follow the mixture's arguments: $\partial u / \partial\phi = -F_\phi(u) / p(u)$.

A mixture is drawn by picking a component, which no gradient can follow. Its value can: as the arguments move, the value
that stays at its place in the distribution, $F(u; \phi) = $ const, moves smoothly, weights included.

Source: Figurnov, Mohamed, Mnih (2018), Implicit reparameterization gradients; Graves (2016), Stochastic backpropagation
through mixture density distributions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from numpyro import distributions as nd

from taut.dist._latent import unwrapped

# Families whose distribution function is differentiable in all of its arguments.
_SMOOTH = (
    nd.Normal,
    nd.Cauchy,
    nd.Laplace,
    nd.Logistic,
    nd.Gumbel,
    nd.LogNormal,
    nd.Exponential,
    nd.HalfNormal,
    nd.HalfCauchy,
)


def is_smooth(fn: nd.Distribution) -> bool:
    """Whether draws of ``fn`` can be made to follow its arguments, by themselves or by `follow`."""
    return fn.has_rsample or _is_smooth_mixture(fn)


def follow(fn: nd.Distribution, value: Any) -> Any:
    """A draw with the gradient that it has where its place in the distribution stays; cut off for other families."""
    value = jax.lax.stop_gradient(value)
    if not _is_smooth_mixture(fn):
        return value
    base: Any = unwrapped(fn)
    place = base.cdf(value)
    density = jnp.exp(jax.lax.stop_gradient(base.log_prob(value)))
    # Where nothing is left of the density nothing is left of the slope either.
    known = density > jnp.finfo(density.dtype).tiny
    slope = jnp.where(known, (place - jax.lax.stop_gradient(place)) / jnp.where(known, density, 1.0), 0.0)
    return value - slope


def _is_smooth_mixture(fn: nd.Distribution) -> bool:
    base: Any = unwrapped(fn)
    if isinstance(base, nd.MixtureGeneral):
        parts = base.component_distributions
    elif isinstance(base, nd.MixtureSameFamily):
        parts = [base.component_distribution]
    else:
        return False
    return base.event_dim == 0 and all(type(unwrapped(part)) in _SMOOTH for part in parts)
