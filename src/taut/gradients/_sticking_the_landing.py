"""The reparameterisation gradient without its score term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction


@dataclass(frozen=True)
class StickingTheLanding(GradientEstimator):
    r"""Differentiate through the draws alone: $\nabla_\phi \big[\log p(x, z) - \log q_{\phi'}(z)\big]_{\phi' = \phi}$.

    The dropped score $\nabla_\phi \log q_\phi(z)$ has mean zero, so the estimate stays unbiased for the ELBO; when
    $q$ is the posterior, every single estimate is exactly zero. It is biased for importance-weighted bounds.

    Raises:
        TautError: ``bad-combination`` for objectives that are not a mean of log-weights, unless of one particle.

    Source: Roeder, Wu, Duvenaud (2017), Sticking the landing; Tucker, Lawson, Gu, Maddison (2019) for the bias.
    """

    pathwise: ClassVar[bool] = True

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        return objective.estimate(log_weights(guide, jax.lax.stop_gradient(guide), model))
