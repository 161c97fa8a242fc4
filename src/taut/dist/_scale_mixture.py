"""The scale mixture of two Gaussians: a prior of weights that are mostly tiny, and sometimes not."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, constraints

_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


class ScaleMixture(Distribution):
    r"""The density $p(w) = \pi\,\mathcal N(w; 0, \sigma_1^2) + (1 - \pi)\,\mathcal N(w; 0, \sigma_2^2)$.

    Its logarithm is taken as $\operatorname{logaddexp}$ of the two parts, so that neither underflows: far out the wide
    part alone is left, with its finite slope $-w / \sigma_1^2$.

    Args:
        pi: the share of the first part, between 0 and 1.
        sigma1, sigma2: standard deviations of the parts; the wide one first by custom.

    Source: Blundell, Cornebise, Kavukcuoglu, Wierstra (2015), Weight uncertainty in neural networks, section 3.3.

    Example:
        >>> prior = dist.ScaleMixture(0.5, 1.0, float(np.exp(-6)))
        >>> round(float(prior.log_prob(20.0)), 3)
        -201.612
    """

    arg_constraints = {  # noqa: RUF012  # NumPyro's own form
        "pi": constraints.unit_interval,
        "sigma1": constraints.positive,
        "sigma2": constraints.positive,
    }

    def __init__(self, pi: Any, sigma1: Any, sigma2: Any, *, validate_args: bool | None = None):
        self.pi, self.sigma1, self.sigma2 = pi, sigma1, sigma2
        shape = jnp.broadcast_shapes(jnp.shape(pi), jnp.shape(sigma1), jnp.shape(sigma2))
        super().__init__(batch_shape=shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The real line."""
        return constraints.real

    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        """See above; in nats."""
        first = jnp.log(self.pi) + _normal(value, self.sigma1)
        second = jnp.log1p(-jnp.asarray(self.pi)) + _normal(value, self.sigma2)
        return jnp.logaddexp(first, second)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Choose a part, then draw from it."""
        which, noise = jax.random.split(key)
        shape = sample_shape + self.batch_shape
        epsilon = jax.random.normal(noise, shape)
        return epsilon * jnp.where(jax.random.bernoulli(which, self.pi, shape), self.sigma1, self.sigma2)

    @property
    def mean(self) -> Any:
        """Zero."""
        return jnp.zeros(self.batch_shape)

    @property
    def variance(self) -> Any:
        r"""$\pi \sigma_1^2 + (1 - \pi) \sigma_2^2$."""
        found = self.pi * self.sigma1**2 + (1 - self.pi) * self.sigma2**2
        return jnp.broadcast_to(found, self.batch_shape)


def _normal(value: Any, sigma: Any) -> Any:
    return -0.5 * (value / sigma) ** 2 - jnp.log(sigma) - _LOG_ROOT_2PI
