r"""Draws of a von Mises distribution that follow its concentration: $\partial x / \partial\kappa = -F_\kappa / p$.

With the angle measured from the mean, $p(t) = e^{\kappa \cos t} / 2\pi I_0(\kappa)$ and

$$F_\kappa(x) = \int_{-\pi}^{x} \big(\cos t - I_1(\kappa) / I_0(\kappa)\big)\, p(t)\, dt,$$

an integral that vanishes over the whole circle, so that it may be taken from the nearer end.

Source: Figurnov, Mohamed, Mnih (2018), Implicit reparameterization gradients.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, i1e

from taut import dist

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_SPAN = 12.0  # sds of a concentrated one beyond which nothing is left


def von_mises_draw(key: Any, loc: Any, concentration: Any) -> Any:
    """A draw in $[-\\pi, \\pi)$, differentiable in both arguments; elementwise.

    Args:
        key: JAX key.
        loc: mean angle.
        concentration: $\\kappa$, of the same shape.
    """
    kappa = jax.lax.stop_gradient(concentration)
    angle = jax.lax.stop_gradient(dist.VonMises(jnp.zeros_like(kappa), kappa).sample(key))
    x = loc + angle + _slope(angle, kappa) * (concentration - kappa)
    return (x + jnp.pi) % (2 * jnp.pi) - jnp.pi


def _slope(angle: Any, kappa: Any) -> Any:
    """The movement of the quantile at ``angle`` with the concentration; odd in the angle."""
    distance = jnp.abs(angle)
    end = jnp.minimum(jnp.pi, jnp.maximum(_SPAN / jnp.sqrt(kappa), distance))
    half = 0.5 * (end - distance)
    t = (distance + half)[..., None] + half[..., None] * jnp.asarray(_NODES, angle.dtype)
    k = kappa[..., None]
    # Of the density only the ratio to that at the angle matters: no normalisation, no overflow.
    ratio = jnp.exp(k * (jnp.cos(t) - jnp.cos(distance)[..., None]))
    rest = half * jnp.sum(jnp.asarray(_WEIGHTS, angle.dtype) * (jnp.cos(t) - i1e(k) / i0e(k)) * ratio, axis=-1)
    return jnp.sign(angle) * rest
