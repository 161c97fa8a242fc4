"""Means, sds and quantiles of draws, weighted or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PROBABILITIES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, eq=False)
class Weights:
    """Normalised importance weights.

    Args:
        values: ``(S,)``, non-negative, summing to one.
        ess: effective sample size, 1 / sum of squares.
        dropped: how many log weights were NaN or +inf and were given no weight.
    """

    values: np.ndarray
    ess: float
    dropped: int


def normalise(log_weights: np.ndarray | None) -> Weights | None:
    """Weights that sum to one, w = exp(lw - max lw) / sum; None when no draw can carry weight.

    Args:
        log_weights: ``(S,)``; -inf is a weight of zero, NaN and +inf count as dropped.

    Returns:
        The weights, or None if there are no log weights or none of them is finite.
    """
    if log_weights is None:
        return None
    lw = np.asarray(log_weights, dtype=np.float64)
    finite = np.isfinite(lw)
    if not finite.any():
        return None
    dropped = int(np.count_nonzero(~finite & (lw != -np.inf)))
    w = np.exp(np.where(finite, lw, -np.inf) - lw[finite].max())
    w /= w.sum()
    return Weights(w, float(1.0 / np.square(w).sum()), dropped)


def figures(
    draws: np.ndarray, weights: np.ndarray | None, probabilities: tuple[float, ...] = PROBABILITIES
) -> np.ndarray:
    """Mean, sd and quantiles of each column.

    The mean is sum w x, the sd the root of sum w (x - mean)^2, a quantile the smallest draw whose cumulative
    weight reaches p (the inverse of the weighted distribution function).

    Args:
        draws: ``(S, N)``.
        weights: ``(S,)`` summing to one, or None for equal weights.
        probabilities: the quantiles wanted, each within (0, 1).

    Returns:
        ``(N, 2 + len(probabilities))``; a column with a NaN draw of positive weight gives NaN.
    """
    x = np.ascontiguousarray(np.asarray(draws, dtype=np.float64).T)  # (N, S): sorting along memory is faster
    if weights is not None:
        kept = weights > 0  # a draw without weight may be anything, NaN included
        if not kept.all():
            x, weights = x[:, kept], weights[kept]
    count = x.shape[1]
    out = np.empty((len(x), 2 + len(probabilities)))
    with np.errstate(invalid="ignore", over="ignore"):  # infinite draws give a NaN sd, which is what we show
        out[:, 0] = x.mean(axis=1) if weights is None else x @ weights
        squares = np.square(x - out[:, :1])
        out[:, 1] = np.sqrt(squares.mean(axis=1) if weights is None else squares @ weights)
    # The slack of 1e-12 keeps a cumulative weight of 0.05 - 1e-17 from counting as short of 0.05.
    if weights is None:
        ranks = [max(int(np.ceil(p * count - 1e-12 * count)) - 1, 0) for p in probabilities]
        out[:, 2:] = np.partition(x, sorted(set(ranks)), axis=1)[:, ranks]
    else:
        for values, row in zip(x, out, strict=True):
            order = np.argsort(values)
            ranks = np.searchsorted(np.cumsum(weights[order]), np.asarray(probabilities) - 1e-12)
            row[2:] = values[order[np.minimum(ranks, count - 1)]]
    out[np.isnan(x).any(axis=1)] = np.nan
    return out
