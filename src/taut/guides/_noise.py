"""Noise of a layer's weights, drawn row by row: local reparametrisation, Flipout, and dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from taut.guides._products import RowNoise, Spread


@dataclass(frozen=True)
class LocalReparametrisation(RowNoise):
    r"""Draw the products in place of the weights: with $w_{kj} \sim \mathcal N(m_{kj}, s_{kj}^2)$, for every row $i$,

    $$a_{ij} = \sum_k x_{ik} w_{kj} \sim \mathcal N\Big(\sum_k x_{ik} m_{kj},\ \sum_k x_{ik}^2 s_{kj}^2\Big)$$

    independently over rows. The law of each row is that of drawing the weights; the covariance of two rows, which is
    $\sum_k x_{ik} x_{lk} s_{kj}^2$ when they share a draw, is 0, so that the noise of a batch falls with its size.

    Source: Kingma, Salimans, Welling (2015), Variational dropout and the local reparameterization trick.
    """

    def dot(self, multiply: Any, weight: Spread, x: Any, axis: int, key: jax.Array) -> Any:
        """See `RowNoise`."""
        return _normal(multiply(weight.mean, x), multiply(weight.sd**2, x**2), key)

    def add(self, other: Any, bias: Spread, key: jax.Array) -> Any:
        """See `RowNoise`."""
        mean = other + bias.mean
        return mean + bias.sd * jax.random.normal(key, mean.shape, mean.dtype)

    def dot_and_add(self, multiply: Any, weight: Spread, x: Any, axis: int, bias: Spread, key: jax.Array) -> Any:
        """See `RowNoise`: the variances of the sum's parts are added, and one number is drawn."""
        variance = multiply(weight.sd**2, x**2) + bias.sd**2
        return _normal(multiply(weight.mean, x) + bias.mean, variance, key)


@dataclass(frozen=True)
class Flipout(RowNoise):
    r"""One draw of the weights' noise, with signs of its own for every row,

    $$a_i = x_i m + \big((x_i \circ s_i) \Delta\big) \circ r_i$$

    where $s_i$ and $r_i$ are random signs and $\Delta_{kj} \sim \mathcal N(0, s_{kj}^2)$ is the same for all rows. Each
    row has the law of drawing the weights, for every symmetric noise, and two rows are uncorrelated. It takes twice the
    products.

    Source: Wen, Vicol, Ba, Tran, Grosse (2018), Flipout: efficient pseudo-independent weight perturbations on
    mini-batches.
    """

    def dot(self, multiply: Any, weight: Spread, x: Any, axis: int, key: jax.Array) -> Any:
        """See `RowNoise`."""
        into, out = jax.random.split(key)
        mean = multiply(weight.mean, x)
        noise = multiply(weight.drawn - weight.mean, x * jax.random.rademacher(into, x.shape, x.dtype))
        return mean + noise * jax.random.rademacher(out, mean.shape, mean.dtype)

    def add(self, other: Any, bias: Spread, key: jax.Array) -> Any:
        """See `RowNoise`."""
        mean = other + bias.mean
        return mean + (bias.drawn - bias.mean) * jax.random.rademacher(key, mean.shape, mean.dtype)


@dataclass(frozen=True)
class DropInputs(RowNoise):
    r"""Inputs of a layer left out at random, the others divided by what remains: $a_i = (x_i \circ b_i / (1 - p)) w$.

    Args:
        rate: $p$, the share that is left out.

    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov (2014), Dropout.
    """

    rate: float

    def dot(self, multiply: Any, weight: Spread, x: Any, axis: int, key: jax.Array) -> Any:
        """See `RowNoise`."""
        kept = jax.random.bernoulli(key, 1.0 - self.rate, x.shape)
        return multiply(weight.mean, jnp.where(kept, x / (1.0 - self.rate), 0.0))

    def add(self, other: Any, bias: Spread, key: jax.Array) -> Any:
        """See `RowNoise`: biases are not dropped."""
        return other + bias.mean


def _normal(mean: Any, variance: Any, key: jax.Array) -> Any:
    # A row of zeros has no noise, and its root no slope.
    some = variance > 0
    sd = jnp.where(some, jnp.sqrt(jnp.where(some, variance, 1.0)), 0.0)
    return mean + sd * jax.random.normal(key, mean.shape, mean.dtype)
