"""The thermodynamic variational objectives: Riemann sums of the path from q to the posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut.objectives._objective import Bound, Objective, averaged, whole_particles
from taut.objectives._upper_bound import UpperBound

# Points that the integrand's first bend asks for, from the paper's experiments.
_PARTITION = (0.0, 0.025, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class TVO(Objective):
    r"""Left Riemann sum of $\log Z = \int_0^1 \mathbb E_{\pi_\beta}[\log w]\, d\beta$, $\pi_\beta \propto q w^\beta$.

    $$\sum_i (\beta_{i+1} - \beta_i) \sum_k v_k^{(i)} \log w_k, \quad v^{(i)} = \operatorname{softmax}(\beta_i \log w)$$

    The integrand rises, so the sum is a lower bound: with the partition $(0, 1)$ the `ELBO`, and for any partition at
    most the `IWAE` of the same draws, for every $K$.

    Args:
        partition: $0 = \beta_0 < \dots < \beta_n = 1$.
        particles: draws $K$, shared by all $\beta$.
        averaged_over: independent estimates whose mean is taken: less noise, the same bound.

    Raises:
        TautError: ``bad-argument`` for a partition that does not rise from 0 to 1.

    Source: Masrani, Le, Wood (2019), The thermodynamic variational objective.

    Example:
        >>> round(float(taut.objectives.TVO((0.0, 0.5, 1.0), particles=2).reduce(jnp.array([0.0, -2.0]))), 4)
        -0.7689
    """

    partition: tuple[float, ...] = _PARTITION
    particles: int = 16
    averaged_over: int = 1
    bound: ClassVar[Bound | None] = "lower"

    def __post_init__(self) -> None:
        whole_particles(self)
        object.__setattr__(self, "partition", _checked("TVO", self.partition))

    def __str__(self) -> str:
        """See `Objective`."""
        return f"TVO over {len(self.partition) - 1} intervals of {self.particles} draws{averaged(self)}"

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return riemann(log_weights, self.partition[:-1], np.diff(self.partition))


@dataclass(frozen=True)
class UpperTVO(UpperBound):
    r"""The right Riemann sum, $\sum_i (\beta_{i+1} - \beta_i)\, \mathbb E_{\pi_{\beta_{i+1}}}[\log w] \ge \log Z$.

    With the partition $(0, 1)$ it is `ForwardKL`. It bounds the evidence from above as $K$ grows; few draws lie below.
    Its gradient is its own, a covariance under $\pi_\beta$:
    $\sum_k v_k [(1 - \beta)(\log w_k - \bar\ell) - 1] \nabla_\phi \log q_\phi(z_k)$ for each $\beta$.

    Args:
        partition, particles, averaged_over: as for `TVO`.

    Source: Masrani, Le, Wood (2019), The thermodynamic variational objective.

    Example:
        >>> round(float(taut.objectives.UpperTVO((0.0, 0.5, 1.0), particles=2).reduce(jnp.array([0.0, -2.0]))), 4)
        -0.3881
    """

    partition: tuple[float, ...] = _PARTITION
    particles: int = 64
    averaged_over: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "partition", _checked("UpperTVO", self.partition))

    def __str__(self) -> str:
        """See `Objective`."""
        return (
            f"upper TVO over {len(self.partition) - 1} intervals of {self.particles} draws{averaged(self)}; estimates "
            "lie below the bound"
        )

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return riemann(log_weights, self.partition[1:], np.diff(self.partition))

    def score_weights(self, log_weights: Any) -> Any:
        """See `Objective`."""
        x = jnp.asarray(log_weights)
        total = jnp.zeros_like(x)
        for beta, width in zip(self.partition[1:], np.diff(self.partition)):
            share = jax.nn.softmax(beta * x, axis=0)
            total += width * share * ((1.0 - beta) * (x - jnp.sum(share * x, axis=0)) - 1.0)
        return total


def riemann(log_weights: Any, points: Any, widths: Any) -> Any:
    r"""$\sum_i \Delta_i \sum_k \operatorname{softmax}(\beta_i \log w)_k \log w_k$ over the first axis."""
    x = jnp.asarray(log_weights)
    # A weight of zero takes no part in a mean that has others; at beta = 0 every weight counts.
    parts = (
        w * jnp.sum(_times(jax.nn.softmax(b * x, axis=0) if b else 1 / x.shape[0], x), axis=0)
        for b, w in zip(points, widths)
    )
    return sum(parts, jnp.zeros(x.shape[1:], x.dtype))


def _times(share: Any, x: Any) -> Any:
    return jnp.where(share == 0, 0.0, share * jnp.where(share == 0, 0.0, x))


def _checked(name: str, partition: Any) -> tuple[float, ...]:
    points = np.asarray(partition, float).ravel()
    if points.size < 2 or points[0] != 0 or points[-1] != 1 or not np.all(np.diff(points) > 0):
        raise TautError(
            "bad-argument",
            site="partition",
            found=f"{name}(partition={partition!r})",
            expected="numbers that rise from 0 to 1",
            remedy=f"taut.objectives.{name}(partition={_PARTITION})",
        )
    return tuple(points.tolist())
