"""The contract of an objective: log-weights in, one number in nats out."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from taut._arguments import whole_number

Bound = Literal["lower", "upper"]
KL = Literal["sampled", "analytic"]


class Objective(abc.ABC):
    r"""A reduction of log-weights $\log w_k = \log p(x, z_k) - \log q(z_k)$, $z_k \sim q$, to an estimate in nats.

    Objectives are frozen and hashable: they stand as static arguments of compiled functions. A new one is `reduce`
    and ``bound``; the rest has defaults.

    **Particles and averages are two things.** ``particles`` $K$ stand inside of the reduction: they change what is
    estimated (a tighter bound, for `IWAE`). ``averaged_over`` $M$ independent estimates of $K$ particles each are
    averaged: less noise, the same bound. One step draws $K M$ times. The `ELBO` is a mean itself, so that its
    particles do what ``averaged_over`` does elsewhere.

    Laws, which `taut.testing.check_objective` checks: with $q$ the posterior every estimate is the log evidence,
    without noise; one particle gives its log-weight; the order of the particles does not count; ``bound`` says the
    truth; weights far from one keep their digits.

    Attributes:
        particles: number of log-weights $K$ that one estimate takes.
        averaged_over: number $M$ of estimates whose mean is taken.
        bound: the side of the log evidence on which the expected estimate lies; ``None`` when it is not a bound.
        asymptotic: the bound is that of the exact expectation; estimates reach it as $K$ grows, and not before.
        averages: the estimate is a plain mean of log-weights, so that estimators made for one draw stay unbiased.
        learns_model: the model's own parameters may be learned by it.
    """

    particles: int
    averaged_over: int = 1
    bound: ClassVar[Bound | None]
    asymptotic: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    learns_model: ClassVar[bool] = True

    def __str__(self) -> str:
        """What is maximised, in words for the report."""
        return f"{type(self).__name__} of {self.particles} draws"

    @property
    def closed_form(self) -> bool:
        """Whether the KL part of the log-weights is taken in closed form; only means of log-weights can have that."""
        return False

    @property
    def falls(self) -> bool:
        """Whether q is best where the objective is lowest, as for an upper bound; the loop then walks downhill."""
        return False

    @property
    def own_gradient(self) -> bool:
        """Whether the gradient is not that of the estimate, but weighs scores by `score_weights`."""
        return False

    @property
    def yardstick(self) -> Objective:
        """What compares two fits by this objective: itself, unless its estimate from few draws ranks them wrongly."""
        return self

    @property
    def warm_up(self) -> int:
        """Steps before which no fit by this objective may end: those of a schedule."""
        return 0

    @property
    def draws(self) -> int:
        """Draws of one step, $K M$."""
        return self.particles * self.averaged_over

    @abc.abstractmethod
    def reduce(self, log_weights: Any) -> Any:
        """The estimate from ``float[particles, *plates]`` log-weights, ``float[*plates]`` in nats; traceable."""

    def reduce_each(self, log_weights: Any) -> Any:
        """The estimate before it is summed over rows, for objectives that are taken row by row."""
        return self.reduce(log_weights)

    def estimate(self, log_weights: Any) -> Any:
        """The mean of `reduce` over groups of particles, from ``float[draws, *plates]``."""
        if self.averaged_over == 1:
            return self.reduce(log_weights)
        return jnp.mean(jax.vmap(self.reduce)(self.groups(log_weights)), axis=0)

    def groups(self, log_weights: Any) -> Any:
        """Log-weights by estimate, ``float[averaged_over, particles, *plates]``."""
        return jnp.reshape(log_weights, (self.averaged_over, self.particles, *jnp.shape(log_weights)[1:]))

    def score_weights(self, log_weights: Any) -> Any:
        r"""For an objective with its `own_gradient`: $c_k$ of $\sum_k c_k \nabla_\phi \log q_\phi(z_k)$.

        Args:
            log_weights: ``float[particles, *plates]``.

        Returns:
            Weights of the same shape, of the gradient of the objective (downhill where it `falls`).
        """
        raise NotImplementedError(f"{type(self).__name__} is differentiated as it stands")

    def kl_weight(self, step: Any = None) -> Any:
        r"""The weight $\beta$ of $\log p(z) - \log q(z)$ inside of the log-weights; ``None`` is 1, for all but
        schedules. ``step`` is a traced number, or ``None`` for what holds in the end."""
        return None


def whole_particles(objective: Objective) -> None:
    """Refuse anything but a positive whole number of particles and of averages."""
    name = type(objective).__name__
    for field in ("particles", "averaged_over"):
        k = whole_number(field, getattr(objective, field), f"taut.objectives.{name}({field}=8)", shown=f"{name}({{}})")
        object.__setattr__(objective, field, k)


def averaged(objective: Objective) -> str:
    """The words for ``averaged_over``, to be added to a description."""
    return f", averaged over {objective.averaged_over} estimates" if objective.averaged_over > 1 else ""
