"""A KL term of another weight: constant, which is no evidence bound, or on a schedule that ends at one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from taut._arguments import whole_number
from taut._errors import TautError
from taut.objectives._elbo import ELBO
from taut.objectives._objective import Bound, Objective, whole_particles


@dataclass(frozen=True)
class Tempered(Objective):
    r"""A KL term of constant weight, $\mathbb E_q[\log p(x \mid z)] - \beta\, \mathrm{KL}(q(z) \,\|\, p(z))$.

    The objective of the beta-VAE. It is **not the evidence bound**: its optimum is no approximation of the posterior
    of the model as written, but of one whose likelihood is raised to $1/\beta$. The verdict, which weighs draws by the
    model as written, will say so.

    Args:
        beta: $\beta > 0$.
        particles: draws per estimate, averaged.

    Source: Higgins et al. (2017), beta-VAE.

    Example:
        >>> str(taut.objectives.Tempered(beta=4.0))
        'ELBO with its KL term weighed by 4: not the evidence bound'
    """

    beta: float
    particles: int = 1
    bound: ClassVar[Bound | None] = None
    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_particles(self)
        if isinstance(self.beta, bool) or not isinstance(self.beta, float | int) or not 0 < self.beta < math.inf:
            raise TautError(
                "bad-argument",
                site="beta",
                found=f"Tempered(beta={self.beta!r})",
                expected="a positive number",
                remedy="taut.objectives.ELBO(), whose weight is 1",
            )

    def __str__(self) -> str:
        """See `Objective`."""
        return f"ELBO with its KL term weighed by {self.beta:g}: not the evidence bound"

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`: of log-weights whose KL part is already weighed."""
        return jnp.mean(log_weights, axis=0)

    def kl_weight(self, step: Any = None) -> Any:
        """See `Objective`."""
        return float(self.beta)


@dataclass(frozen=True)
class Linear:
    """A schedule that rises in a line from ``start`` to 1.

    Args:
        start: the first weight.
    """

    start: float = 0.0

    def __call__(self, share: Any) -> Any:
        """The weight at a share of the way, 0 to 1."""
        return self.start + (1.0 - self.start) * share


@dataclass(frozen=True)
class Cyclical:
    """Several rises from 0 to 1, each of them followed by a stay at 1.

    Args:
        cycles: how many.
        ramp: the share of each cycle that rises.

    Source: Fu et al. (2019), Cyclical annealing schedule.
    """

    cycles: int = 4
    ramp: float = 0.5

    def __call__(self, share: Any) -> Any:
        """The weight at a share of the way, 0 to 1."""
        place = jnp.asarray(share) * self.cycles
        within = jnp.where(place >= self.cycles, 1.0, place - jnp.floor(place))
        return jnp.minimum(within / self.ramp, 1.0)


@dataclass(frozen=True)
class Annealed(Objective):
    r"""The `ELBO` whose KL term is weighed by a schedule $\beta_t$ that ends at 1: at the end it is the evidence bound.

    A fit does not end, nor compare its stages, before the weight has reached 1.

    Args:
        schedule: from the share of the way, 0 to 1, to the weight: `Linear`, `Cyclical`, or any function in
            `jax.numpy` of which the weight at 1 is 1.
        steps: how many steps the way takes; after them the weight is 1.
        particles: draws per estimate, averaged.

    Raises:
        TautError: ``kl-weights`` for a schedule that does not end at 1, or is negative or not finite on the way.

    Source: Bowman et al. (2016), Generating sentences from a continuous space; Sønderby et al. (2016), Ladder
    variational autoencoders.

    Example:
        >>> warm = taut.objectives.Annealed(steps=200)
        >>> float(warm.kl_weight(50)), float(warm.kl_weight(5000))
        (0.25, 1.0)
    """

    schedule: Callable[[Any], Any] = Linear()
    steps: int = 1000
    particles: int = 1
    bound: ClassVar[Bound | None] = "lower"
    asymptotic: ClassVar[bool] = False
    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_particles(self)
        steps = whole_number("steps", self.steps, "taut.objectives.Annealed(steps=1000)", shown="Annealed({})")
        object.__setattr__(self, "steps", steps)
        grid = np.linspace(0.0, 1.0, 201)
        weights = np.array([float(self.schedule(share)) for share in grid])
        if not np.all(np.isfinite(weights)) or weights.min() < 0:
            at = int(np.argmax(~np.isfinite(weights) | (weights < 0)))
            raise _schedule(f"the weight {weights[at]:g} at {grid[at]:.3g} of the way", "weights that are not negative")
        if abs(weights[-1] - 1.0) > 1e-6:
            raise _schedule(
                f"a schedule that ends at {weights[-1]:g}",
                "one that ends at 1: with another weight the objective is not the evidence bound",
            )

    def __str__(self) -> str:
        """See `Objective`."""
        return f"ELBO, its KL term annealed to weight 1 over the first {self.steps} steps"

    @property
    def yardstick(self) -> Objective:
        """See `Objective`: fits are compared at weight 1."""
        return ELBO(particles=self.particles)

    @property
    def warm_up(self) -> int:
        """See `Objective`."""
        return self.steps

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`: of log-weights whose KL part is already weighed."""
        return jnp.mean(log_weights, axis=0)

    def kl_weight(self, step: Any = None) -> Any:
        """See `Objective`."""
        if step is None:
            return None
        share = jnp.minimum(jnp.asarray(step) / self.steps, 1.0)
        return jnp.where(share >= 1.0, 1.0, self.schedule(share))


def _schedule(found: str, expected: str) -> TautError:
    return TautError(
        "kl-weights",
        site="schedule",
        found=found,
        expected=expected,
        remedy="taut.objectives.Annealed(taut.objectives.Linear(start=0.1), steps=1000), or "
        "taut.objectives.Tempered(beta=...) where another weight is meant",
    )
