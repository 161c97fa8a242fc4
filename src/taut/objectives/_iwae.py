"""The importance-weighted bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from jax.nn import logsumexp

from taut.objectives._objective import Bound, Objective, whole_particles


@dataclass(frozen=True)
class IWAE(Objective):
    r"""The importance-weighted bound, $\mathcal L_K = \mathbb E\big[\log \frac1K \sum_{k=1}^K w_k\big] \le \log Z$.

    It rises with $K$ towards the log evidence; $K = 1$ is the `ELBO`. One set of log-weights stands for the whole data
    set: with independent local latents the bound is loose in their number.

    Args:
        particles: draws per estimate $K$.

    Source: Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders.

    Example:
        >>> round(float(taut.objectives.IWAE(particles=2).reduce(jnp.array([-800.0, -801.0]))), 3)
        -800.38
    """

    particles: int = 8
    bound: ClassVar[Bound | None] = "lower"

    def __post_init__(self) -> None:
        whole_particles(self)

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return logsumexp(log_weights, axis=0) - math.log(self.particles)
