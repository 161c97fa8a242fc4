"""Jackknifed log evidence: the bias of log mean exp removed to first or second order, in a stable closed form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from taut._errors import TautError
from taut.diagnostics._pareto import Floats
from taut.diagnostics._weights import logmeanexp


def jackknife(log_weights: ArrayLike, order: int = 1) -> Floats | float:
    r"""Log evidence from K weights with bias $O(K^{-(m+1)})$, m the order. Not a bound: the bias may be positive.

    $$L^{(1)} = L - (K-1) D_1, \qquad L^{(2)} = L - (K-1)^2 D_1 + \tfrac{(K-2)^2}{2} D_2$$

    where $L$ is log mean exp, and $D_j$ is the average, over all ways of leaving j weights out, of the change in L.
    The changes are formed directly, so nothing cancels between numbers of the size of L.

    Args:
        log_weights: (..., K); the last axis is jackknifed.
        order: 0 (log mean exp itself), 1 or 2.

    Returns:
        A float for (K,), else an array without the last axis. `-inf` where all weights are zero; `inf` where
        there is a single one that is not, and `-inf` at order 2 where there are two.

    Raises:
        TautError: "bad-argument" for another order or too few weights.

    Source: Nowozin, "Debiasing evidence approximations: importance-weighted autoencoders and jackknife variational
    inference", ICLR 2018. Its Algorithm 1 divides by K - j where the number of subsets is meant.

    Example:
        >>> round(jackknife([-800.0, -801.0, -799.5], order=1), 4)
        -799.923
    """
    x = np.asarray(log_weights, dtype=np.float64)
    if order not in (0, 1, 2) or x.ndim == 0 or x.shape[-1] <= order:
        raise TautError(
            "bad-argument",
            site="jackknife",
            found=f"order {order!r} and log weights of shape {x.shape}",
            expected="order 0, 1 or 2 and more weights than the order",
            remedy="jackknife(log_weights, order=1)",
        )
    # Largest first: only the first weight of a row can hold more than half of it.
    rows = -np.sort(-x.reshape(-1, x.shape[-1]), axis=-1)
    chunk = max(1, _CELLS // rows.shape[1] ** max(order, 1))
    parts = [_jackknife(rows[i : i + chunk], order) for i in range(0, len(rows), chunk)]
    out = np.concatenate(parts).reshape(x.shape[:-1]) if parts else np.zeros(x.shape[:-1])
    return float(out) if x.ndim == 1 else out


_CELLS = 4_000_000  # numbers held at once: pairs of weights times rows


def _jackknife(x: Floats, order: int) -> Floats:
    full = np.asarray(logmeanexp(x, axis=1))
    if order == 0:
        return full
    size = x.shape[1]
    some = full > -np.inf
    x, out = x[some], full.copy()
    d1 = _leave_one(x).mean(axis=1) - math.log1p(-1 / size)
    change = -(size - 1) * d1
    if order == 2:
        d2 = _leave_two(x).mean(axis=1) - math.log1p(-2 / size)
        second = 0.5 * (size - 2) ** 2 * d2
        alone = np.isinf(
            d1
        )  # a single weight that is not zero: both terms are infinite, the first has the larger factor
        change = (size - 1) * change + np.where(alone, 0.0, second)
    out[some] += change
    return out


def _leave_one(x: Floats) -> Floats:
    """log(sum without i) - log(sum), for every i of every row, largest weight first.

    Only the largest weight can exceed one half, where 1 - w would cancel; the sum without it is taken afresh.
    """
    out = np.empty_like(x)
    out[:, 1:] = np.log1p(-_share(x)[:, 1:])
    out[:, 0] = _log_sum(x[:, 1:]) - _log_sum(x)
    return out


def _leave_two(x: Floats) -> Floats:
    """log(sum without i and j) - log(sum), for every pair i < j of every row, largest weight first.

    A pair without the largest weight leaves that weight, hence no cancellation. A pair with it is the leave-one case of
    the remaining weights, shifted.
    """
    rest = x[:, 1:]
    share = _share(x)[:, 1:]
    i, j = np.triu_indices(rest.shape[1], 1)
    without_top = np.log1p(-(share[:, i] + share[:, j]))
    with_top = np.full_like(rest, -np.inf)
    some = rest[:, 0] > -np.inf
    with_top[some] = _leave_one(rest[some]) + (_log_sum(rest[some]) - _log_sum(x[some]))[:, None]
    return np.concatenate([without_top, with_top], axis=1)


def _share(x: Floats) -> Floats:
    w = np.exp(x - x[:, :1])
    return w / w.sum(axis=1, keepdims=True)


def _log_sum(x: Floats) -> Floats:
    return np.asarray(logmeanexp(x, axis=1)) + math.log(x.shape[1])
