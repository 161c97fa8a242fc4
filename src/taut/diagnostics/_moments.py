"""Moments of draws, plain or weighted, and how far reweighting moves them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from taut._errors import TautError
from taut.diagnostics._pareto import Floats


@dataclass(frozen=True)
class Comparison:
    """Draws of q against the same draws reweighted to p, scalar by scalar; made by `compare`.

    All shifts and errors are in units of the reweighted sd; every array is (D,).

    Attributes:
        names: name of each scalar: `"tau"`, `"theta[3]"`, `"corr[1,2]"`.
        mean_shift: reweighted mean minus q's mean, over the reweighted sd.
        mean_shift_se: its Monte Carlo standard error.
        log_sd_ratio: log(sd of q / reweighted sd): negative where q is too narrow.
        log_sd_ratio_se: its Monte Carlo standard error.
        mean_se: standard error of the reweighted mean itself, over the reweighted sd.
        mean_spread: range over the batches of the shift, each batch against its own plain mean (0 for one batch).
        log_sd_spread: range over the batches of the log sd ratio (0 for one batch).
    """

    names: tuple[str, ...]
    mean_shift: Floats
    mean_shift_se: Floats
    log_sd_ratio: Floats
    log_sd_ratio_se: Floats
    mean_se: Floats
    mean_spread: Floats
    log_sd_spread: Floats

    @property
    def worst_mean(self) -> int:
        """Index of the scalar whose mean is most surely off: largest |shift| - 2 se."""
        return _most(self.mean_shift, self.mean_shift_se)

    @property
    def worst_sd(self) -> int:
        """Index of the scalar whose sd is most surely off: largest |log sd ratio| - 2 se."""
        return _most(self.log_sd_ratio, self.log_sd_ratio_se)


def _most(value: Floats, se: Floats) -> int:
    with np.errstate(invalid="ignore"):
        surely = np.abs(value) - 2.0 * se
    return int(np.argmax(np.where(np.isnan(surely), np.inf, surely)))


def normalised(log_weights: ArrayLike | None, draws: int) -> Floats:
    """Weights that sum to one; equal ones for None.

    Args:
        log_weights: (draws,) or any shape with that many entries, read in order; `-inf` is zero.
        draws: number of draws they belong to.

    Returns:
        (draws,) weights.

    Raises:
        TautError: "bad-argument" when the numbers differ or every weight is zero.

    Example:
        >>> normalised([0.0, -np.inf], 2).tolist()
        [1.0, 0.0]
    """
    if log_weights is None:
        return np.full(draws, 1.0 / draws)
    x = np.asarray(log_weights, dtype=np.float64).ravel()
    x = np.where(x < np.inf, x, -np.inf)
    top = x.max(initial=-np.inf)
    if x.size != draws or top == -np.inf:
        raise TautError(
            "bad-argument",
            site="log_weights",
            found=f"{x.size} log weights, {np.count_nonzero(x > -np.inf)} of them finite",
            expected=f"{draws} log weights, one for each draw, at least one finite",
            remedy="pass the log weights of these very draws, or None for equal weights",
        )
    w = np.exp(x - top)
    return w / w.sum()


def mean(draws: ArrayLike, log_weights: ArrayLike | None = None) -> Floats:
    r"""$\sum_i \tilde w_i x_i$.

    Args:
        draws: (S, *shape).
        log_weights: (S,), or None for equal weights.

    Returns:
        (*shape).

    Example:
        >>> float(mean([0.0, 1.0], [0.0, np.log(3.0)]))
        0.75
    """
    x = _draws(draws)
    return np.tensordot(normalised(log_weights, len(x)), x, axes=1)


def sd(draws: ArrayLike, log_weights: ArrayLike | None = None) -> Floats:
    r"""$\sqrt{\sum_i \tilde w_i (x_i - \bar x)^2}$, with divisor S for equal weights.

    Args:
        draws: (S, *shape).
        log_weights: (S,), or None for equal weights.

    Returns:
        (*shape), zero for a constant.

    Example:
        >>> float(sd([0.0, 2.0]))
        1.0
    """
    x = _draws(draws)
    w = normalised(log_weights, len(x))
    return np.sqrt(np.tensordot(w, (x - np.tensordot(w, x, axes=1)) ** 2, axes=1))


def quantile(draws: ArrayLike, q: ArrayLike, log_weights: ArrayLike | None = None) -> Floats:
    r"""Weighted quantiles, linear between draws; equal weights give NumPy's default.

    Draw i of the sorted draws stands at the middle of its mass, $W_i - w_i / 2$ with W the running sum, stretched so
    that the first stands at 0 and the last at 1: $(i-1)/(S-1)$ for equal weights.

    Args:
        draws: (S, *shape).
        q: probabilities in [0, 1], any shape.
        log_weights: (S,), or None for equal weights.

    Returns:
        (*shape of q, *shape).

    Example:
        >>> float(quantile([3.0, 1.0, 2.0], 0.5))
        2.0
    """
    x = _draws(draws)
    probability = np.asarray(q, dtype=np.float64)
    if log_weights is None:
        return np.asarray(np.quantile(x, probability, axis=0))
    w = normalised(log_weights, len(x))
    flat = x[w > 0.0].reshape(np.count_nonzero(w), -1)
    w = w[w > 0.0]
    out = np.empty((probability.size, flat.shape[1]))
    for column in range(flat.shape[1]):
        order = np.argsort(flat[:, column], kind="stable")
        mass = w[order]
        middle = np.cumsum(mass) - 0.5 * mass
        # The first draw stands at 0 and the last at 1, so that q = 0 and q = 1 are the extremes.
        span = middle[-1] - middle[0]
        place = (middle - middle[0]) / span if span > 0.0 else np.zeros_like(middle)
        out[:, column] = np.interp(probability.ravel(), place, flat[order, column])
    return out.reshape((*probability.shape, *x.shape[1:]))


def cov(first: ArrayLike, second: ArrayLike, log_weights: ArrayLike | None = None) -> Floats:
    r"""$\sum_i \tilde w_i (a_i - \bar a)(b_i - \bar b)$ for every pair of scalars.

    Args:
        first: (S, *a).
        second: (S, *b), the same draws.
        log_weights: (S,), or None for equal weights.

    Returns:
        (*a, *b).

    Example:
        >>> float(cov([0.0, 2.0], [0.0, 4.0]))
        2.0
    """
    a, b = _draws(first), _draws(second)
    w = normalised(log_weights, len(a))
    a = a - np.tensordot(w, a, axes=1)
    b = b - np.tensordot(w, b, axes=1)
    pairs = (w[:, None] * a.reshape(len(a), -1)).T @ b.reshape(len(b), -1)
    return pairs.reshape(a.shape[1:] + b.shape[1:])


def compare(draws: Mapping[str, ArrayLike], log_weights: ArrayLike) -> Comparison:
    r"""How far reweighting moves every scalar's mean and sd, with Monte Carlo errors.

    With $u_i = w_i / \bar w$, m and s the reweighted mean and sd and y the draws standardised by q's own mean and sd,
    the errors are those of the influence functions $u (y - m) - y$ for the shift and
    $\tfrac12 [u ((y-m)^2/s^2 - 1) - (y^2 - 1)]$ for the log ratio: the same draws serve both sides, so what is common
    cancels, and weights that are all equal give a shift and an error of exactly zero.

    Args:
        draws: name -> (S, *shape) draws of q, best on an unconstrained scale, where mean and sd describe a marginal.
        log_weights: log p - log q of these draws in their order, (batches, S / batches) or (S,).

    Returns:
        `Comparison`; a scalar that does not vary under q has shift and ratio zero.

    Raises:
        TautError: "bad-argument" when the numbers of draws and weights differ or all weights are zero.

    Source: self-normalised importance sampling by the delta method: Owen, "Monte Carlo theory", section 9.2.

    Example:
        >>> z = np.random.default_rng(0).normal(size=16000)
        >>> c = compare({"z": z}, 0.3 * z)  # tilting N(0, 1) moves its mean by 0.3
        >>> round(float(c.mean_shift[0]), 1)
        0.3
    """
    logs = np.atleast_2d(np.asarray(log_weights, dtype=np.float64))
    arrays = {name: _draws(value) for name, value in draws.items()}
    names = tuple(label for name, value in arrays.items() for label in _labels(name, value.shape[1:]))
    x = np.concatenate([value.reshape(len(value), -1) for value in arrays.values()], axis=1)
    count = len(x)
    u = normalised(logs, count) * count
    centre, scale = x.mean(axis=0), x.std(axis=0)
    fixed = ~(scale > 0.0)
    y = (x - centre) / np.where(fixed, 1.0, scale)
    y2 = y * y
    # Plain, reweighted and squared-weight averages of the powers 1 to 4 of every scalar.
    rows = np.stack([np.ones(count), u, u * u]) / count
    sums = np.stack([rows @ y, rows @ y2, rows @ (y * y2), rows @ (y2 * y2)], axis=1)
    (_, _, _, plain4), (m, p2, p3, p4), (s1, s2, s3, s4) = sums
    s0 = float((u * u).mean())
    with np.errstate(divide="ignore", invalid="ignore"):
        var = p2 - m * m
        var = np.where(var > 1e-12, var, np.nan)  # one draw holds all the weight: no sd can be told
        s = np.sqrt(var)
        reweighted = s2 - 2 * m * s1 + m * m * s0
        shift = reweighted - 2 * p2 + 2 * m * m + 1.0
        # u a - b with a = c2 y^2 + c1 y + c0 the standardised square under p, and b = y^2 - 1 the same under q.
        c2, c1, c0 = 1 / var, -2 * m / var, (m * m - var) / var
        square = (
            c2 * c2 * s4 + 2 * c2 * c1 * s3 + (c1 * c1 + 2 * c2 * c0) * s2 + 2 * c1 * c0 * s1 + c0 * c0 * s0
            - 2 * (c2 * (p4 - p2) + c1 * (p3 - m) + c0 * (p2 - 1.0))
            + plain4 - 1.0
        )  # fmt: skip
        mean_spread, log_sd_spread = _between(y, y2, u.reshape(logs.shape), s)

        def tidy(value: Floats) -> Floats:
            return np.where(fixed, 0.0, np.where(np.isnan(value), np.inf, value))

        return Comparison(
            names=names,
            mean_shift=tidy(m / s),
            mean_shift_se=tidy(np.sqrt(np.maximum(shift, 0.0) / count) / s),
            log_sd_ratio=tidy(-np.log(s)),
            log_sd_ratio_se=tidy(0.5 * np.sqrt(np.maximum(square, 0.0) / count)),
            mean_se=tidy(np.sqrt(np.maximum(reweighted, 0.0) / count) / s),
            mean_spread=tidy(mean_spread),
            log_sd_spread=tidy(log_sd_spread),
        )


def _between(y: Floats, y2: Floats, u: Floats, s: Floats) -> tuple[Floats, Floats]:
    """Range over the batches of what reweighting does to a mean (in reweighted sds) and to a log sd."""
    batches, size = u.shape
    if batches == 1:
        return np.zeros(y.shape[1]), np.zeros(y.shape[1])
    total = u.sum(axis=1)
    w = (u / np.where(total > 0.0, total, np.nan)[:, None])[:, None, :]
    rows = np.concatenate([w, np.full_like(w, 1.0 / size)], axis=1)
    first = rows @ y.reshape(batches, size, -1)
    second = rows @ y2.reshape(batches, size, -1)
    var = second - first * first
    log_sd = 0.5 * np.log(np.where(var > 1e-12, var, np.nan))
    return np.ptp(first[:, 0] - first[:, 1], axis=0) / s, np.ptp(log_sd[:, 0] - log_sd[:, 1], axis=0)


def _draws(value: ArrayLike) -> Floats:
    x = np.asarray(value, dtype=np.float64)
    if x.ndim == 0 or len(x) == 0:
        raise TautError(
            "bad-argument",
            site="draws",
            found=f"shape {x.shape}",
            expected="draws on the first axis, at least one",
            remedy="draws of shape (S, *shape)",
        )
    return x


def _labels(name: str, shape: tuple[int, ...]) -> list[str]:
    size = math.prod(shape)
    if not shape:
        return [name]
    return [f"{name}[{','.join(str(int(k)) for k in np.unravel_index(i, shape))}]" for i in range(size)]
