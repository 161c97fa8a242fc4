"""The log evidence with its bias in K jackknifed away, or corrected by the delta method: estimates, not bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut.objectives._iwae import IWAE
from taut.objectives._objective import Bound, Objective, averaged, whole_particles

MOST_ORDER = 3
_MOST_TERMS = 2**26  # subsets of one estimate: beyond, a second and a gigabyte for each


@dataclass(frozen=True)
class JVI(Objective):
    r"""The jackknife of order $m$: $\log Z$ with a bias of $O(K^{-(m+1)})$ in place of the $O(K^{-1})$ of the `IWAE`.

    $$\mathcal L_K^{(m)} = \sum_{j=0}^m c_j \bar{\mathcal L}_{K-j}, \qquad
      c_j = (-1)^j \frac{(K - j)^m}{(m - j)!\, j!}$$

    with $\bar{\mathcal L}_{K-j}$ the average of $\log\operatorname{mean} w$ over all ways of leaving $j$ weights out.
    It is **no bound**: its bias may have either sign, and its variance grows slowly with the order.

    For evaluation. Training by it is allowed, and said in the report: in the published experiments models that were
    trained by JVI-1 came out worse than those trained by the `IWAE`, whose bound keeps q and the model honest.

    Args:
        particles: draws per estimate $K$, more than the order.
        order: $m$, 0 (the `IWAE`) to 3; one estimate takes $K^m$ terms.
        averaged_over: independent estimates whose mean is taken: less noise, the same bias.

    Raises:
        TautError: ``bad-argument`` for another order, or too few or too many particles for it.

    Source: Nowozin (2018), Debiasing evidence approximations: importance-weighted autoencoders and jackknife
    variational inference. The divisor of its Algorithm 1 is $K - j$ where the number of subsets is meant.

    Example:
        >>> round(float(taut.objectives.JVI(particles=3).reduce(jnp.array([-800.0, -801.0, -799.5]))), 3)
        -799.923
    """

    particles: int = 64
    order: int = 1
    averaged_over: int = 1
    bound: ClassVar[Bound | None] = None

    def __post_init__(self) -> None:
        whole_particles(self)
        check_order(self.particles, self.order, f"JVI(particles={self.particles}, order={self.order!r})")

    def __str__(self) -> str:
        """See `Objective`."""
        return (
            f"jackknife of order {self.order} over {self.particles} draws{averaged(self)}: near the log evidence and "
            "no bound; made for evaluation, models trained by it may be worse than by IWAE"
        )

    @property
    def yardstick(self) -> Objective:
        """See `Objective`: uneven weights raise the estimate without end, so that fits are compared by a bound."""
        return IWAE(self.particles, averaged_over=self.averaged_over)

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return jackknifed(log_weights, self.order)


@dataclass(frozen=True)
class DVI(Objective):
    r"""The delta method: $\log\bar w + s^2 / (2 K \bar w^2)$, $s^2$ the unbiased variance of the weights.

    Its bias is $O(K^{-2})$, as that of `JVI` of order 1, with a larger constant; it takes $K$ terms and is **no
    bound**. With one particle there is no variance to correct by: the estimate is its log-weight.

    Args:
        particles: draws per estimate $K$.
        averaged_over: independent estimates whose mean is taken: less noise, the same bias.

    Source: Nowozin (2018), section 3.2; Teh, Newman, Welling (2007), A collapsed variational Bayesian inference
    algorithm for latent Dirichlet allocation, for the method.

    Example:
        >>> round(float(taut.objectives.DVI(particles=2).reduce(jnp.log(jnp.array([1.0, 3.0])))), 4)
        0.8181
    """

    particles: int = 64
    averaged_over: int = 1
    bound: ClassVar[Bound | None] = None

    def __post_init__(self) -> None:
        whole_particles(self)

    def __str__(self) -> str:
        """See `Objective`."""
        return (
            f"delta method over {self.particles} draws{averaged(self)}: near the log evidence and no bound; made for "
            "evaluation"
        )

    @property
    def yardstick(self) -> Objective:
        """See `Objective`: uneven weights raise the estimate without end, so that fits are compared by a bound."""
        return IWAE(self.particles, averaged_over=self.averaged_over)

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        x, count = jnp.asarray(log_weights), self.particles
        top = jnp.max(x, axis=0)
        w = jnp.exp(x - jnp.where(jnp.isfinite(top), top, 0.0))
        mean = jnp.mean(w, axis=0)
        full = jnp.where(jnp.isfinite(top), top, 0.0) + jnp.log(mean)
        if count == 1:
            return full
        away = jnp.where(mean > 0, w / jnp.where(mean > 0, mean, 1.0) - 1.0, 0.0)
        return full + jnp.sum(away**2, axis=0) / (2 * count * (count - 1))


def check_order(count: int, order: Any, found: str) -> None:
    """Refuse an order that is no order, has too few weights, or takes too many terms."""
    known = not isinstance(order, bool) and isinstance(order, int) and 0 <= order <= MOST_ORDER
    if not known or count <= order:
        raise TautError(
            "bad-argument",
            site="order",
            found=found,
            expected=f"an order from 0 to {MOST_ORDER} and more weights than the order; higher orders gain nothing "
            "that their noise does not take",
            remedy="taut.objectives.JVI(particles=64, order=1)",
        )
    if count**order > _MOST_TERMS:
        most = int(_MOST_TERMS ** (1 / order))
        raise TautError(
            "bad-argument",
            site="particles",
            found=f"{found}, {count**order:,} terms for one estimate",
            expected=f"at most {most:,} weights at order {order}",
            remedy=f"taut.objectives.JVI(particles={most}, order={order})",
        )


def jackknifed(log_weights: Any, order: int, xp: Any = jnp) -> Any:
    r"""The jackknife over the first axis, in nats; traceable with ``jax.numpy``, the same formulas with ``numpy``.

    With $g_A = \log(1 - \sum_{i\in A}\tilde w_i)$ the change of $\log\sum w$ when the set $A$ is left out, the
    averages of $g$ over sets of each size are written through differences of increasing order,
    $h_A = \sum_{B \subseteq A} (-1)^{|A| - |B|} g_B$:

    $$\mathcal L^{(m)} = \mathcal L + \sum_{j=1}^m b_j \big(\operatorname{mean}_{|A|=j} h_A - h^{(j)}_{1/K}\big),\qquad
      b_j = \frac{1}{m!}\sum_{i=j}^m (-1)^i \tbinom mi \tbinom ij (K - i)^m$$

    where $h^{(j)}_{1/K}$ is that of equal weights. $h_A$ has the size $K^{-j}$ and $b_j$ the size $K^j$, so rounding
    is not multiplied by anything, at any K. The largest weight, the only one that may hold more than half, is taken
    out by sums that do not contain it.

    Args:
        log_weights: ``float[K, ...]``; ``-inf`` is a weight of zero.
        order: $m$, from 0 to 3, less than K.
        xp: ``jax.numpy`` or ``numpy``.

    Returns:
        ``float[...]``: ``-inf`` where all weights are zero. Where no more than $m$ weights are positive the sum is
        infinite: ``inf`` for an odd number of them, ``-inf`` for an even one.
    """
    x = -xp.sort(-xp.asarray(log_weights), axis=0)
    count = x.shape[0]
    positive = xp.sum(x != -xp.inf, axis=0)
    some, enough = positive > 0, positive > order
    x = xp.where(some, x, 0.0)
    full = xp.where(some, _log_sum(xp, x) - math.log(count), -xp.inf)
    if order == 0:
        return full
    x = xp.where(enough, x - x[0], 0.0)
    systems = [_System(xp, x[p:]) for p in range(order)]
    change = 0.0
    for j in range(1, order + 1):
        share = sum((-1) ** i * math.comb(order, i) * math.comb(i, j) * (count - i) ** order for i in range(order + 1))
        mean = _all_sets(systems, j) / math.comb(count, j)
        change = change + share / math.factorial(order) * (mean - _EQUAL[j](count))
    endless = xp.where(positive % 2 == 1, xp.inf, -xp.inf)
    return xp.where(enough, full + change, xp.where(some, endless, full))


# h of one, two and three equal weights among K.
_EQUAL = {
    1: lambda k: math.log1p(-1 / k),
    2: lambda k: math.log1p(-1 / (k - 1) ** 2),
    3: lambda k: math.log1p(-(2 * k - 3) / (k * (k - 2) ** 3)),
}


class _System:
    """Weights in falling order, the first of them apart."""

    def __init__(self, xp: Any, x: Any):
        total = _log_sum(xp, x)
        self.xp = xp
        self.without_first = _log_sum(xp, x[1:]) - total  # log(1 - w) of the first weight, without the difference
        self.share = xp.exp(x[1:] - total)  # of the others: at most one half each, two thirds for two of them

    def sets(self, order: int) -> Any:
        """The sum of h over all sets of this size without the first weight."""
        xp, share = self.xp, self.share
        n, rest = len(share), (1,) * (share.ndim - 1)
        if order == 1:
            return xp.sum(xp.log1p(-share), axis=0)
        i = np.arange(n)
        a, b = share[:, None], share[None]
        if order == 2:
            ordered = (i[:, None] < i).reshape(n, n, *rest)
            ratio = xp.where(ordered, a * b / ((1 - a) * (1 - b)), 0.0)
            return xp.sum(xp.sum(xp.log1p(-ratio), axis=1), axis=0)
        a, b, c = share[:, None, None], share[None, :, None], share[None, None]
        ordered = ((i[:, None, None] < i[:, None]) & (i[:, None] < i)).reshape(n, n, n, *rest)
        left = xp.where(ordered, (1 - a - b) * (1 - a - c) * (1 - b - c), 1.0)
        ratio = xp.where(ordered, a * b * c * (2 - a - b - c) / left, 0.0)
        return xp.sum(xp.sum(xp.sum(xp.log1p(-ratio), axis=2), axis=1), axis=0)


def _all_sets(systems: list[_System], order: int) -> Any:
    """The sum of h over all sets of this size: those with the first weight are smaller sets of what remains."""
    first = systems[0]
    with_first = _all_sets(systems[1:], order - 1) - first.sets(order - 1) if order > 1 else first.without_first
    return first.sets(order) + with_first


def _log_sum(xp: Any, x: Any) -> Any:
    return x[0] + xp.log(xp.sum(xp.exp(x - x[0]), axis=0))
