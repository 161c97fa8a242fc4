"""Funnels that no site declares: coordinates, learnt from particles, in which the scales of scalars no longer vary."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taut.algorithms._smc_moves import Cloud

# Variance of log|N(0, 1)|.
_LOG_NORMAL = np.pi**2 / 8
_SIGNIFICANT = 3.5  # standard errors at which a scalar counts as a leaf
_DRIVERS = 8  # most
_LEAVES = 3  # fewest: one scalar's scale may follow another's for many reasons
_CLIP = 9.0  # largest squared residual, in variances, that a scoring step listens to
_HUB = 0.6  # of its slope given the other leaves that a leaf must keep without them
_NECK = 0.35  # share of the particles that make the narrow end
_SAME = 0.15  # relative difference of slopes that is not worth a second map
_PRIOR = 4.0  # precision of a slope per sd of its function, against overfitting


class ScaleMap(NamedTuple):
    r"""A change of coordinates that takes the dependence of scales out of particles.

    With leaves ``x``, drivers ``v`` and all coordinates but the leaves ``w`` (drivers among them),

    .. math:: u = (x - a - B (w - \bar w))\, e^{-A (v - \bar v)},\qquad
              \log p(u, w) = \log p(x, w) + \textstyle\sum A (v - \bar v) .

    For Neal's funnel it is the non-centred form, found without being told where the funnel is.

    Attributes:
        leaves: positions, ``int[L]``.
        drivers: positions, ``int[K]``.
        others: positions of w, ``int[D - L]``.
        centre: ``a``, ``w bar`` by position, ``(D,)``.
        slope: ``B``, ``(L, D - L)``.
        steepness: ``A``, ``(L, K)``.
    """

    leaves: np.ndarray
    drivers: np.ndarray
    others: np.ndarray
    centre: np.ndarray
    slope: np.ndarray
    steepness: np.ndarray

    def apart(self, z: np.ndarray) -> np.ndarray:
        """Rows in the new coordinates."""
        u = z.copy()
        u[:, self.leaves] = (z[:, self.leaves] - self._mean(z)) * np.exp(-self._log_scale(z))
        return u

    def back(self, u: np.ndarray) -> np.ndarray:
        """The inverse of `apart`."""
        z = u.copy()
        z[:, self.leaves] = self._mean(u) + u[:, self.leaves] * np.exp(self._log_scale(u))
        return z

    def pulled(self, there: Cloud, u: np.ndarray) -> Cloud:
        """A cloud at ``back(u)`` with its densities and gradients in the new coordinates."""
        log_scale = self._log_scale(u)
        parts = []
        for log_p, gradient in ((there.log_p, there.grad_p), (there.log_q, there.grad_q)):
            old = gradient[:, self.leaves]
            new = gradient.copy()
            new[:, self.leaves] = old * np.exp(log_scale)
            new[:, self.others] += old @ self.slope
            new[:, self.drivers] += (new[:, self.leaves] * u[:, self.leaves] + 1.0) @ self.steepness
            parts += [log_p + log_scale.sum(1), new]
        return Cloud(u, *parts)

    def pushed(self, here: Cloud) -> Cloud:
        """The inverse of `pulled`: the cloud at ``back(here.z)`` in the old coordinates."""
        u = here.z
        log_scale = self._log_scale(u)
        parts = []
        for log_p, gradient in ((here.log_p, here.grad_p), (here.log_q, here.grad_q)):
            new = gradient.copy()
            new[:, self.drivers] -= (gradient[:, self.leaves] * u[:, self.leaves] + 1.0) @ self.steepness
            new[:, self.leaves] = gradient[:, self.leaves] * np.exp(-log_scale)
            new[:, self.others] -= new[:, self.leaves] @ self.slope
            parts += [log_p - log_scale.sum(1), new]
        return Cloud(self.back(u), *parts)

    def _mean(self, z: np.ndarray) -> np.ndarray:
        return self.centre[self.leaves] + (z[:, self.others] - self.centre[self.others]) @ self.slope.T

    def _log_scale(self, z: np.ndarray) -> np.ndarray:
        return (z[:, self.drivers] - self.centre[self.drivers]) @ self.steepness.T


def funnel_strength(z: np.ndarray) -> np.ndarray:
    r"""How much each scalar drives the scales of the others.

    .. math:: F_j = 2 \sum_{i \ne j} \big(a_{ij}^2 - \operatorname{Var} a_{ij}\big),\qquad
              a_{ij} = \operatorname{cov}(\log|r_i|, z_j) / \operatorname{sd}(z_j)

    with :math:`r_i` the residual of :math:`z_i` regressed on all others. Leaves whose log scale has slope ``a`` on a
    driver tell its value with precision :math:`2\sum a^2`: past 1, what the leaves say of it is worth more than its own
    distribution, and moves that change one without the others are short.

    Args:
        z: draws ``(n, D)``.

    Returns:
        ``(D,)``; zeros where too few draws tell.
    """
    found = _slopes(z)
    if found is None:
        return np.zeros(z.shape[1])
    slope, noise = found
    return 2.0 * np.maximum((slope**2 - noise).sum(0), 0.0)


def scale_maps(z: np.ndarray, *, least: float) -> tuple[ScaleMap, ...]:
    """Learn maps from particles: none if no scalar's strength reaches ``least``, else one or two.

    Drivers are taken greedily, strongest first; a leaf is no driver. A scalar whose scale varies only given the leaves,
    such as the mean of a hierarchy, is no leaf. The first map has the slopes that fit everywhere; the second, if they
    differ, those of the narrow end, so that particles are carried on into a neck that they have only begun to enter.

    Args:
        z: draws ``(n, D)``.
        least: see `funnel_strength`.

    Source: Harvey (1976), Estimating regression models with multiplicative heteroscedasticity, for the slopes.
    """
    d = z.shape[1]
    found = _slopes(z)
    if found is None:
        return ()
    slope, noise = found
    free = np.ones(d, bool)  # may still be a driver
    tied = np.zeros((d, d), bool)
    drivers: list[int] = []
    while len(drivers) < _DRIVERS:
        leaves = ~np.isin(np.arange(d), drivers)
        strength = 2.0 * np.maximum(((slope**2 - noise) * leaves[:, None]).sum(0), 0.0)
        j = int(np.argmax(np.where(free & leaves, strength, -1.0)))
        mine = leaves & (np.abs(slope[:, j]) > _SIGNIFICANT * np.sqrt(noise))
        mine[j] = False
        if not (free & leaves)[j] or strength[j] < least or 2.0 * (slope[mine, j] ** 2).sum() < least:
            break
        drivers.append(j)
        tied[mine, j] = True
        free[mine] = False
    if not drivers:
        return ()
    if tied.any(1).sum() < _LEAVES:
        return ()
    leaves = _without_hubs(z, np.flatnonzero(tied.any(1)), drivers, slope)
    tied = tied[leaves][:, drivers]
    wide = _regressed(z, leaves, np.array(drivers), tied)
    log_scale = np.einsum("pk,lk->p", z[:, drivers] - wide.centre[drivers], wide.steepness)
    end = z[log_scale <= np.quantile(log_scale, _NECK)]
    neck = _regressed(end, leaves, np.array(drivers), tied)
    apart = np.abs(neck.steepness - wide.steepness).mean() > _SAME * np.abs(wide.steepness).mean()
    return (wide, neck) if apart else (wide,)


def _without_hubs(z: np.ndarray, leaves: np.ndarray, drivers: list[int], slope: np.ndarray) -> np.ndarray:
    """Leaves whose scale still varies when the other leaves are not known; one taken out may be known to the rest."""
    while len(leaves) > 1:
        others = np.setdiff1d(np.arange(z.shape[1]), leaves)
        residual = _residuals(_bounded(z[:, others], 5.0), _bounded(z[:, leaves], 5.0))
        v = _bounded(z[:, drivers])
        alone = _log_residual(residual).T @ v / len(z)
        given = slope[leaves][:, drivers]
        share = (alone * given).sum(1) / (given**2).sum(1)
        hub = int(np.argmin(share))
        if share[hub] > _HUB:
            break
        leaves = np.delete(leaves, hub)
    return leaves


def _residuals(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    design = np.concatenate([w, np.ones((len(w), 1))], axis=1)
    return x - design @ np.linalg.lstsq(design, x, rcond=None)[0]


def _log_residual(residual: np.ndarray) -> np.ndarray:
    size = np.abs(residual)
    logs = np.log(np.maximum(size, 0.01 * np.median(size, axis=0)))
    return logs - logs.mean(0)


def _bounded(x: np.ndarray, cut: float = 3.0) -> np.ndarray:
    """In units of the middle 68 %, and cut: a scalar with a long tail must not owe its slope to a few draws."""
    low, middle, high = np.quantile(x, [0.16, 0.5, 0.84], axis=0)
    x = np.clip((x - middle) / np.maximum(0.5 * (high - low), 1e-300), -cut, cut)
    return x - x.mean(0)


def _slopes(z: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Slopes of log |residual of i| on standardised scalar j, ``(D, D)`` with zeros on the diagonal; their variance."""
    n, d = z.shape
    if d < 2 or n < 2 * d or n < 10:
        return None
    sd = z.std(0)
    if not (np.isfinite(sd).all() and np.all(sd > 0)):
        return None
    x = _bounded(z, 5.0)
    slope = _log_residual(x @ np.linalg.pinv(x.T @ x / n)).T @ _bounded(x) / n
    np.fill_diagonal(slope, 0.0)
    return slope, _LOG_NORMAL / n


def _regressed(z: np.ndarray, leaves: np.ndarray, drivers: np.ndarray, tied: np.ndarray) -> ScaleMap:
    others = np.setdiff1d(np.arange(z.shape[1]), leaves)
    centre = z.mean(0)
    w, v = z[:, others] - centre[others], z[:, drivers] - centre[drivers]
    spread, size = np.maximum(w.std(0), 1e-300), np.maximum(v.std(0), 1e-300)
    design = np.concatenate([w / spread, np.ones((len(z), 1))], axis=1)
    v = v / size
    steepness = np.zeros(tied.shape)
    for i, leaf in enumerate(leaves):
        mine = v[:, tied[i]]
        a = np.zeros(mine.shape[1])
        information = 2.0 * mine.T @ mine + _PRIOR * np.eye(len(a))
        for _ in range(8):
            log_scale = mine @ a
            fitted = design @ _least_squares(design, z[:, leaf], np.exp(-2.0 * log_scale))
            squared = ((z[:, leaf] - fitted) * np.exp(-log_scale)) ** 2
            excess = np.minimum(squared / squared.mean(), _CLIP) - 1.0
            a = a + np.linalg.solve(information, mine.T @ (excess - excess.mean()) - _PRIOR * a)
        steepness[i, tied[i]] = a
    for k in range(len(drivers)):  # leaves of one driver borrow strength from each other
        mine = tied[:, k]
        mean = steepness[mine, k].mean()
        between = max(steepness[mine, k].var() - 0.5 / len(z), 0.0)
        steepness[mine, k] = mean + (steepness[mine, k] - mean) * between / (between + 0.5 / len(z))
    slopes = np.stack(
        [_least_squares(design, z[:, leaf], np.exp(-2.0 * v @ a)) for leaf, a in zip(leaves, steepness, strict=True)]
    )
    centre = centre.copy()
    centre[leaves] = slopes[:, -1]
    return ScaleMap(leaves, drivers, others, centre, slopes[:, :-1] / spread, steepness / size)


def _least_squares(design: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted coefficients of the columns, the last of them constant, with a touch of ridge on the others."""
    weighted = design * (weights / weights.mean())[:, None]
    ridge = np.full(design.shape[1], 1e-3 * len(y))
    ridge[-1] = 0.0
    return np.linalg.solve(design.T @ weighted + np.diag(ridge), weighted.T @ y)
