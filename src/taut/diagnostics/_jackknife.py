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
        A float for (K,), else an array without the last axis. `-inf` where all weights are zero; not finite where
        leaving `order` weights out leaves none that is not zero.

    Raises:
        TautError: "bad-argument" for another order or too few weights.

    Source: Nowozin, "Debiasing evidence approximations: importance-weighted autoencoders and jackknife variational
    inference", ICLR 2018. Its Algorithm 1 divides by K - j where the number of subsets is meant.

    Example:
        >>> round(jackknife([-800.0, -801.0, -799.5], order=1), 4)
        -799.9144
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
    rows = x.reshape(-1, x.shape[-1])
    out = np.array([_jackknife(row, order) for row in rows]).reshape(x.shape[:-1])
    return float(out) if x.ndim == 1 else out


def _jackknife(x: Floats, order: int) -> float:
    full = float(logmeanexp(x))
    if order == 0 or full == -math.inf:
        return full
    size = x.size
    d1 = _leave_one(x).mean() - math.log1p(-1 / size)
    if order == 1:
        return full - (size - 1) * float(d1)
    d2 = _leave_two(x).mean() - math.log1p(-2 / size)
    return full - (size - 1) ** 2 * float(d1) + 0.5 * (size - 2) ** 2 * float(d2)


def _leave_one(x: Floats) -> Floats:
    """log(sum without i) - log(sum), for every i.

    Only the largest weight can exceed one half, where 1 - w would cancel; the sum without it is taken afresh.
    """
    top = int(np.argmax(x))
    share = _share(x)
    share[top] = 0.0
    out = np.log1p(-share)
    out[top] = _log_sum(np.delete(x, top)) - _log_sum(x)
    return out


def _leave_two(x: Floats) -> Floats:
    """log(sum without i and j) - log(sum), for every pair i < j.

    A pair without the largest weight leaves that weight, hence no cancellation. A pair with it is the leave-one case of
    the remaining weights, shifted.
    """
    top = int(np.argmax(x))
    rest = np.delete(x, top)
    share = _share(x)
    share = np.delete(share, top)
    i, j = np.triu_indices(rest.size, 1)
    without_top = np.log1p(-(share[i] + share[j]))
    if not np.any(rest > -np.inf):
        return np.full(without_top.size + rest.size, -np.inf)
    with_top = _leave_one(rest) + (_log_sum(rest) - _log_sum(x))
    return np.concatenate([without_top, with_top])


def _share(x: Floats) -> Floats:
    w = np.exp(x - x.max())
    return w / w.sum()


def _log_sum(x: Floats) -> float:
    return float(logmeanexp(x)) + math.log(x.size)
