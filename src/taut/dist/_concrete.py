"""The concrete distribution: a one-hot choice that has been softened, so that gradients pass through it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp
from numpyro import distributions as nd
from numpyro.distributions import constraints


class RelaxedOneHotCategorical(nd.Distribution):
    r"""$z = \operatorname{softmax}((\log\pi + G) / T)$ with $G$ independent Gumbel noise; one-hot as $T \to 0$.

    $$p(z) = \Gamma(K)\, T^{K-1} \prod_k \pi_k z_k^{-T-1} \Big(\sum_j \pi_j z_j^{-T}\Big)^{-K}$$

    Args:
        temperature: $T > 0$.
        logits: $\log \pi$ up to a constant, ``float[..., K]``.

    Source: Maddison, Mnih, Teh (2017), The concrete distribution; Jang, Gu, Poole (2017), Categorical
    reparameterization with Gumbel-softmax.
    """

    arg_constraints = {"temperature": constraints.positive, "logits": constraints.real_vector}  # noqa: RUF012
    reparametrized_params = ["temperature", "logits"]  # noqa: RUF012

    @property
    def support(self) -> Any:
        """The simplex."""
        return constraints.simplex

    def __init__(self, temperature: Any, logits: Any, *, validate_args: bool | None = None):
        self.temperature, self.logits = jnp.asarray(temperature), jnp.asarray(logits)
        batch = jax.lax.broadcast_shapes(self.temperature.shape, self.logits.shape[:-1])
        self.logits = jnp.broadcast_to(self.logits, (*batch, self.logits.shape[-1]))
        super().__init__(batch, self.logits.shape[-1:], validate_args=validate_args)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """A softened choice; it follows its arguments."""
        noise = jax.random.gumbel(key, (*sample_shape, *self.batch_shape, *self.event_shape), self.logits.dtype)
        soft = jax.nn.softmax((self.logits + noise) / self.temperature[..., None], axis=-1)
        # Inside of the simplex, where the density is finite.
        tiny = jnp.finfo(soft.dtype).tiny
        return jnp.clip(soft, tiny, 1.0)

    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        """The log density on the simplex."""
        count, t = self.event_shape[0], self.temperature
        log_z = jnp.log(value)
        logits = self.logits - logsumexp(self.logits, axis=-1, keepdims=True)
        score = logits - t[..., None] * log_z
        constant = gammaln(jnp.asarray(float(count))) + (count - 1) * jnp.log(t)
        return constant + jnp.sum(score - log_z, axis=-1) - count * logsumexp(score, axis=-1)
