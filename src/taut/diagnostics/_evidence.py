"""The log evidence from below, near it and from above: one line for each estimate, from one pool of log weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from taut.diagnostics._jackknife import jackknife
from taut.diagnostics._pareto import Floats, khat
from taut.diagnostics._weights import logmeanexp

Side = Literal["below", "near", "above"]

FINITE_VARIANCE = 0.5  # k-hat from which on the weights have none
_FINITE_SQUARES = 0.25  # k-hat from which on their squares have none
_BOUNDED = 0.1  # nats: log weights that span less have no tail that matters, whatever k-hat makes of it
_BATCHES, _BLOCKS = 4, 16
_MOST_PAIRS = 2**26  # of weights, for the jackknife of order 2


@dataclass(frozen=True)
class EvidenceLine:
    """One estimate of the log evidence.

    Attributes:
        name: what it is.
        side: where its expectation lies: ``"below"`` and ``"above"`` the log evidence, or ``"near"`` it.
        value: nats.
        se: its Monte Carlo standard error, nats.
        holds: whether what it rests on is given; an end of the interval is only made of lines that hold.
        rests_on: what that is, in words.
    """

    name: str
    side: Side
    value: float
    se: float
    holds: bool
    rests_on: str = ""


class Pool(NamedTuple):
    """Log weights in groups of K independent draws.

    grouped: ``(G, K, R)``; R rows of independent data, or 1. khat: the largest of rows or batches; ``-inf`` for weights
    that are all but equal.
    """

    grouped: Floats
    khat: float

    @property
    def joint(self) -> Pool:
        """Rows summed: weights of all data at once."""
        return self._replace(grouped=self.grouped.sum(2, keepdims=True))

    @property
    def particles(self) -> int:
        """K."""
        return self.grouped.shape[1]

    @property
    def flat(self) -> Floats:
        """``(G K, R)``."""
        return self.grouped.reshape(-1, self.grouped.shape[2])


def pooled(log_weights: ArrayLike, particles: int, rng: np.random.Generator) -> Pool:
    """Deal log weights into groups, in random order: draws that stand side by side may be dependent.

    Args:
        log_weights: ``(N,)``, or ``(N, R)`` of R independent rows; NaN and ``+inf`` count as zero weights.
        particles: K, at most N / 8.
        rng: generator of the order.
    """
    x = np.asarray(log_weights, float)
    x = x[:, None] if x.ndim == 1 else x
    x = np.where(x < np.inf, x, -np.inf)
    groups = len(x) // particles
    dealt = x[rng.permutation(len(x))[: groups * particles]]
    parts = x.T if x.shape[1] > 1 else np.array_split(x[:, 0], _BATCHES)
    tails = [khat(part) if not np.ptp(part) < _BOUNDED else -math.inf for part in parts]
    return Pool(dealt.reshape(groups, particles, x.shape[1]), float(max(tails)))


def from_weights(pool: Pool) -> list[EvidenceLine]:
    r"""ELBO and IWAE from below; JVI of orders 1 and 2 and importance sampling near; EUBO and CUBO from above.

    With $\hat w$ the mean of K weights, the expectations are

    $$\mathbb E_q \log w \le \mathbb E_q \log\hat w \le \log Z \le
      \frac{\mathbb E_q[\hat w\log\hat w]}{\mathbb E_q\hat w},\quad \log Z \le \tfrac12\log\mathbb E_q w^2$$

    where the third is $\log\hat w$ with one of the K draws from the posterior. Rows are summed outside of the
    logarithms.

    Args:
        pool: see `pooled`.

    Source: Burda et al. (2016) for IWAE; Nowozin (2018) for JVI; Brekelmans et al. (2022), Improving mutual information
    estimation with annealed and energy-based bounds, for the many-sample EUBO; Dieng et al. (2017) for CUBO.
    """
    k, x = pool.particles, pool.flat
    light = pool.khat < FINITE_VARIANCE
    variance = "finite variance of the weights, k-hat < 1/2"
    means = np.asarray(logmeanexp(pool.grouped, axis=1))
    lines = [
        _mean("ELBO", "below", x.sum(1)),
        _mean(f"IWAE, K = {k:,}", "below", means.sum(1)),
    ]
    for order in (1, 2):
        if k > order and pool.grouped.size * k ** (order - 1) <= _MOST_PAIRS:
            each = np.asarray(jackknife(np.moveaxis(pool.grouped, 1, 2), order))
            lines.append(_mean(f"JVI-{order}, K = {k:,}", "near", each.sum(1), light, variance))
    near, near_se = _log_mean(x)
    lines.append(EvidenceLine(f"importance sampling, {len(x):,}", "near", near, near_se, light, variance))
    lines.append(_entropic(means, k, light, variance))
    square, square_se = _log_mean(2.0 * x)
    finite = "finite variance of the squared weights, k-hat < 1/4"
    lines.append(EvidenceLine("CUBO-2", "above", square / 2, square_se / 2, pool.khat < _FINITE_SQUARES, finite))
    return lines


def from_posterior(at_posterior: ArrayLike, pool: Pool, rng: np.random.Generator, holds: bool) -> EvidenceLine:
    r"""The log evidence from above by draws of the posterior: $\log\frac1K(w(z) + \sum_{k=2}^K w(z_k))$, $z \sim p$.

    One of the K draws is the posterior's, so the expectation lies above, as that of IWAE lies below; K = 1 is the
    EUBO, $\mathbb E_p \log w$.

    Args:
        at_posterior: ``log p - log q`` at draws of the posterior, ``(T, P)``: T dependent draws of P particles.
        pool: weights of q's own draws, not by row.
        rng: generator.
        holds: whether these are draws of the posterior.
    """
    log_w = np.asarray(at_posterior, float)
    k, flat = pool.particles, pool.flat[:, 0]
    # Blocks share neither particles (the islands are four blocks each) nor draws of q: their spread has both errors.
    means = []
    for particles, weights in zip(np.array_split(log_w, _BLOCKS, 1), np.array_split(flat, _BLOCKS), strict=True):
        others = np.full(particles.shape, -np.inf)
        if k > 1:
            picked = weights[rng.integers(len(weights), size=(*particles.shape, k - 1))]
            others = np.asarray(logmeanexp(picked, axis=2)) + math.log(k - 1)
        means.append(float((np.logaddexp(particles, others) - math.log(k)).mean()))
    blocks = np.array(means)
    islands = blocks.reshape(_BATCHES, -1).mean(1)
    se = max(_se(blocks), _se(islands))
    return EvidenceLine(f"EUBO, K = {k:,}", "above", float(blocks.mean()), se, holds, "draws of the posterior")


def _entropic(means: Floats, k: int, light: bool, variance: str) -> EvidenceLine:
    top = means.max(0)
    if not np.isfinite(top).all():
        return EvidenceLine(f"EUBO, K = {k:,}, reweighted", "above", math.inf, math.inf, False, variance)
    w = np.exp(means - top)
    share = w / w.mean(0)
    logs = np.where(w > 0, means, 0.0)
    value = (share * logs).mean(0)
    se = (share * (logs - value)).std(0) / math.sqrt(len(means))
    total_se = float(np.sqrt((se**2).sum()))
    return EvidenceLine(f"EUBO, K = {k:,}, reweighted", "above", float(value.sum()), total_se, light, variance)


def _mean(name: str, side: Side, values: Floats, holds: bool = True, rests_on: str = "") -> EvidenceLine:
    if not np.isfinite(values).all():
        gone = float(values.min()) if side == "below" and not np.isnan(values).any() else math.nan
        return EvidenceLine(name, side, gone, math.inf, False, rests_on or "weights that are positive")
    return EvidenceLine(name, side, float(values.mean()), _se(values), holds, rests_on)


def _log_mean(x: Floats) -> tuple[float, float]:
    """The log of the mean over draws, summed over rows, and its error by the delta method or by batches."""
    by_row = np.asarray(logmeanexp(x, axis=0))
    if not np.isfinite(by_row).all():
        return float(by_row.sum()), math.inf
    relative = np.exp(x - by_row)
    delta = float(np.sqrt((relative.var(0) / len(x)).sum()))
    batches = np.array([np.sum(logmeanexp(b, axis=0)) for b in np.array_split(x, _BATCHES)])
    return float(by_row.sum()), max(delta, _se(batches)) if np.isfinite(batches).all() else math.inf


def _se(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf
