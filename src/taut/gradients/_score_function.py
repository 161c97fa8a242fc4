"""The score-function gradient, for draws that do not follow their parameters smoothly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from taut._errors import TautError
from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction


@dataclass(frozen=True)
class ScoreFunction(GradientEstimator):
    r"""Weigh the score of every draw by what the draw gained over the others; pathwise where draws are smooth.

    With $d$ the sites that do not follow their parameters (discrete ones, mixtures with learned weights) and
    $\hat{\mathcal L}$ the estimate from $K$ log-weights,

    $$\hat\nabla = \nabla_{\text{path}} \hat{\mathcal L}
      + \sum_k \big(\hat{\mathcal L} - \hat{\mathcal L}_{-k}\big) \nabla_\phi \log q_\phi(d_k)$$

    where $\hat{\mathcal L}_{-k}$ has $\log w_k$ replaced by the mean of the other log-weights, so that it does not
    depend on the $k$-th draw: leave-one-out for the `ELBO`, VIMCO for `IWAE`. Unbiased; without noise when $q$ is the
    posterior.

    Raises:
        TautError: ``bad-combination`` for one particle, which has no others.

    Source: Kool, van Hoof, Welling (2019), Buy 4 REINFORCE samples, get a baseline for free; Mnih, Rezende (2016),
    Variational inference for Monte Carlo objectives.

    Example:
        >>> taut.gradients.ScoreFunction().valid_for(taut.objectives.ELBO(particles=8))
    """

    pathwise: ClassVar[bool] = False

    def valid_for(self, objective: Reduction) -> None:
        """Objectives of two or more particles."""
        if objective.particles < 2:
            name = type(objective).__name__
            raise TautError(
                "bad-combination",
                found=f"ScoreFunction with {name}(particles={objective.particles})",
                expected="two or more particles: each draw's gain is measured against the others",
                remedy=f"objective=taut.objectives.{name}(particles=16)",
            )

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        density = jax.lax.stop_gradient(guide) if objective.averages else guide
        weights = log_weights(guide, density, model)
        fixed = jax.lax.stop_gradient(weights)
        others = (jnp.sum(fixed) - fixed) / (objective.particles - 1)
        without = jax.vmap(lambda k: objective.reduce(fixed.at[k].set(others[k])))(jnp.arange(objective.particles))
        gain = objective.reduce(fixed) - without
        score = log_weights.still(guide)
        return objective.reduce(weights) + jnp.sum(gain * (score - jax.lax.stop_gradient(score)))
