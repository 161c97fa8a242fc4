"""Funnels that no site declares, found in the density itself: a scale shows in mixed derivatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from taut.algorithms._smc_scales import ScaleMap

_FEW = 16  # most points that show which scalars may be drivers, each at 2 D gradients; 4 for many scalars
_LOOKS = 1000  # of points and scalars together
_POINTS = 256  # points that tell their leaves
_VARIES = 0.05  # change of a mixed derivative, in sds of both scalars, that a scale may have caused
_FITS = 0.95  # share of a leaf's variance that the law below must explain
_TERMS = 8  # most scalars that a leaf's mean depends on
_DRIVERS = 4  # most
_STEEPEST = 4.0  # largest slope of a log scale per sd of its driver
_DIFFERENCE = 1e-3  # of an sd of the driver

Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def density_map(evaluate: Evaluate, z: np.ndarray, rng: np.random.Generator) -> ScaleMap | None:
    r"""The change of coordinates that makes leaves of their drivers non-centred, if the density has such leaves.

    Where the density holds a factor :math:`N(x;\, a + b^\top w,\, c\,e^{A v})`, and nothing else ties ``x`` to ``v``,

    .. math:: \frac{\partial^2\log p}{\partial x\,\partial v} = 2A\,c^{-2} e^{-2 A v}\,(x - a - b^\top w)

    whatever the data say of x: at the right slope ``A`` the leaf is a linear function of its own mixed derivative times
    :math:`e^{2Av}` and of a few scalars w. Two gradients at each of a few hundred points tell, wherever these lie: the
    neck of the funnel need not have been seen.

    Args:
        evaluate: the posterior's density and gradients at rows ``(n, D)``.
        z: points ``(P, D)``; any that the posterior does not exclude.
        rng: generator.

    Returns:
        A map, or ``None`` if no scalar obeys the law.
    """
    sd = z.std(0)
    d = z.shape[1]
    if d < 2 or not (np.isfinite(sd).all() and np.all(sd > 0)):
        return None
    few = z[rng.permutation(len(z))[: min(_FEW, max(4, _LOOKS // d))]]
    strength = np.array([(_mixed(evaluate, few, j, sd[j]).std(0) * sd * sd[j]) for j in range(d)])
    np.fill_diagonal(strength, 0.0)
    strength = np.nan_to_num(np.where(strength > _VARIES, strength, 0.0), posinf=0.0)
    order = [int(j) for j in np.argsort(-(strength**2).sum(1))[:_DRIVERS] if strength[j].any()]
    many = z[rng.permutation(len(z))[:_POINTS]]
    laws: dict[int, tuple[int, float, list[int], np.ndarray]] = {}
    drivers: list[int] = []
    for j in order:
        if j in laws:
            continue
        mixed = _mixed(evaluate, many, j, sd[j])
        for i in np.flatnonzero(strength[j]):
            if i not in laws and i not in drivers and np.isfinite(mixed[:, i]).all():
                found = _law(many, int(i), j, mixed[:, i], sd)
                if found is not None:
                    laws[int(i)] = (j, *found)
        if any(law[0] == j for law in laws.values()):
            drivers.append(j)
    _untie(laws, drivers)
    drivers = [j for j in drivers if any(law[0] == j for law in laws.values())]
    if not laws:
        return None
    leaves = np.array(sorted(laws))
    others = np.setdiff1d(np.arange(d), leaves)
    centre = z.mean(0)
    slope, steepness = np.zeros((len(leaves), len(others))), np.zeros((len(leaves), len(drivers)))
    for row, leaf in enumerate(leaves):
        j, steep, terms, line = laws[int(leaf)]
        steepness[row, drivers.index(j)] = steep
        slope[row, np.searchsorted(others, terms)] = line[1:]
        centre[leaf] = line[0] + centre[terms] @ line[1:]
    return ScaleMap(leaves, np.array(drivers), others, centre, slope, steepness)


def _mixed(evaluate: Evaluate, rows: np.ndarray, j: int, sd: float) -> np.ndarray:
    """Derivatives of the gradient along scalar j, ``(n, D)``."""
    step = np.zeros(rows.shape[1])
    step[j] = _DIFFERENCE * sd
    _, gradient = evaluate(np.concatenate([rows + step, rows - step]))
    up, down = np.split(gradient, 2)
    return (up - down) / (2 * step[j])


def _law(
    z: np.ndarray, i: int, j: int, mixed: np.ndarray, sd: np.ndarray
) -> tuple[float, list[int], np.ndarray] | None:
    """Slope of the log scale of i on j, the scalars in its mean, and that mean's constant and coefficients."""
    x, v = z[:, i], z[:, j] - z[:, j].mean()
    slopes = np.linspace(-_STEEPEST, _STEEPEST, 161) / sd[j]
    terms: list[int] = []
    while True:  # one more scalar in the mean each time
        basis = np.linalg.qr(np.concatenate([np.ones((len(z), 1)), z[:, terms]], axis=1))[0]
        rest = x - basis @ (basis.T @ x)

        def explained(slope: np.ndarray, basis: np.ndarray = basis, rest: np.ndarray = rest) -> np.ndarray:
            h = mixed[:, None] * np.exp(2.0 * slope * v[:, None])
            h = h - basis @ (basis.T @ h)
            return (h.T @ rest) ** 2 / np.maximum((h**2).sum(0) * (rest @ rest), 1e-300)

        coarse = float(slopes[np.argmax(explained(slopes))])
        finer = coarse + (slopes[1] - slopes[0]) * np.linspace(-1, 1, 41)
        share = explained(finer)
        steep = float(finer[np.argmax(share)])
        h = mixed * np.exp(2.0 * steep * v)
        design = np.column_stack([np.ones(len(z)), z[:, terms], h])
        line = np.linalg.lstsq(design, x, rcond=None)[0]
        left = x - design @ line
        if (
            left @ left < (1.0 - _FITS) * ((x - x.mean()) @ (x - x.mean()))
            and line[-1] * steep > 0
            and share.max() > 0.5
        ):
            return steep, terms, line[:-1]
        if len(terms) == _TERMS:
            return None
        free = [k for k in range(z.shape[1]) if k not in (i, j, *terms)]
        if not free:
            return None
        basis = np.linalg.qr(design)[0]
        candidates = z[:, free] - basis @ (basis.T @ z[:, free])
        score = np.abs(candidates.T @ left) / np.maximum(np.sqrt((candidates**2).sum(0)), 1e-300)
        terms = sorted([*terms, free[int(np.argmax(score))]])


def _untie(laws: dict[int, tuple[int, float, list[int], np.ndarray]], drivers: list[int]) -> None:
    """Drop leaves until no mean depends on another leaf: hubs, whose law needs most others, go first."""
    while True:
        tied = {i for i, law in laws.items() if any(k in laws for k in law[2])}
        tied |= {k for law in laws.values() for k in law[2] if k in laws}
        if not tied:
            return
        del laws[max(sorted(tied), key=lambda i: len(laws[i][2]))]
