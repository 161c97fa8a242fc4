"""The usual network of an autoencoder: dense layers, and two heads where a normal distribution comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from taut._keys import generator


class Dense(eqx.Module):
    r"""Dense layers of one row, $h_l = a(h_{l-1} W_l + b_l)$, the last one linear.

    Weights are drawn as Glorot and Bengio say, uniform on $\pm\sqrt{6 / (n_\text{in} + n_\text{out})}$; biases are
    zero.

    Args:
        inputs: numbers of a row, which may have any shape.
        hidden: widths of the hidden layers.
        outputs: numbers that come out.
        normal: whether they are locations and log scales, ``outputs`` of each.
        activation: of the hidden layers.
        key: an integer or a JAX key.

    Source: Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward neural networks.

    Example:
        >>> loc, log_scale = taut.nn.Dense(4, (8,), 2, normal=True)(np.zeros((2, 2)))
        >>> loc.shape, log_scale.shape
        ((2,), (2,))
    """

    weights: list[Any]
    biases: list[Any]
    normal: bool = eqx.field(static=True)
    activation: Callable[[Any], Any] = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        normal: bool = False,
        activation: Callable[[Any], Any] = jnp.tanh,
        key: int | jax.Array = 0,
    ):
        rng = generator(key, 0)
        widths = [inputs, *hidden, 2 * outputs if normal else outputs]
        # Two heads are two layers side by side: each has the spread of its own width.
        fans = [a + b for a, b in zip(widths, [*widths[1:-1], outputs], strict=False)]
        self.weights = [
            (rng.uniform(-1.0, 1.0, (a, b)) * math.sqrt(6.0 / fan)).astype(np.float32)
            for a, b, fan in zip(widths, widths[1:], fans, strict=False)
        ]
        self.biases = [np.zeros(b, np.float32) for b in widths[1:]]
        self.normal = normal
        self.activation = activation

    def __call__(self, row: Any) -> Any:
        """The outputs of one row, ``float[outputs]``; with ``normal`` a pair of them."""
        h = jnp.ravel(row)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = self.activation(h @ weight + bias)
        h = h @ self.weights[-1] + self.biases[-1]
        half = h.shape[0] // 2
        return (h[:half], h[half:]) if self.normal else h
