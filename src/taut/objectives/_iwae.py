"""The importance-weighted bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from jax.nn import logsumexp

from taut._errors import TautError
from taut.objectives._objective import KL, Bound, Objective, averaged, whole_particles


@dataclass(frozen=True)
class IWAE(Objective):
    r"""The importance-weighted bound, $\mathcal L_K = \mathbb E\big[\log \frac1K \sum_{k=1}^K w_k\big] \le \log Z$.

    It rises with $K$ towards the log evidence; $K = 1$ is the `ELBO`. Particles stand inside of the logarithm here, and
    tighten the bound; those of the `ELBO` stand outside, and only average.

    Where every latent stands in one plate and no row depends on another, in the model or in the guide, the logarithm is
    taken row by row and summed: 50 rows of one latent each have 50 bounds, not one of 50 latents. Otherwise one set of
    log-weights stands for the whole data.

    Args:
        particles: draws $K$ inside of the logarithm: more of them tighten the bound.
        kl: ``"sampled"``; there is no other.
        averaged_over: independent estimates whose mean is taken: more of them lower the noise, and leave the bound.

    Raises:
        TautError: ``bad-combination`` for ``kl="analytic"``: an expected log prior inside of the logarithm is no
            log-weight, and the result may lie above the evidence.

    Source: Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders.

    Example:
        >>> round(float(taut.objectives.IWAE(particles=2).reduce(jnp.array([-800.0, -801.0]))), 3)
        -800.38
    """

    particles: int = 8
    kl: KL = "sampled"
    averaged_over: int = 1
    bound: ClassVar[Bound | None] = "lower"

    def __post_init__(self) -> None:
        whole_particles(self)
        if self.kl != "sampled":
            raise TautError(
                "bad-combination",
                site="kl",
                found=f"IWAE(particles={self.particles}, kl={self.kl!r})",
                expected='kl="sampled": there is no closed-form KL inside an importance-weighted bound; with one the '
                "result is no bound and may lie above the evidence",
                remedy=f'IWAE(particles={self.particles}), or ELBO(kl="analytic")',
            )

    def __str__(self) -> str:
        """See `Objective`."""
        return f"IWAE of {self.particles} draws{averaged(self)}: a tighter bound than the ELBO"

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return logsumexp(log_weights, axis=0) - math.log(self.particles)
