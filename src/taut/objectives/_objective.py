"""The contract of an objective: log-weights in, one number in nats out."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal

from taut._errors import TautError

Bound = Literal["lower", "upper"]
KL = Literal["sampled", "analytic"]


class Objective(abc.ABC):
    r"""A reduction of log-weights $\log w_k = \log p(x, z_k) - \log q(z_k)$, $z_k \sim q$, to an estimate in nats.

    Objectives are frozen and hashable: they stand as static arguments of compiled functions. Every objective rises.

    Laws, which the conformance suite checks: with $q$ the posterior every estimate is the log evidence, without noise;
    one particle gives its log-weight; ``bound`` says the truth.

    Attributes:
        particles: number of log-weights $K$ that one estimate takes.
        bound: the side of the log evidence on which the expected estimate lies; ``None`` when it is not a bound.
        averages: the estimate is a plain mean of log-weights, so that estimators made for one draw stay unbiased.
    """

    particles: int
    bound: ClassVar[Bound | None]
    averages: ClassVar[bool] = False

    def __str__(self) -> str:
        """What is maximised, in words for the report."""
        return f"{type(self).__name__} of {self.particles} draws"

    @property
    def closed_form(self) -> bool:
        """Whether the KL part of the log-weights is taken in closed form; only means of log-weights can have that."""
        return False

    @abc.abstractmethod
    def reduce(self, log_weights: Any) -> Any:
        """The estimate from ``float[particles]`` log-weights, in nats; traceable."""


def whole_particles(objective: Objective) -> None:
    """Refuse anything but a positive whole number of particles."""
    k = objective.particles
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        name = type(objective).__name__
        raise TautError(
            "bad-argument",
            site="particles",
            found=f"{name}(particles={k!r})",
            expected="a positive whole number",
            remedy=f"taut.objectives.{name}(particles=8)",
        )
