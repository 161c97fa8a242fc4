r"""Draws from mixtures that follow their components: $\partial u / \partial\phi = -F_\phi(u) / p(u)$.

A mixture is drawn by picking a component, which no gradient can follow. Its value can: as the components move, the one
that stays at its place in the distribution, $F(u; \phi) = $ const, moves smoothly, by a mean of the components' moves:

$$\frac{\partial u}{\partial\phi} = \sum_k \frac{w_k p_k(u)}{p(u)} \frac{\partial u_k}{\partial\phi}$$

So does it as the weights move, in theory; but then all of the move happens between the components, where hardly a draw
lies when these are apart: the gradient is unbiased, and a run does not see it. Weights take their score.

Source: Figurnov, Mohamed, Mnih (2018), Implicit reparameterization gradients; Graves (2016), Stochastic backpropagation
through mixture density distributions.
"""

from __future__ import annotations

import copy
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
    """Whether draws of ``fn`` can be made to follow its arguments, weights apart: by themselves or by `follow`."""
    return fn.has_rsample or _is_smooth_mixture(fn)


def mixture_weights(fn: nd.Distribution) -> Any:
    """The weights of a mixture, which its draws do not follow; ``None`` for other families."""
    base: Any = unwrapped(fn)
    return base.mixing_distribution.probs if _is_mixture(base) else None


def follow(fn: nd.Distribution, value: Any) -> Any:
    """A draw with the gradient that it has where its place in the distribution stays; cut off for other families.

    A mixture's draw follows its components, at given weights.
    """
    value = jax.lax.stop_gradient(value)
    if not _is_smooth_mixture(fn):
        return value
    base: Any = unwrapped(fn)
    place = jnp.sum(jax.lax.stop_gradient(mixture_weights(fn)) * base.component_cdf(value), axis=-1)
    density = jnp.exp(jax.lax.stop_gradient(base.log_prob(value)))
    # Where nothing is left of the density nothing is left of the slope either.
    known = density > jnp.finfo(density.dtype).tiny
    slope = jnp.where(known, (place - jax.lax.stop_gradient(place)) / jnp.where(known, density, 1.0), 0.0)
    return value - slope


def unfollowed(fn: nd.Distribution) -> nd.Distribution:
    """The distribution with those arguments held that its draws follow by `follow`: its score is that of the others."""
    if not _is_smooth_mixture(fn):
        return fn
    made = copy.copy(fn)
    if isinstance(made, nd.MixtureGeneral):
        made._component_distributions = jax.lax.stop_gradient(made._component_distributions)
    elif isinstance(made, nd.MixtureSameFamily):
        made._component_distribution = jax.lax.stop_gradient(made._component_distribution)
    else:
        inner: Any = made
        inner.base_dist = unfollowed(inner.base_dist)
    return made


def _is_mixture(base: Any) -> bool:
    return isinstance(base, nd.MixtureGeneral | nd.MixtureSameFamily)


def _is_smooth_mixture(fn: nd.Distribution) -> bool:
    base: Any = unwrapped(fn)
    if not _is_mixture(base):
        return False
    same = isinstance(base, nd.MixtureSameFamily)
    parts = [base.component_distribution] if same else base.component_distributions
    return base.event_dim == 0 and all(type(unwrapped(part)) in _SMOOTH for part in parts)
