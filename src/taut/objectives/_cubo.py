"""The chi upper bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from taut._errors import TautError
from taut.objectives._objective import averaged
from taut.objectives._upper_bound import UpperBound


@dataclass(frozen=True)
class CUBO(UpperBound):
    r"""The chi upper bound, $\frac1n \log \mathbb E_q[w^n] \ge \log Z$ for $n > 1$; minimised, q covers the posterior.

    Its estimate from $K$ draws, $\frac1n \log \frac1K \sum_k w_k^n$, lies **below** the bound, often far below, and
    tells nothing where $w^n$ has no finite variance (a k-hat above $1 / (2n)$): read it as an upper bound only with
    many draws and small k-hat. Differentiating that estimate would lead away from the posterior, since for one draw
    it is the `ELBO`. It therefore has a gradient of its own, that of the exact bound with normalised weights
    $v_k \propto w_k^n$,

    $$\nabla_\phi = \frac{1 - n}{n} \sum_k v_k \nabla_\phi \log q_\phi(z_k),$$

    consistent as $K$ grows. The model's parameters cannot be learned by it: lowering an upper bound would lower the
    evidence too.

    Args:
        n: the power, above 1; 2 is the chi-square divergence.
        particles: draws $K$.
        averaged_over: independent estimates whose mean is taken.

    Raises:
        TautError: ``bad-argument`` for a power that is not above 1.

    Source: Dieng, Tran, Ranganath, Paisley, Blei (2017), Variational inference via chi upper bound minimization.

    Example:
        >>> round(float(taut.objectives.CUBO(n=2, particles=2).reduce(jnp.log(jnp.array([1.0, 3.0])))), 4)
        0.8047
    """

    n: float = 2.0
    particles: int = 64
    averaged_over: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.n, bool) or not isinstance(self.n, float | int) or not 1 < self.n < math.inf:
            raise TautError(
                "bad-argument",
                site="n",
                found=f"CUBO(n={self.n!r})",
                expected="a power above 1",
                remedy="taut.objectives.CUBO(n=2)",
            )

    def __str__(self) -> str:
        """See `Objective`."""
        return (
            f"CUBO, the chi upper bound of power {self.n:g}, from {self.particles} draws{averaged(self)}; estimates "
            "lie below the bound"
        )

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return (logsumexp(self.n * jnp.asarray(log_weights), axis=0) - math.log(self.particles)) / self.n

    def score_weights(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return (1.0 - self.n) / self.n * jax.nn.softmax(self.n * jnp.asarray(log_weights), axis=0)
