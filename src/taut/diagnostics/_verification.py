"""q's draws against draws that were carried to the posterior and moved there: facts for the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from taut.diagnostics._moments import _draws, _labels
from taut.diagnostics._pareto import Floats

ISLANDS = 4
_CUT = 8.0
_SHARP = 0.05  # error of the log sd up to which tails beyond the cut are heard


@dataclass(frozen=True)
class Verification:
    """What a run of SMC from q to the posterior says of q and of itself.

    All shifts and errors are in units of the moved draws' sd; every array is (D,).

    Attributes:
        names: name of each scalar.
        mean_shift: mean of the moved draws minus q's mean, over their sd.
        mean_shift_se: its Monte Carlo standard error.
        log_sd_ratio: log(sd of q / sd of the moved draws): negative where q is too narrow.
        log_sd_ratio_se: its Monte Carlo standard error.
        island_spread: largest range over the islands of a mean, in sds.
        converged: whether averages over rounds of moves stayed.
        log_evidence: log Z, nats.
        log_evidence_se: its standard error.
        funnel_index: number of scalars whose scale one scalar sets.
        gradients: evaluations used.
    """

    names: tuple[str, ...]
    mean_shift: Floats
    mean_shift_se: Floats
    log_sd_ratio: Floats
    log_sd_ratio_se: Floats
    island_spread: float
    converged: bool
    log_evidence: float
    log_evidence_se: float
    funnel_index: int
    gradients: int


def against(
    draws: Mapping[str, ArrayLike], moved: Mapping[str, ArrayLike], particles: int
) -> tuple[tuple[str, ...], Floats, Floats, Floats, Floats, float]:
    r"""q's moments against those of moved particles, with Monte Carlo errors.

    A particle's states are dependent, so each particle's average counts once:
    $\mathrm{se} = \mathrm{sd}_i(\bar x_i) / \sqrt P$, and with $s^2$ the variance, half of that of
    $(x - \bar x)^2 / s^2$ for the log sd.

    Both are cut at eight half-widths of the middle 68 % about the median: beyond, a sample's sd is the size of its
    largest entries. Where the error of the whole sd is under 5 % all the same, the larger of both ratios is told.

    Args:
        draws: name -> (S, *shape) draws of q.
        moved: name -> (T P, *shape), all particles of one moment together, islands in order.
        particles: P.

    Returns:
        Names, shift, its error, log sd ratio, its error, and the largest range of the islands' means.
    """
    arrays = {name: _draws(value) for name, value in draws.items()}
    names = tuple(label for name, value in arrays.items() for label in _labels(name, value.shape[1:]))
    x = np.concatenate([value.reshape(len(value), -1) for value in arrays.values()], axis=1)
    y = np.concatenate([_draws(moved[name]).reshape(len(_draws(moved[name])), -1) for name in arrays], axis=1)
    low, middle, high = np.quantile(y, [0.16, 0.5, 0.84], axis=0)
    reach = _CUT * 0.5 * (high - low)
    whole = _moments(x, y, particles)
    cut = _moments(np.clip(x, middle - reach, middle + reach), np.clip(y, middle - reach, middle + reach), particles)
    use = (whole.ratio_se < _SHARP) & (np.abs(whole.ratio) > np.abs(cut.ratio))
    islands = cut.each.reshape(ISLANDS, -1, x.shape[1]).mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ranges = np.ptp(islands, axis=0) / cut.sd

    def tidy(value: Floats) -> Floats:
        return np.where(cut.fixed, 0.0, np.where(np.isnan(value), np.inf, value))

    return (
        names,
        tidy(cut.shift),
        tidy(cut.shift_se),
        tidy(np.where(use, whole.ratio, cut.ratio)),
        tidy(np.where(use, whole.ratio_se, cut.ratio_se)),
        float(tidy(ranges).max(initial=0.0)),
    )


class _Moments(NamedTuple):
    shift: Floats
    shift_se: Floats
    ratio: Floats
    ratio_se: Floats
    each: Floats  # averages of each particle
    sd: Floats
    fixed: Floats  # neither side varies


def _moments(x: Floats, y: Floats, particles: int) -> _Moments:
    y = y.reshape(-1, particles, x.shape[1])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean, centre = y.mean(axis=(0, 1)), x.mean(axis=0)
        variance, spread = ((y - mean) ** 2).mean(axis=(0, 1)), ((x - centre) ** 2).mean(axis=0)
        sd, each = np.sqrt(variance), y.mean(axis=0)
        square = ((y - mean) ** 2).mean(axis=0) / variance
        fourth = ((x - centre) ** 4).mean(axis=0) / spread**2 - 1.0
        root, count = math.sqrt(particles), len(x)
        return _Moments(
            shift=(mean - centre) / sd,
            shift_se=np.sqrt(each.var(axis=0, ddof=1) / particles + spread / count) / sd,
            ratio=0.5 * np.log(spread / variance),
            ratio_se=0.5 * np.sqrt((square.std(axis=0, ddof=1) / root) ** 2 + fourth / count),
            each=each,
            sd=sd,
            fixed=~(variance > 0.0) & ~(spread > 0.0),
        )
