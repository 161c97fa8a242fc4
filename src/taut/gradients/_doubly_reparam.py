"""The doubly reparameterised gradient, whose signal does not drown as particles are added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction, only_gradient


@dataclass(frozen=True)
class DoublyReparam(GradientEstimator):
    r"""Turn the score part of the reparameterisation gradient into a second path derivative.

    For an estimate $r(\ell_1, \dots, \ell_K)$ of log-weights $\ell_k = \log w_k$, with $\log q$ held at its
    parameters,

    $$\hat\nabla_\phi = \sum_k \Big(\frac{\partial r}{\partial \ell_k}
      - \frac{\partial^2 r}{\partial \ell_k^2}\Big)
      \frac{\partial \ell_k}{\partial z_k} \frac{\partial z_k}{\partial \phi}$$

    The coefficient is $\tilde w_k^2$ for the `IWAE`, $\alpha v_k + (1 - \alpha) v_k^2$ for `Renyi`, $1/K$ (sticking
    the landing) for the `ELBO`, and follows by itself for `TVO`, `JVI` and f-divergences. For objectives with a
    gradient of their own, $\sum_k c_k \nabla\log q(z_k)$, it is $\partial c_k / \partial \ell_k$. Each is unbiased
    where the score form is, without noise when q is the posterior, and its signal-to-noise rises with $\sqrt K$ where
    that of `Pathwise` falls. The model's parameters get the ordinary gradient. Row by row where the objective is.

    Source: Tucker, Lawson, Gu, Maddison (2019), Doubly reparameterized gradient estimators for Monte Carlo objectives.

    Example:
        >>> taut.gradients.DoublyReparam().valid_for(taut.objectives.IWAE(particles=64))
    """

    pathwise: ClassVar[bool] = True

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        held_guide, held_model = jax.lax.stop_gradient((guide, model))
        path = log_weights(guide, held_guide, held_model)
        fixed = jax.lax.stop_gradient(path)
        total = jax.lax.stop_gradient(objective.estimate(fixed)) + only_gradient(
            jnp.sum(path_weights(objective, fixed) * path)
        )
        if any(jnp.size(leaf) for leaf in jax.tree.leaves(model)):
            ordinary = log_weights(held_guide, held_guide, model)
            total += only_gradient(jnp.sum(slopes(objective, fixed) * ordinary))
        return total


def slopes(objective: Reduction, log_weights: Any) -> Any:
    r"""$\partial r / \partial \ell_k$, of the shape of the log-weights."""
    return jax.grad(lambda x: jnp.sum(objective.estimate(x)))(log_weights)


def path_weights(objective: Reduction, log_weights: Any) -> Any:
    r"""$\partial r / \partial \ell_k - \partial^2 r / \partial \ell_k^2$, or $\partial c_k / \partial \ell_k$."""
    if objective.own_gradient:
        return own_diagonal(objective, log_weights)
    first = slopes(objective, log_weights)
    return first - _diagonal(objective, lambda x: slopes(objective, x), log_weights)


def scores(objective: Reduction, log_weights: Any) -> Any:
    """The objective's own weights of the scores, of the shape of the log-weights."""
    found = jax.vmap(objective.score_weights)(objective.groups(log_weights)) / objective.averaged_over
    return jnp.reshape(found, jnp.shape(log_weights))


def own_diagonal(objective: Reduction, log_weights: Any) -> Any:
    r"""$\partial c_k / \partial \ell_k$."""
    return _diagonal(objective, lambda x: scores(objective, x), log_weights)


def _diagonal(objective: Reduction, fn: Any, x: Any) -> Any:
    """The diagonal of a Jacobian: of every group and every row at once, since these do not know of one another."""
    place = jnp.arange(x.shape[0]) % objective.particles
    shape = (-1,) + (1,) * (x.ndim - 1)

    def along(k: Any) -> Any:
        only = jnp.broadcast_to(jnp.reshape(place == k, shape), x.shape).astype(x.dtype)
        return only * jax.jvp(fn, (x,), (only,))[1]

    return jnp.sum(jax.vmap(along)(jnp.arange(objective.particles)), axis=0)
