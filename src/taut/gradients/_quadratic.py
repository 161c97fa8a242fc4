"""A control variate for Gaussian guides: the gradient of a quadratic model, whose mean is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction, only_gradient


@dataclass(frozen=True)
class QuadraticControl(GradientEstimator):
    r"""`Pathwise` less the gradient of a quadratic model of $\log p$, plus that gradient's exact mean.

    With $\tilde f$ the second-order Taylor polynomial of $\log p(x, \cdot)$ at the guide's mean,

    $$\hat\nabla = \nabla_\phi \frac1K \sum_k \big[\log p(x, z_k) - \log q_\phi(z_k) - \tilde f(z_k)\big]
      + \nabla_\phi \mathbb E_q[\tilde f]$$

    where the last term is in closed form. Unbiased whatever the model; without any noise where it is quadratic.
    One Hessian per step is shared by all draws: it costs as many gradients as there are latents, so it pays for tens
    of latents.

    Source: Miller, Foti, D'Amour, Adams (2017), Reducing reparameterization gradient variance; Geffner, Domke (2020),
    Approximation based variance reduction for reparameterization gradients.

    Example:
        >>> taut.gradients.QuadraticControl().valid_for(taut.objectives.ELBO())
    """

    pathwise: ClassVar[bool] = True

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        plain = objective.estimate(log_weights(guide, guide, model))
        return plain - only_gradient(jnp.mean(log_weights.quadratic(guide, model)))
