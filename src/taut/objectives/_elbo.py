"""The evidence lower bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from taut.objectives._objective import Bound, Objective, whole_particles


@dataclass(frozen=True)
class ELBO(Objective):
    r"""The evidence lower bound, $\mathcal L = \mathbb E_q[\log w] = \log Z - \mathrm{KL}(q \,\|\, p)$.

    Estimated by $\frac1K \sum_k \log w_k$. More particles average the noise (variance $\propto 1/K$); they do not
    tighten the bound, which is what `IWAE` is for.

    Args:
        particles: draws per estimate $K$.

    Source: Jordan, Ghahramani, Jaakkola, Saul (1999), An introduction to variational methods for graphical models.

    Example:
        >>> float(taut.objectives.ELBO(particles=2).reduce(jnp.array([-1.0, -3.0])))
        -2.0
    """

    particles: int = 1
    bound: ClassVar[Bound | None] = "lower"
    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_particles(self)

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return jnp.mean(log_weights, axis=0)
