"""Whether particles have settled, and whether their shape is one that moves of fixed scale can follow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MOVE = 0.03  # of an sd, or of a variance: a drift that does not matter
_SURE = 3.3  # standard errors forgiven
# A drift of this size must show: of a mean in sds, of a variance in variances.
_POWER = np.array([[0.15], [0.35]])
_GAP = 0.15  # from q, of an sd or of a variance, from which on a scalar is watched by itself
_SHARE = 0.05
_SHARP = np.array([[0.04], [0.06]])  # largest error of a move of such a scalar
_CUT = 6.0
_RANK_CORRELATION = 0.2


class Scale:
    """Fixed units in which averages are watched: about the median, in half the width of the middle 68 %, cut at 6.

    Without the cut a scalar whose variance is hardly finite, such as the leaves of a funnel in the model's own
    coordinates, would drown every drift in the noise of its largest values.
    """

    def __init__(self, z: np.ndarray):
        low, self.centre, high = np.quantile(z, [0.16, 0.5, 0.84], axis=0)
        self.unit = np.maximum(0.5 * (high - low), 1e-300)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """``z`` in these units."""
        return np.clip((z - self.centre) / self.unit, -_CUT, _CUT)


class Round(NamedTuple):
    """Per-particle averages over the moves of a round: of ``x`` and of ``x^2`` in fixed units, ``(P, D)``."""

    first: np.ndarray
    second: np.ndarray


class Drift(NamedTuple):
    """How far round averages moved, ``(2, D)``: of z in sds and of z^2 in variances; the standard errors; and how far
    the later round is from q in the same units."""

    moved: np.ndarray
    se: np.ndarray
    gap: np.ndarray

    def settled(self, *, sharp: bool = True) -> bool:
        """Whether no average moved by more than 0.03 + 3.3 standard errors; if sharp, with errors that would show it.

        A scalar that was carried far from q and is still on its way must not hide in that allowance: where the gap
        counts, what one round added to it is at most 0.03 or a twentieth, and one standard error; and that error is at
        most 0.04 of an sd, 0.06 of a variance.
        """
        still = bool(np.all(np.abs(self.moved) < _MOVE + _SURE * self.se))
        if not sharp:
            return still
        far = np.abs(self.gap) > _GAP
        ahead = self.moved * np.sign(self.gap)
        onward = (ahead > np.maximum(_MOVE, _SHARE * np.abs(self.gap)) + self.se) | (self.se > _SHARP)
        return still and bool(np.all((_SURE * self.se < _POWER) & ~(far & onward)))

    @property
    def worst(self) -> int:
        """The scalar that moved most beyond its error."""
        return int(np.argmax((np.abs(self.moved) - _SURE * self.se).max(0)))


def drift(before: Round, after: Round, start: np.ndarray) -> Drift:
    """Differences of round averages, paired over particles, in units of the particles' own sds.

    Args:
        before: of the earlier round.
        after: of the later one.
        start: draws of q in the same units, ``(P, D)``.
    """
    n = len(after.first)
    mean = after.first.mean(0)
    variance = np.maximum((after.second - 2 * mean * after.first).mean(0) + mean**2, 1e-300)
    sd = np.sqrt(variance)
    ones = (after.first - before.first) / sd
    # second moments about one centre, so that a moving mean does not count twice
    twos = (after.second - before.second - 2 * mean * (after.first - before.first)) / variance
    both = np.stack([ones, twos])
    gap = np.stack([(mean - start.mean(0)) / sd, 1.0 - ((start - mean) ** 2).mean(0) / variance])
    return Drift(both.mean(1), both.std(1, ddof=1) / np.sqrt(n), gap)


def funnel_index(z: np.ndarray) -> int:
    r"""How many scalars one scalar sets the scale of.

    .. math:: \max_j \#\{i \ne j : |\operatorname{rankcorr}(|r_i|, z_j)| > 0.2\}

    with $r_i$ the residual of $z_i$ regressed on all others. A Gaussian gives 0; the neck of a funnel gives the number
    of its leaves, and moves of one scale cannot follow it.

    Args:
        z: draws ``(n, D)``.
    """
    n, d = z.shape
    if d < 2 or n < 2 * d or n < 10:
        return 0
    x = z - z.mean(0)
    sd = x.std(0)
    if not np.all(sd > 0):
        return 0
    x = x / sd
    precision = np.linalg.pinv(x.T @ x / n)
    residual = np.abs(x @ precision)
    a, b = _ranks(residual), _ranks(x)
    correlation = np.abs(a.T @ b) / n
    np.fill_diagonal(correlation, 0.0)
    return int((correlation > _RANK_CORRELATION).sum(0).max())


def _ranks(x: np.ndarray) -> np.ndarray:
    r = np.argsort(np.argsort(x, axis=0), axis=0).astype(float)
    return (r - r.mean(0)) / r.std(0)
