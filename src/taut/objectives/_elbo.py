"""The evidence lower bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from taut._errors import TautError
from taut.objectives._objective import KL, Bound, Objective, whole_particles


@dataclass(frozen=True)
class ELBO(Objective):
    r"""The evidence lower bound, $\mathcal L = \mathbb E_q[\log w] = \log Z - \mathrm{KL}(q \,\|\, p)$.

    Estimated by $\frac1K \sum_k \log w_k$. More particles average the noise (variance $\propto 1/K$); they do not
    tighten the bound, which is what `IWAE` is for.

    With ``kl="analytic"`` the entropy of $q$ and the expected log priors that have a closed form are not sampled,

    $$\mathcal L = \mathbb E_q\Big[\sum_{s \notin A} \log p_s\Big] + \sum_{s \in A} \mathbb E_q[\log p_s] + H(q)$$

    with $A$ found in the traced model, site by site: for `MeanField` and `FullRank` priors that are Normal, LogNormal,
    Gumbel, Gamma, Exponential, chi-square, HalfNormal, Rayleigh, InverseGamma or Weibull and depend on no other latent
    (for `MeanField` they may); for guides written as programs pairs of Normal, of Gamma or Exponential, of Beta and of
    Dirichlet. The report says which sites were closed; the others are sampled as ever.

    Args:
        particles: draws per estimate $K$.
        kl: ``"sampled"``, or ``"analytic"`` for less noise.

    Source: Jordan, Ghahramani, Jaakkola, Saul (1999), An introduction to variational methods for graphical models.

    Example:
        >>> float(taut.objectives.ELBO(particles=2).reduce(jnp.array([-1.0, -3.0])))
        -2.0
    """

    particles: int = 1
    kl: KL = "sampled"
    bound: ClassVar[Bound | None] = "lower"
    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_particles(self)
        if self.kl not in ("sampled", "analytic"):
            raise TautError(
                "bad-argument",
                site="kl",
                found=f"ELBO(kl={self.kl!r})",
                expected='"sampled" or "analytic"',
                remedy='taut.objectives.ELBO(kl="analytic")',
            )

    def __str__(self) -> str:
        """See `Objective`."""
        if self.particles == 1:
            return "ELBO"
        return f"ELBO, the mean of {self.particles} draws: less noise, the same bound (IWAE tightens it)"

    @property
    def closed_form(self) -> bool:
        """See `Objective`."""
        return self.kl == "analytic"

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return jnp.mean(log_weights, axis=0)
