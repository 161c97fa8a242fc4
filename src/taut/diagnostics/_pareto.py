"""Tail of importance weights: the generalised Pareto fit, k-hat and Pareto-smoothed log weights.

arviz-stats has the same estimators; importing it takes most of the time budget of a whole fit, so the forty lines that
a verdict needs live here, in NumPy, and the tests hold them against arviz-stats to rounding error.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Spread of log weights below which they are one number seen through rounding error: such weights have no tail to fit.
_CONSTANT = 1e-9


def khat_limit(draws: int) -> float:
    r"""Largest k-hat at which `draws` weighted draws can be relied on.

    $$\min(1 - 1 / \log_{10} S,\ 0.7)$$

    Args:
        draws: number S of draws.

    Returns:
        The limit; 0.5 at S = 100, 0.67 at 1,000, 0.7 from about 2,200 on. Never negative.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto smoothed importance sampling", JMLR 25 (2024).

    Example:
        >>> round(khat_limit(1000), 4)
        0.6667
    """
    return 0.0 if draws <= 10 else min(1.0 - 1.0 / math.log10(draws), 0.7)


def fit_pareto(excess: ArrayLike) -> tuple[float, float]:
    r"""Shape and scale of a generalised Pareto distribution, by Zhang and Stephens' empirical Bayes estimate.

    $$p(x) = \sigma^{-1} (1 + k x / \sigma)^{-1/k - 1}$$

    The profile likelihood is averaged over a grid of $b = -k / \sigma$, then k is shrunk towards 1/2 with the weight of
    ten observations.

    Args:
        excess: values above the threshold, ascending, (n,), with a positive first quartile.

    Returns:
        (k, sigma); k is NaN where the data determine no fit.

    Source: Zhang and Stephens, Technometrics 51 (2009); the shrinkage: Vehtari et al., JMLR 25 (2024), appendix C.

    Example:
        >>> x = np.sort(np.random.default_rng(0).pareto(2.0, 4000))  # k = 1/2, sigma = 1/2
        >>> [round(v, 1) for v in fit_pareto(x)]
        [0.5, 0.5]
    """
    x = np.asarray(excess, dtype=np.float64)
    n = x.size
    size = 30 + int(math.sqrt(n))
    grid = 1.0 - np.sqrt(size / (np.arange(1, size + 1) - 0.5))
    b = grid / (3.0 * x[int(n / 4 + 0.5) - 1]) + 1.0 / x[-1]
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        profile = n * (np.log(-b / k) - k - 1.0)
    profile = np.where(np.isfinite(profile), profile, -np.inf)
    if not np.any(profile > -np.inf):
        return math.nan, math.nan
    weight = np.exp(profile - profile.max())
    mean_b = float(np.sum(b * weight) / weight.sum())
    shape = float(np.log1p(-mean_b * x).mean())
    return (n * shape + 5.0) / (n + 10.0), -shape / mean_b


def khat(log_weights: ArrayLike) -> float:
    r"""Tail index of importance weights: their moments of order below 1 / k exist.

    Args:
        log_weights: log p - log q at draws of q, any shape, (S,) in all; `-inf` is a weight of zero.

    Returns:
        k-hat; `-inf` when the weights are all equal (no tail), `inf` when one or a few weights hold everything or fewer
        than 25 draws are given.

    Source: Vehtari et al., JMLR 25 (2024); Yao, Vehtari, Simpson and Gelman, ICML 2018.

    Example:
        >>> khat(np.full(1000, -800.0))
        -inf
    """
    return psis(log_weights)[1]


def psis(log_weights: ArrayLike) -> tuple[Floats, float]:
    r"""Pareto-smoothed importance weights.

    The largest $\min(S/5, 3 \sqrt S)$ weights are replaced by quantiles of the generalised Pareto distribution fitted
    to them, cut at the largest raw weight.

    Args:
        log_weights: log p - log q at draws of q, any shape; `-inf` is a weight of zero.

    Returns:
        Log weights of the same shape whose exponentials sum to one, and k-hat (see `khat`). Weights without a tail that
        can be fitted come back normalised and otherwise untouched. If every weight is zero, all are `-inf` and k-hat is
        `inf`.

    Source: Vehtari et al., JMLR 25 (2024).

    Example:
        >>> smooth, k = psis(np.random.default_rng(0).normal(size=4000))
        >>> round(float(np.exp(smooth).sum()), 12), k < 0.7
        (1.0, True)
    """
    given = np.asarray(log_weights, dtype=np.float64)
    x = np.where(np.isnan(given), -np.inf, given).ravel()
    top = x.max(initial=-np.inf)
    if not np.isfinite(top):
        return np.full(given.shape, -np.inf), math.inf
    x = x - top
    k = _smooth_tail(x)
    return (x - math.log(np.exp(x).sum())).reshape(given.shape), k


def lower_tail_khat(log_weights: ArrayLike) -> float:
    r"""Tail index of -log w: whether the average of log weights, the ELBO, has a mean to converge to.

    Args:
        log_weights: log p - log q at draws of q, any shape.

    Returns:
        k-hat of the lower tail on the log scale. Below 1 the mean exists, below 1/2 its standard error does. `-inf` for
        equal weights, `inf` when a weight is zero or fewer than 25 are given.

    Example:
        >>> x = np.random.default_rng(0).standard_cauchy(16000)
        >>> lower_tail_khat(-0.5 * x**2) > 1.0
        True
    """
    x = -np.asarray(log_weights, dtype=np.float64).ravel()
    tail = _tail_size(x.size)
    if tail < 5 or not np.all(np.isfinite(x)):
        return math.inf
    top = np.sort(np.partition(x, x.size - tail - 1)[x.size - tail - 1 :])
    excess = top[1:] - top[0]
    if excess[-1] < _CONSTANT:
        return -math.inf
    if excess[int(tail / 4 + 0.5) - 1] <= 0.0:
        return math.inf
    k = fit_pareto(excess)[0]
    return math.inf if math.isnan(k) else k


def _tail_size(n: int) -> int:
    return int(3.0 * math.sqrt(n)) if n > 225 else n // 5


def _smooth_tail(x: Floats) -> float:
    """Smooth the tail of log weights with maximum 0 in place; return k-hat."""
    if x.min() > -_CONSTANT:
        return -math.inf
    n = x.size
    tail = _tail_size(n)
    if tail < 5:
        return math.inf
    order = np.argpartition(x, n - tail - 1)[n - tail - 1 :]
    order = order[np.argsort(x[order])]
    cutoff, order = math.exp(x[order[0]]), order[1:]
    excess = np.exp(x[order]) - cutoff
    if excess[-1] < _CONSTANT:
        return -math.inf
    if excess[int(tail / 4 + 0.5) - 1] <= 0.0:
        return math.inf
    k, scale = fit_pareto(excess)
    if not (math.isfinite(k) and scale > 0.0):
        return math.inf
    p = np.arange(0.5, tail) / tail
    above = -scale * np.log1p(-p) if k == 0.0 else scale * np.expm1(-k * np.log1p(-p)) / k
    x[order] = np.minimum(np.log(cutoff + above), 0.0)
    return k
