"""What importance weights say: evidence, ELBO, their difference KL(q || p), and how far to believe each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from taut._errors import TautError
from taut.diagnostics._pareto import Floats, khat, lower_tail_khat


@dataclass(frozen=True)
class Weighing:
    """Facts read off log weights at fresh draws of q; made by `weigh`. Everything is in nats unless said otherwise.

    Attributes:
        log_evidence: log mean exp of all log weights.
        log_evidence_se: its standard error: the larger of the delta method's and the batches'.
        elbo: mean log weight, on draws the fit has not seen.
        elbo_se: its standard error.
        kl: log_evidence - elbo, which estimates KL(q || p). Too low when q misses part of p.
        kl_se: its standard error.
        khats: k-hat of each batch.
        khat: the largest of them.
        batch_log_evidence: log mean exp of each batch.
        evidence_spread: largest minus smallest of them; 0 for a single batch, which shows no spread.
        ess: (sum w)^2 / sum w^2, in draws.
        batches: number of batches.
        n: number of draws in all.
        elbo_khat: k-hat of the tail of -log w; from 0.7 on the ELBO's average is unreliable, from 1 it has no mean.
        zeros: number of draws with weight zero (density zero or not finite).
        nans: how many of those were NaN or +inf before they were counted as zero.
    """

    log_evidence: float
    log_evidence_se: float
    elbo: float
    elbo_se: float
    kl: float
    kl_se: float
    khats: tuple[float, ...]
    khat: float
    batch_log_evidence: tuple[float, ...]
    evidence_spread: float
    ess: float
    batches: int
    n: int
    elbo_khat: float
    zeros: int
    nans: int


def logmeanexp(log_weights: ArrayLike, axis: int | None = None) -> Floats | float:
    r"""$\log \frac1K \sum_i \exp x_i$, with the maximum taken out before anything is exponentiated.

    Args:
        log_weights: any shape.
        axis: axis to average over; all of them by default.

    Returns:
        A float (axis None) or an array without `axis`; `-inf` where every entry is `-inf`.

    Example:
        >>> round(logmeanexp([-800.0, -801.0]), 3)
        -800.38
    """
    x = np.asarray(log_weights, dtype=np.float64)
    x = x.ravel() if axis is None else np.moveaxis(x, axis, -1)
    top = x.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    total = np.exp(x - shift).mean(axis=-1)
    with np.errstate(divide="ignore"):
        out = np.log(total) + shift[..., 0]
    return float(out) if axis is None else out


def weigh(log_weights: ArrayLike) -> Weighing:
    r"""Weigh fresh draws of q: evidence, ELBO, KL(q || p), k-hat and effective sample size.

    $$\log \hat Z = \log \tfrac1n \sum_i w_i, \qquad
      \widehat{\mathrm{KL}} = \log \hat Z - \tfrac1n \sum_i \log w_i$$

    Standard errors come from the influence functions $w_i/\bar w - 1$ and
    $w_i/\bar w - 1 - (\log w_i - \text{ELBO})$, and are raised to the one that the spread over the batches gives when
    that is larger.

    Args:
        log_weights: log p - log q at draws of q that the fit has not used, (batches, n); one batch may be (n,).
            `-inf` is a weight of zero. NaN and +inf count as zero too, and are counted in `nans`.

    Returns:
        `Weighing`. With every weight zero: evidence and ELBO `-inf`, KL and k-hat `inf`, ess 0. With some: ELBO `-inf`
        and KL `inf`, which is what they are. Standard errors of infinite figures are `inf`. No field is ever NaN.

    Raises:
        TautError: "bad-argument" unless there are at least two log weights in one or two dimensions.

    Source: Yao, Vehtari, Simpson and Gelman, "Yes, but did it work?", ICML 2018; Owen, "Monte Carlo theory", chapter 9.

    Example:
        >>> w = weigh(np.full((4, 1000), -31.0))
        >>> w.log_evidence, w.kl, w.ess
        (-31.0, 0.0, 4000.0)
    """
    given = np.atleast_2d(np.asarray(log_weights, dtype=np.float64))
    if given.ndim != 2 or given.size < 2:
        raise TautError(
            "bad-argument",
            site="log_weights",
            found=f"shape {np.shape(log_weights)}",
            expected="(batches, n) log weights, at least two in all",
            remedy="weigh(log_weights.reshape(4, -1))",
        )
    bad = ~(given < np.inf)
    x = np.where(bad, -np.inf, given) if bad.any() else given
    batches, n = x.shape[0], x.size
    zeros, nans = int(np.count_nonzero(x == -np.inf)), int(np.count_nonzero(bad))
    khats = tuple(khat(row) for row in x)
    by_batch = np.asarray(logmeanexp(x, axis=1))
    log_z = float(logmeanexp(by_batch))  # batches have equal sizes
    spread = float(by_batch.max() - by_batch.min()) if np.all(np.isfinite(by_batch)) else math.inf
    if zeros == n:
        return Weighing(
            -math.inf, math.inf, -math.inf, math.inf, math.inf, math.inf, khats, math.inf,
            tuple(by_batch.tolist()), math.inf, 0.0, batches, n, math.inf, zeros, nans,
        )  # fmt: skip
    w = np.exp(x - log_z)
    root = math.sqrt(n)
    log_z_se = max(float(w.std()) / root, _se(by_batch))
    if zeros:
        elbo, elbo_se, kl, kl_se = -math.inf, math.inf, math.inf, math.inf
    else:
        # From the top: averaging -800 +- 1 must not cost digits, nor -1e300 overflow.
        top = float(x.max())
        below = x - top
        means = top + below.mean(axis=1)
        elbo = float(means.mean())
        # log w has the moments that w may lack: the ELBO's error needs no help from the batches.
        elbo_se = _sd(below) / root
        kl = log_z - elbo
        kl_se = max(_sd(w - below) / root, _se(by_batch - means))
    return Weighing(
        log_evidence=log_z,
        log_evidence_se=log_z_se,
        elbo=elbo,
        elbo_se=elbo_se,
        kl=kl,
        kl_se=kl_se,
        khats=khats,
        khat=max(khats),
        batch_log_evidence=tuple(by_batch.tolist()),
        evidence_spread=spread,
        ess=n * n / float((w * w).sum()) if math.isfinite(log_z) else 0.0,
        batches=batches,
        n=n,
        elbo_khat=lower_tail_khat(x),
        zeros=zeros,
        nans=nans,
    )


def _sd(x: Floats) -> float:
    scale = float(np.abs(x).max())
    return scale * float((x / scale).std()) if scale > 0.0 else 0.0


def _se(by_batch: Floats) -> float:
    if by_batch.size < 2:
        return 0.0
    if not np.all(np.isfinite(by_batch)):
        return math.inf
    return float(by_batch.std(ddof=1)) / math.sqrt(by_batch.size)
