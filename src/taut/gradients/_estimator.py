"""The contract of a gradient estimator: its value is the estimate, its gradient the estimated one."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Protocol


class Reduction(Protocol):
    """What an estimator must know of an objective.

    Attributes:
        averages: the estimate is a plain mean of log-weights.
    """

    averages: ClassVar[bool]

    @property
    def particles(self) -> int:
        """Log-weights per estimate."""
        ...

    def reduce(self, log_weights: Any) -> Any:
        """The estimate."""
        ...


class LogWeights(Protocol):
    """Log-weights of fresh draws, at given parameters in each of their three roles."""

    def __call__(self, draw: Any, density: Any, model: Any) -> Any:
        r"""$\log p_\theta(x, z_k) - \log q_{\phi'}(z_k)$ with $z_k \sim q_\phi$; ``float[particles]``.

        Args:
            draw: the guide's parameters $\phi$, through which the draws depend on them.
            density: the guide's parameters $\phi'$ inside $\log q$; the same object as ``draw`` costs least.
            model: the model's own parameters $\theta$.
        """
        ...

    def still(self, draw: Any) -> Any:
        r"""$\log q_\phi$ of the same draws at the sites that do not follow $\phi$ smoothly; ``float[particles]``."""
        ...


class GradientEstimator(abc.ABC):
    r"""A way to estimate $\nabla \mathcal L(\phi, \theta)$ from draws.

    Estimators are frozen and hashable. An estimator decides through which of its three roles a parameter is
    differentiated; everything else is shared.

    Laws, which the conformance suite checks: the mean of many estimates is the gradient of the expected objective; the
    surrogate's value is the objective's estimate.

    Attributes:
        pathwise: it differentiates through the draws, so that every site of the guide must be reparameterised.
    """

    pathwise: ClassVar[bool]

    @abc.abstractmethod
    def valid_for(self, objective: Reduction) -> None:
        """Refuse an objective whose gradient this estimator would get wrong.

        Raises:
            TautError: ``bad-combination``.
        """

    @abc.abstractmethod
    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """A scalar: its value is the objective's estimate, its gradient in ``guide`` and ``model`` is the estimator."""
