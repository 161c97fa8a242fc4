"""The variational Rényi bound, between the importance-weighted bound and the evidence lower bound, and beyond."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.nn import logsumexp

from taut._errors import TautError
from taut.objectives._objective import Bound, Objective, averaged, whole_particles


@dataclass(frozen=True)
class Renyi(Objective):
    r"""The variational Rényi bound, $\mathcal L_{\alpha, K} = \frac{1}{1 - \alpha}\,
    \mathbb E\log \frac1K \sum_{k=1}^K w_k^{1 - \alpha} \le \log Z$.

    $\alpha = 0$ is the `IWAE`, $\alpha = 1$ the `ELBO`; the bound falls in $\alpha$, and q covers less of the
    posterior the larger $\alpha$ is. It is a lower bound for every $K$: rising in $K$ for $\alpha < 1$, falling for
    $\alpha > 1$. Where rows are independent it is taken row by row, as the `IWAE` is.

    Args:
        alpha: $\alpha \ge 0$.
        particles: draws $K$ inside of the logarithm.
        averaged_over: independent estimates whose mean is taken: less noise, the same bound.

    Raises:
        TautError: ``bad-argument`` for $\alpha < 0$, where the limit is an upper bound and few draws give neither.

    Source: Li, Turner (2016), Rényi divergence variational inference; Daudel, Benton, Shi, Doucet (2023), Alpha-
    divergence variational inference meets importance weighted auto-encoders.

    Example:
        >>> round(float(taut.objectives.Renyi(alpha=0.5, particles=2).reduce(jnp.array([0.0, -2.0]))), 4)
        -0.7598
    """

    alpha: float = 0.5
    particles: int = 8
    averaged_over: int = 1
    bound: ClassVar[Bound | None] = "lower"

    def __post_init__(self) -> None:
        whole_particles(self)
        if isinstance(self.alpha, bool) or not math.isfinite(self.alpha) or self.alpha < 0:
            finite = isinstance(self.alpha, float | int) and math.isfinite(self.alpha)
            raise TautError(
                "bad-argument",
                site="alpha",
                found=f"Renyi(alpha={self.alpha!r})",
                expected="a number that is not negative; below 0 the exact value bounds the evidence from above and "
                "its estimate from few draws bounds it from neither side",
                remedy=f"taut.objectives.CUBO(n={1 - self.alpha:g})" if finite else "taut.objectives.Renyi(alpha=0.5)",
            )

    def __str__(self) -> str:
        """See `Objective`."""
        return f"Renyi bound of order {self.alpha:g} of {self.particles} draws{averaged(self)}"

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        if self.alpha == 1.0:
            return jnp.mean(log_weights, axis=0)
        power = 1.0 - self.alpha
        return (logsumexp(power * jnp.asarray(log_weights), axis=0) - math.log(self.particles)) / power
