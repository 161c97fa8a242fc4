"""The reparameterisation gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction


@dataclass(frozen=True)
class Pathwise(GradientEstimator):
    r"""Differentiate through the draws $z = g(\epsilon; \phi)$: $\nabla_\phi \big[\log p(x, z) - \log q_\phi(z)\big]$.

    Unbiased for every smooth reduction of log-weights. Its noise does not vanish when $q$ is the posterior: for a
    Gaussian of precision $P$ the location part keeps variance $\operatorname{diag} P$.

    Raises:
        TautError: ``bad-combination`` for objectives with a gradient of their own.

    Source: Kingma, Welling (2014), Auto-encoding variational Bayes; Rezende, Mohamed, Wierstra (2014).
    """

    pathwise: ClassVar[bool] = True

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        return objective.estimate(log_weights(guide, guide, model))
