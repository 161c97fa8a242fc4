"""Layers as plain functions of a mean-field posterior, for those who write their own loops."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from taut._errors import TautError
from taut.guides import Flipout, LocalReparametrisation, Spread


def local_linear(key: jax.Array, x: Any, loc: Any, scale: Any, bias_loc: Any = 0.0, bias_scale: Any = 0.0) -> Any:
    r"""Pre-activations of a linear layer by local reparametrisation, $a_i \sim \mathcal N(m x_i + b, s^2 x_i^2 + c^2)$.

    Independent over rows and units; each row has the law of drawing the weights. In a model none of this is needed:
    the guide `MeanFieldNet` finds the layers and does it.

    Args:
        key: JAX key.
        x: rows, ``float[n, inputs]``.
        loc, scale: $m$ and $s > 0$ of the weights, ``float[outputs, inputs]``.
        bias_loc, bias_scale: $b$ and $c$ of the biases, ``float[outputs]``.

    Returns:
        ``float[n, outputs]``.

    Source: Kingma, Salimans, Welling (2015), Variational dropout and the local reparameterization trick.

    Example:
        >>> a = taut.nn.local_linear(jax.random.key(0), jnp.ones((2, 3)), jnp.ones((1, 3)), jnp.zeros((1, 3)))
        >>> a.tolist()
        [[3.0], [3.0]]
    """
    return _linear(LocalReparametrisation(), key, x, loc, scale, bias_loc, bias_scale)


def flipout_linear(key: jax.Array, x: Any, loc: Any, scale: Any, bias_loc: Any = 0.0, bias_scale: Any = 0.0) -> Any:
    r"""Pre-activations of a linear layer by Flipout: one draw of the weights' noise, with signs of its own per row.

    Args:
        key, x, loc, scale, bias_loc, bias_scale: as for `local_linear`.

    Returns:
        ``float[n, outputs]``.

    Source: Wen, Vicol, Ba, Tran, Grosse (2018), Flipout.
    """
    return _linear(Flipout(), key, x, loc, scale, bias_loc, bias_scale)


def _linear(noise: Any, key: jax.Array, x: Any, loc: Any, scale: Any, bias_loc: Any, bias_scale: Any) -> Any:
    x, loc, scale = (jnp.asarray(v) for v in (x, loc, scale))
    if x.ndim != 2 or loc.ndim != 2 or loc.shape != scale.shape or x.shape[1] != loc.shape[1]:
        raise TautError(
            "bad-argument",
            site="x",
            found=f"rows of shape {x.shape}, weights of shapes {loc.shape} and {scale.shape}",
            expected="(n, inputs), and (outputs, inputs) twice",
            remedy="taut.nn.local_linear(key, x, loc, scale) with loc.shape == (outputs, inputs)",
        )
    draws, rows, shared = jax.random.split(key, 3)
    drawn = loc + scale * jax.random.normal(draws, loc.shape, loc.dtype)
    mean, sd = (jnp.broadcast_to(jnp.asarray(v, loc.dtype), loc.shape[:1]) for v in (bias_loc, bias_scale))
    bias = Spread(mean, sd, mean + sd * jax.random.normal(shared, mean.shape, loc.dtype))
    return noise.dot_and_add(lambda w, z: z @ w.T, Spread(loc, scale, drawn), x, 0, bias, rows)
