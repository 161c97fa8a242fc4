"""The doubly reparameterised gradient for learned priors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from taut.gradients._doubly_reparam import path_weights, slopes
from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction, only_gradient


@dataclass(frozen=True)
class GeneralizedDoublyReparam(GradientEstimator):
    r"""`DoublyReparam` for q, and for the model's parameters inside of its priors, too.

    Where a prior $p_\theta(z)$ has learned parameters, their gradient holds scores $\nabla_\theta\log p_\theta(z_k)$
    that are as noisy as those of q. With $z = T(\epsilon; \theta)$ the prior's own reparameterisation they become path
    derivatives:

    $$\mathbb E_q\big[g(z) \nabla_\theta \log p_\theta(z)\big] = \mathbb E_q\big[\big(\nabla_z g
      + g \nabla_z \log \tfrac{q(z)}{p_\theta(z)}\big) \nabla_\theta T\big]$$

    Priors of location-scale families (Normal, StudentT, Laplace, Cauchy, Logistic, Gumbel, multivariate normals with
    learned location) are converted; a learned prior of another family is refused when the run begins. Parameters that
    stand in the likelihood get the ordinary gradient.

    Source: Bauer, Mnih (2021), Generalized doubly reparameterized gradient estimators.

    Example:
        >>> taut.gradients.GeneralizedDoublyReparam().valid_for(taut.objectives.IWAE(particles=16))
    """

    pathwise: ClassVar[bool] = True

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        held_guide, held_model = jax.lax.stop_gradient((guide, model))
        path = log_weights(guide, held_guide, held_model)
        fixed = jax.lax.stop_gradient(path)
        second = path_weights(objective, fixed)
        total = jax.lax.stop_gradient(objective.estimate(fixed)) + only_gradient(jnp.sum(second * path))
        if jnp.size(model):
            rest, moved = log_weights.through_priors(held_guide, model)
            total += only_gradient(jnp.sum(slopes(objective, fixed) * rest) - jnp.sum(second * moved))
        return total
