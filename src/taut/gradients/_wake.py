"""Weighted scores: the gradient of objectives that say themselves how much each draw counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from taut.gradients._doubly_reparam import scores, slopes
from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction, only_gradient


@dataclass(frozen=True)
class Wake(GradientEstimator):
    r"""$\hat\nabla_\phi = \sum_k c_k \nabla_\phi \log q_\phi(z_k)$ with the objective's own weights $c_k$.

    Wake-phi for `ForwardKL` and `RWS` ($\tilde w_k$), and the gradients of `CUBO` and `UpperTVO`. Draws are held, so
    any guide will do. The weights are normalised over the particles: consistent as these grow.

    Source: Bornschein, Bengio (2015), Reweighted wake-sleep.

    Example:
        >>> taut.gradients.Wake().valid_for(taut.objectives.RWS(particles=16))
    """

    pathwise: ClassVar[bool] = False

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        held_guide, held_model = jax.lax.stop_gradient((guide, model))
        # Draws and log p are held: what varies is -log q.
        weights = log_weights(held_guide, guide, held_model)
        fixed = jax.lax.stop_gradient(weights)
        total = jax.lax.stop_gradient(objective.estimate(fixed))
        total -= only_gradient(jnp.sum(scores(objective, fixed) * weights))
        if jnp.size(model):
            ordinary = log_weights(held_guide, held_guide, model)
            total += only_gradient(jnp.sum(slopes(objective, fixed) * ordinary))
        return total
