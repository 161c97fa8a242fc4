"""Jackknifed log evidence of many rows of weights at once, on the host."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from taut._errors import TautError
from taut.diagnostics._pareto import Floats
from taut.objectives import jackknifed

_CELLS = 4_000_000  # numbers held at once: sets of weights times rows


def jackknife(log_weights: ArrayLike, order: int = 1) -> Floats | float:
    r"""Log evidence from K weights with bias $O(K^{-(m+1)})$, m the order. Not a bound: the bias may be positive.

    $$\mathcal L^{(m)} = \sum_{j=0}^m (-1)^j \frac{(K - j)^m}{(m - j)!\, j!}\, \bar{\mathcal L}_{K-j}$$

    where $\bar{\mathcal L}_{K-j}$ is the average of log mean exp over all ways of leaving j weights out; computed
    without cancellation, see `taut.objectives.JVI`.

    Args:
        log_weights: (..., K); the last axis is jackknifed.
        order: 0 (log mean exp itself) to 3.

    Returns:
        A float for (K,), else an array without the last axis. `-inf` where all weights are zero; where at most m are
        not, `inf` for an odd number of them and `-inf` for an even one.

    Raises:
        TautError: "bad-argument" for another order or too few weights.

    Source: Nowozin, "Debiasing evidence approximations: importance-weighted autoencoders and jackknife variational
    inference", ICLR 2018. Its Algorithm 1 divides by K - j where the number of subsets is meant.

    Example:
        >>> round(jackknife([-800.0, -801.0, -799.5], order=1), 4)
        -799.923
    """
    x = np.asarray(log_weights, dtype=np.float64)
    if order not in (0, 1, 2, 3) or x.ndim == 0 or x.shape[-1] <= order:
        raise TautError(
            "bad-argument",
            site="jackknife",
            found=f"order {order!r} and log weights of shape {x.shape}",
            expected="order 0, 1, 2 or 3 and more weights than the order",
            remedy="jackknife(log_weights, order=1)",
        )
    rows = x.reshape(-1, x.shape[-1])
    chunk = max(1, _CELLS // rows.shape[1] ** max(order, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [jackknifed(rows[i : i + chunk].T, order, np) for i in range(0, len(rows), chunk)]
    out = np.concatenate(parts).reshape(x.shape[:-1]) if parts else np.zeros(x.shape[:-1])
    return float(out) if x.ndim == 1 else out
