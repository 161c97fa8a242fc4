"""Draws against a reference: errors of means and sds on the natural and on the unconstrained scale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.posteriordb.reference import Moments, Reference, moments

MEAN_LIMIT = 0.1  # of a reference sd
SD_LIMITS = (0.9, 1.1)
SURE = 3.0  # Monte Carlo standard errors of the reference that are forgiven


class Scale(NamedTuple):
    """Errors on one scale; "largest" is over scalars, and the scalar is named.

    Attributes:
        mean_error: largest |mean - reference| / reference sd.
        mean_at: where.
        sd_low, sd_high: smallest and largest sd / reference sd.
        sd_at: the scalar whose sd is off most, on the log scale.
        beyond: scalars whose mean is off by more than 0.1 sd, or whose sd ratio lies outside 0.9-1.1, by more than
            three Monte Carlo errors of the reference.
        doubtful: scalars off by more than those limits, but within the reference's noise.
    """

    mean_error: float
    mean_at: str
    sd_low: float
    sd_high: float
    sd_at: str
    beyond: tuple[str, ...]
    doubtful: tuple[str, ...]


class Comparison(NamedTuple):
    """One fit against its reference, on both scales."""

    natural: Scale
    unconstrained: Scale

    @property
    def beyond(self) -> tuple[str, ...]:
        """Scalars off on either scale; ``~`` marks the unconstrained one."""
        return self.natural.beyond + tuple(f"~{name}" for name in self.unconstrained.beyond)

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Scalars that may be off on either scale: the reference cannot tell."""
        return self.natural.doubtful + tuple(f"~{name}" for name in self.unconstrained.doubtful)


def compare(draws: Mapping[str, np.ndarray], reference: Reference, support: Mapping[str, str]) -> Comparison:
    """Compare a fit's draws with a reference.

    Args:
        draws: site -> ``float[S, *shape]``.
        reference: what is right.
        support: of the sites that are not real; see `benchmarks.posteriordb.models.Posterior`.

    Returns:
        Errors on the model's own scale and on the unconstrained one.
    """
    found = columns(draws, reference.names)
    kept = [i for i, name in enumerate(reference.names) if not _redundant(name, reference.names, support)]
    names = [reference.names[i] for i in kept]
    told = Moments(*(field[kept] for field in reference.moments))
    natural = _scale(names, moments(found[:, kept]), told)
    here = moments(unconstrain(reference.names, found, support)[:, kept])
    there = surer_moments(
        unconstrain(reference.names, reference.draws, support)[:, kept], reference.draws[:, kept], told
    )
    same = np.array([support.get(_base(name), "real") == "real" for name in names])
    there = Moments(*(np.where(same, sure, other) for sure, other in zip(told, there, strict=True)))
    return Comparison(natural, _scale(names, here, there))


def surer_moments(free: np.ndarray, natural: np.ndarray, told: Moments) -> Moments:
    r"""Moments of transformed draws, with what is told of the untransformed ones as control variates.

    A reference tells mean and sd of $x$ from more draws than it keeps. The controls $x - \mu$ and
    $(x - \mu)^2 - \sigma^2$ have mean zero, so the intercept of a regression on them estimates a mean with the
    residual's variance only; here of $y = \log x$ (say) and of $(y - \bar y)^2$.

    Args:
        free: ``float[n, D]``, transformed draws $y$.
        natural: ``float[n, D]``, the same draws $x$ before.
        told: moments of $x$ from all draws.

    Returns:
        Moments of $y$ with their standard errors.
    """
    columns = []
    for y, x, mean, sd, mcse in zip(free.T, natural.T, told.mean, told.sd, told.mcse_mean, strict=True):
        controls = np.stack([np.ones_like(x), (x - mean) / sd, ((x - mean) / sd) ** 2 - 1], axis=1)
        share = (mcse / sd) ** 2  # one over the number of independent draws behind what is told
        centre, centre_se = _intercept(controls, y, share)
        variance, variance_se = _intercept(controls, (y - centre) ** 2, share)
        spread = np.sqrt(max(variance, 0.0))
        columns.append((centre, spread, centre_se, variance_se / (2 * spread)))
    return Moments(*np.array(columns).T)


def _intercept(controls: np.ndarray, y: np.ndarray, share: float) -> tuple[float, float]:
    """Intercept of a regression, and its standard error when the controls' own means are known up to ``share``."""
    n, k = controls.shape
    slopes = np.linalg.lstsq(controls, y, rcond=None)[0]
    explained = controls[:, 1:] @ slopes[1:]
    residual = float(np.sum((y - slopes[0] - explained) ** 2)) / (n - k)
    return float(slopes[0]), float(np.sqrt(residual / n + np.var(explained) * share))


def columns(draws: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """Scalars ``base[i]`` or ``base[i,j]`` (from 1) of draws by site: ``float64[S, D]`` in the order of ``names``."""
    return np.stack([_column(draws, name) for name in names], axis=1)


def unconstrain(names: tuple[str, ...], draws: np.ndarray, support: Mapping[str, str]) -> np.ndarray:
    r"""The same scalars on the real line.

    $\log x$ (positive), $\log x/(1-x)$ (unit, simplex of two), $\log (x-a)/(b-x)$ (interval), and for ordered vectors
    the first entry ($\log$ of it where positive) and then the logs of the gaps.

    Args:
        names: D scalars, the entries of one site next to each other.
        draws: ``float[n, D]`` inside the supports.
        support: of the sites that are not real.

    Returns:
        ``float64[n, D]``; the last entry of a simplex is not meaningful.
    """
    out = np.array(draws, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        for i, name in enumerate(names):
            kind, x, first = (
                support.get(_base(name), "real"),
                draws[:, i],
                not name.endswith("]") or name.endswith("[1]"),
            )
            if kind == "positive" or (kind == "positive_ordered" and first):
                out[:, i] = np.log(x)
            elif kind in ("ordered", "positive_ordered") and not first:
                out[:, i] = np.log(x - draws[:, i - 1])
            elif kind in ("unit", "simplex"):
                out[:, i] = np.log(x) - np.log1p(-x)
            elif kind.startswith("interval"):
                low, high = (float(end) for end in kind.removeprefix("interval(").removesuffix(")").split(","))
                out[:, i] = np.log(x - low) - np.log(high - x)
    return out


def _scale(names: list[str], found: Moments, told: Moments) -> Scale:
    error = np.abs(found.mean - told.mean) / told.sd
    ratio = found.sd / told.sd
    noise_mean, noise_sd = SURE * told.mcse_mean / told.sd, SURE * told.mcse_sd / told.sd
    low, high = SD_LIMITS
    strict = (error <= MEAN_LIMIT) & (ratio >= low) & (ratio <= high)  # written so that NaN is not fine
    kind = (error <= MEAN_LIMIT + noise_mean) & (ratio >= low - noise_sd) & (ratio <= high + noise_sd)
    worst, spread = int(np.argmax(error)), int(np.argmax(np.abs(np.log(ratio))))  # argmax finds a NaN first
    return Scale(
        mean_error=float(error[worst]),
        mean_at=names[worst],
        sd_low=float(ratio.min()),
        sd_high=float(ratio.max()),
        sd_at=names[spread],
        beyond=tuple(name for name, fine in zip(names, kind) if not fine),
        doubtful=tuple(name for name, fine, sure in zip(names, kind, strict) if fine and not sure),
    )


def _base(name: str) -> str:
    return name.split("[", 1)[0]


def _column(draws: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    index = tuple(int(i) - 1 for i in re.findall(r"\d+", name[len(_base(name)) :]))
    return np.asarray(draws[_base(name)], float)[(slice(None), *index)]


def _redundant(name: str, names: tuple[str, ...], support: Mapping[str, str]) -> bool:
    """The last entry of a simplex follows from the others."""
    base = _base(name)
    return support.get(base) == "simplex" and name == [other for other in names if _base(other) == base][-1]
