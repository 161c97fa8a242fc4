"""What is true of a target: moments on the reported and on the unconstrained scale, and the log evidence.

Three sources, all independent of taut: closed forms, quadrature on a grid (the trapezoid rule, whose error falls
exponentially for smooth densities that vanish at the ends), and independent draws by construction with their error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from benchmarks.posteriordb.compare import unconstrain
from benchmarks.posteriordb.reference import Moments

HELD = 16_000  # draws of a fit: a sample sd of this many exact ones is off by this much, too
KURTOSIS = (20.0, 1000.0)  # from the first on that error is stated; from the second on natural moments are not judged
DRAWS = 10**6
_CHUNK = 50_000


class Scalars(NamedTuple):
    """One site: moments on its own scale and on the real line, each field shaped like the site; NaN is not judged."""

    natural: Moments
    free: Moments


class Truth(NamedTuple):
    """A target's truth.

    Attributes:
        names: D scalars such as ``x[1]``, the entries of a site next to each other.
        natural, free: their moments on the reported and on the unconstrained scale; NaN is not judged.
        log_evidence: in nats; NaN where it is not known.
    """

    names: tuple[str, ...]
    natural: Moments
    free: Moments
    log_evidence: float


def truth(log_evidence: float, **sites: Scalars) -> Truth:
    """Lay sites side by side, in the order given."""
    names = tuple(name for site, told in sites.items() for name in scalars(site, np.shape(told.natural.mean)))
    sides = [
        Moments(*(np.concatenate([np.ravel(side[field]) for side in told]) for field in range(4)))
        for told in zip(*sites.values(), strict=True)
    ]
    return Truth(names, sides[0], sides[1], float(log_evidence))


def scalars(site: str, shape: tuple[int, ...]) -> list[str]:
    """Names of a site's scalars; indices start at 1."""
    if not shape:
        return [site]
    return [f"{site}[{','.join(str(i + 1) for i in index)}]" for index in product(*map(range, shape))]


def exact(mean: Any, sd: Any, free_mean: Any = None, free_sd: Any = None) -> Scalars:
    """Moments known exactly; without the last two the unconstrained scale is the reported one."""
    natural = _sure(mean, sd)
    return Scalars(natural, natural if free_mean is None else _sure(free_mean, free_sd))


def heavy(mean: Any, sd: Any, kurtosis: float, free_mean: Any, free_sd: Any, sd_error: float | None = None) -> Scalars:
    """Heavy tails: the sd of `HELD` exact draws is itself uncertain, or means nothing.

    Args:
        mean, sd: on the reported scale; of any value where they do not exist.
        kurtosis: fourth moment over squared variance, 3 for a normal; ``inf`` where it does not exist.
        free_mean, free_sd: of the inverse hyperbolic sine, where every moment exists.
        sd_error: spread of the sd of `HELD` exact draws over the sd, where the kurtosis is infinite.

    Returns:
        Natural moments with that spread as their error, or NaN.
    """
    natural = _sure(mean, sd)
    if sd_error is None and kurtosis > KURTOSIS[0]:
        sd_error = float(np.sqrt((kurtosis - 1) / (4 * HELD))) if kurtosis < KURTOSIS[1] else np.nan
    if sd_error is not None:
        natural = natural._replace(mcse_sd=natural.sd * sd_error) if np.isfinite(sd_error) else _unknown(natural)
    return Scalars(natural, _sure(free_mean, free_sd))


def free_scale(names: tuple[str, ...], values: np.ndarray, support: Mapping[str, str]) -> np.ndarray:
    r"""Scalars on the unconstrained scale; for ``heavy`` it is $\sinh^{-1} x$, for others see `unconstrain`."""
    out = unconstrain(names, values, support)
    wild = [i for i, name in enumerate(names) if support.get(name.split("[", 1)[0]) == "heavy"]
    out[:, wild] = np.arcsinh(values[:, wild])
    return out


def weights(log_density: np.ndarray, cell: float) -> tuple[np.ndarray, float]:
    """Weights of grid points and the log integral: the trapezoid rule.

    Args:
        log_density: of the grid points, unnormalised, along coordinates on the real line, any shape.
        cell: length, area or volume of a cell.

    Returns:
        Weights that sum to one, flat; log integral.
    """
    flat = np.nan_to_num(np.ravel(log_density), nan=-np.inf)
    total = logsumexp(flat)
    return np.exp(flat - total), float(total + np.log(cell))


def on_grid(w: np.ndarray, values: Any, kind: str = "real", variance: Any = None) -> Scalars:
    """Moments of a function of the grid's coordinates, or of a normal variable given them.

    Args:
        w: ``float[n]``, weights that sum to one.
        values: ``float[n, *shape]``, the function, or the normal's mean.
        kind: its support.
        variance: ``float[n, *shape]`` of the normal given the coordinates; then ``kind`` must be ``real``.
    """
    values = np.asarray(values, float)
    flat = values.reshape(len(w), -1)
    spread = np.zeros_like(flat) if variance is None else np.asarray(variance, float).reshape(flat.shape)
    natural = _weighted(w, flat, spread)
    centred = flat - natural[0]
    kurtosis = w @ (centred**4 + 6 * centred**2 * spread + 3 * spread**2) / natural[1] ** 4
    free = natural
    if kind != "real":
        names = tuple(scalars("x", values.shape[1:]))
        used = w > 0
        free = _weighted(w[used], free_scale(names, flat[used], {"x": kind}), 0.0)
    told, transformed = (_sure(*(part.reshape(values.shape[1:]) for part in side)) for side in (natural, free))
    kurtosis = kurtosis.reshape(values.shape[1:])
    error = np.where(kurtosis > KURTOSIS[0], np.sqrt((kurtosis - 1) / (4 * HELD)), 0.0)
    known = kurtosis < KURTOSIS[1]  # past it the sd of a sample says little, and of a tail that the grid cuts nothing
    told = Moments(
        told.mean, np.where(known, told.sd, np.nan), told.mcse_mean, np.where(known, told.sd * error, np.nan)
    )
    return Scalars(told, told if kind == "real" else transformed)


def sampled(draw: Callable[[np.random.Generator, int], Mapping[str, np.ndarray]], **kinds: str) -> dict[str, Scalars]:
    """Moments from `DRAWS` independent draws, with their standard errors.

    Args:
        draw: from a generator and n to site -> ``float[n, *shape]``.
        kinds: support by site, where it is not the real line.

    Returns:
        Site -> moments. Where the kurtosis is large, errors and NaN are as for `heavy`.
    """
    rng = np.random.default_rng(20260101)
    sums: dict[str, np.ndarray] = {}
    centres: dict[str, np.ndarray] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(DRAWS // _CHUNK):
        for site, x in draw(rng, _CHUNK).items():
            shapes[site] = x.shape[1:]
            flat = x.reshape(_CHUNK, -1)
            both = np.stack([flat, free_scale(tuple(scalars(site, x.shape[1:])), flat, kinds)], axis=1)
            centre = centres.setdefault(site, both.mean(axis=0))
            powers = np.stack([np.mean((both - centre) ** k, axis=0) for k in (1, 2, 3, 4)])
            sums[site] = sums.get(site, 0.0) + powers * _CHUNK / DRAWS
    told = {}
    for site, (m1, m2, m3, m4) in sums.items():
        variance = m2 - m1**2
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        sd, kurtosis = np.sqrt(variance), fourth / variance**2
        n = np.where(kurtosis > KURTOSIS[0], HELD, DRAWS)
        sd = np.where(kurtosis > KURTOSIS[1], np.nan, sd)
        fields = (centres[site] + m1, sd, sd / np.sqrt(DRAWS), sd * np.sqrt((kurtosis - 1) / (4 * n)))
        natural, free = (Moments(*(f[k].reshape(shapes[site]) for f in fields)) for k in (0, 1))
        told[site] = Scalars(natural, natural if kinds.get(site, "real") == "real" else free)
    return told


def _weighted(w: np.ndarray, x: np.ndarray, variance: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    mean = w @ x
    return mean, np.sqrt(w @ ((x - mean) ** 2 + variance))


def _sure(mean: Any, sd: Any) -> Moments:
    mean, sd = np.broadcast_arrays(np.asarray(mean, float), np.asarray(sd, float))
    return Moments(mean, sd, np.zeros(mean.shape), np.zeros(mean.shape))


def _unknown(moments: Moments) -> Moments:
    return Moments(*(np.full(np.shape(field), np.nan) for field in moments))
