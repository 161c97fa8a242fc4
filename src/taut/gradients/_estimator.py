"""The contract of a gradient estimator: its value is the estimate, its gradient the estimated one."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Protocol

import jax

from taut.gradients._table import check_objective


class Reduction(Protocol):
    """What an estimator must know of an objective; see `taut.objectives.Objective`.

    Attributes:
        averages: the estimate is a plain mean of log-weights.
    """

    averages: ClassVar[bool]

    @property
    def particles(self) -> int:
        """Log-weights per estimate."""
        ...

    @property
    def averaged_over(self) -> int:
        """Estimates per step."""
        ...

    @property
    def own_gradient(self) -> bool:
        """Whether scores are weighed by `score_weights`."""
        ...

    def reduce(self, log_weights: Any) -> Any:
        """The estimate of one group of particles."""
        ...

    def reduce_each(self, log_weights: Any) -> Any:
        """The same, before rows are summed."""
        ...

    def estimate(self, log_weights: Any) -> Any:
        """The mean of the estimates of all groups."""
        ...

    def groups(self, log_weights: Any) -> Any:
        """Log-weights by group."""
        ...

    def score_weights(self, log_weights: Any) -> Any:
        """Weights of the scores of one group."""
        ...


class LogWeights(Protocol):
    """Log-weights of fresh draws, at given parameters in each of their three roles."""

    def __call__(self, draw: Any, density: Any, model: Any) -> Any:
        r"""$\log p_\theta(x, z_k) - \log q_{\phi'}(z_k)$ with $z_k \sim q_\phi$; ``float[draws, *plates]``.

        Args:
            draw: the guide's parameters $\phi$, through which the draws depend on them.
            density: the guide's parameters $\phi'$ inside $\log q$; the same object as ``draw`` costs least.
            model: the model's own parameters $\theta$.
        """
        ...

    def still(self, draw: Any) -> Any:
        r"""$\log q_\phi$ of the same draws at the sites that do not follow $\phi$ smoothly; ``float[draws]``."""
        ...

    def quadratic(self, draw: Any, model: Any) -> Any:
        r"""For Gaussian guides: a quadratic model of $\log p$ at the draws less its mean under q, ``float[draws]``."""
        ...

    def through_priors(self, draw: Any, model: Any) -> tuple[Any, Any]:
        r"""For draws that follow the model's parameters through its priors: $\log p$ without these priors, and the
        log-weights with all other uses of the parameters held; each ``float[draws]``."""
        ...


class GradientEstimator(abc.ABC):
    r"""A way to estimate $\nabla \mathcal L(\phi, \theta)$ from draws.

    Estimators are frozen and hashable. An estimator decides through which of its three roles a parameter is
    differentiated; everything else is shared. What may be combined stands in one table,
    `taut.gradients.TABLE`; an estimator that is not in it says so itself, in `valid_for`.

    Laws, which `taut.testing.check_gradient` checks: the mean of many estimates is the gradient of the expected
    objective (or tends to it as particles grow, for objectives with a gradient of their own); the surrogate's value
    is the objective's estimate.

    Attributes:
        pathwise: it differentiates through the draws, so that every site of the guide must be reparameterised.
    """

    pathwise: ClassVar[bool]

    def valid_for(self, objective: Reduction) -> None:
        """Refuse an objective whose gradient this estimator would get wrong.

        Raises:
            TautError: ``bad-combination``.
        """
        check_objective(type(self).__name__, objective)

    @abc.abstractmethod
    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """A scalar: its value is the objective's estimate, its gradient in ``guide`` and ``model`` is the estimator."""


def only_gradient(value: Any) -> Any:
    """Zero, with the gradient of ``value``."""
    return value - jax.lax.stop_gradient(value)
