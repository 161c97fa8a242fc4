"""The log evidence against the number of particles, for the jackknife of orders 0 to 2, from one pool of weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from taut._errors import TautError
from taut.diagnostics._evidence import pooled
from taut.diagnostics._jackknife import jackknife
from taut.diagnostics._pareto import Floats

_LEAST_GROUPS = 8
_MOST_PAIRS = 2**26


@dataclass(frozen=True, eq=False)
class EvidenceCurve:
    """Estimates against K.

    Attributes:
        particles: K, ``(n,)``, powers of two.
        values: of orders 0, 1 and 2, nats, ``(3, n)``; NaN where an order needs more particles than K, or is infinite.
        se: their standard errors, ``(3, n)``.
        draws: N, that all are made of.
        rows: independent rows of data that were summed, or 1.
        khat: of the pool, see `Pool`.
    """

    particles: np.ndarray
    values: Floats
    se: Floats
    draws: int
    rows: int
    khat: float


def evidence_curve(log_weights: ArrayLike, most: int, rng: np.random.Generator) -> EvidenceCurve:
    """Deal one pool of weights into groups of every size, and average the jackknife over them.

    Args:
        log_weights: ``(N,)`` or, by row, ``(N, R)``; at least 16 draws.
        most: largest K.
        rng: generator of the order, which is the same for all K.

    Returns:
        `EvidenceCurve`.

    Raises:
        TautError: ``bad-argument`` for fewer draws.
    """
    x = np.asarray(log_weights, float)
    x = x[:, None] if x.ndim == 1 else x
    largest = min(most, len(x) // _LEAST_GROUPS)
    if largest < 2:
        raise TautError(
            "bad-argument",
            site="most",
            found=f"K up to {most} from {len(x)} draws",
            expected="two particles or more, and eight groups of them",
            remedy="taut.plots.evidence(fit, most=512)",
        )
    sizes = 2 ** np.arange(int(math.log2(largest)) + 1)
    order = rng.permutation(len(x))
    pool = pooled(x, 1, rng)
    dealt = np.where(x < np.inf, x, -np.inf)[order]
    values, errors = np.full((3, len(sizes)), np.nan), np.full((3, len(sizes)), np.nan)
    for i, k in enumerate(sizes.tolist()):
        groups = len(dealt) // k
        grouped = np.moveaxis(dealt[: groups * k].reshape(groups, k, -1), 1, 2)
        for m in range(3):
            if k <= m or grouped.size * k ** max(m - 1, 0) > _MOST_PAIRS:
                continue
            each = np.asarray(jackknife(grouped, m)).sum(1)
            if np.isfinite(each).all():
                values[m, i], errors[m, i] = each.mean(), each.std(ddof=1) / math.sqrt(groups)
    return EvidenceCurve(sizes, values, errors, len(x), x.shape[1], pool.khat)
