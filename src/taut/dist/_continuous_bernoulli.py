"""The continuous Bernoulli: a distribution of grey values between 0 and 1."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution, constraints

# Below this a quotient of small numbers is replaced by its series; the two agree there to 1e-9.
_SMALL = 0.05


class ContinuousBernoulli(Distribution):
    r"""The density $p(x) \propto \lambda^x (1 - \lambda)^{1 - x}$ on $(0, 1)$, $\lambda$ the sigmoid of ``logits``.

    With the constant that the cross-entropy of grey pixels lacks:
    $\log p(x) = (x - \tfrac12)\,l - \log\frac{\sinh(l / 2)}{l / 2}$ for a logit $l$.

    Args:
        logits: any real numbers.

    Source: Loaiza-Ganem, Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in variational
    autoencoders.

    Example:
        >>> round(float(dist.ContinuousBernoulli(logits=2.0).log_prob(0.5)), 4)  # -log sinh 1
        -0.1614
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012  # NumPyro's own form
    reparametrized_params = ["logits"]  # noqa: RUF012

    def __init__(self, logits: Any, *, validate_args: bool | None = None):
        self.logits = jnp.asarray(logits)
        super().__init__(batch_shape=jnp.shape(logits), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """Grey values, black and white included."""
        return constraints.unit_interval

    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        """See above; in nats."""
        half = jnp.abs(self.logits) / 2
        large = jnp.where(half < _SMALL, 1.0, half)
        # sinh(h) / h, for large h without overflow.
        log_sinhc = large + jnp.log1p(-jnp.exp(-2 * large)) - jnp.log(2 * large)
        series = half**2 / 6 - half**4 / 180 + half**6 / 2835
        return (value - 0.5) * self.logits - jnp.where(half < _SMALL, series, log_sinhc)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """By the inverse of the distribution function."""
        shape = sample_shape + self.batch_shape
        u = jax.random.uniform(key, shape, dtype=jnp.result_type(self.logits, np.float32))
        near = jnp.abs(self.logits) < _SMALL
        l = jnp.where(near, 1.0, self.logits)
        # For positive logits the mirror image is drawn, which does not overflow.
        x = jnp.log1p(u * jnp.expm1(-jnp.abs(l))) / -jnp.abs(l)
        x = jnp.where(l > 0, 1.0 - x, x)
        return jnp.where(near, u + self.logits * u * (u - 1) / -2, x)

    @property
    def mean(self) -> Any:
        r"""$\frac12 + \frac12 \coth(l / 2) - 1 / l$."""
        near = jnp.abs(self.logits) < _SMALL
        l = jnp.where(near, 1.0, self.logits)
        return jnp.where(near, 0.5 + self.logits / 12, 0.5 + 0.5 / jnp.tanh(l / 2) - 1 / l)
