"""The evidence from particles at rest: a bridge to a Gaussian that other particles drew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import solve_triangular

from taut._draws import gaussian_log_density
from taut.algorithms._bridge import Bridge, bridge
from taut.algorithms._starts import lower_factor

LogDensity = Callable[[np.ndarray], np.ndarray]


def bridged(
    states: np.ndarray, log_p: np.ndarray, groups: np.ndarray, evaluate: LogDensity, rng: np.random.Generator
) -> Bridge:
    """Half of the particles shape a Gaussian (a mixture over groups), the other half is bridged to it; both ways.

    Args:
        states: of the particles at rest, ``(T, P, D)``.
        log_p: their log densities, ``(T, P)``, nats.
        groups: the mode that each particle belongs to, ``(P,)``.
        evaluate: rows ``(n, D)`` to log densities.
        rng: generator.

    Returns:
        The mean of both bridges, with an error that their difference may enlarge.
    """
    particles = states.shape[1]
    halves = np.arange(particles) % 2 == 0
    found = []
    for shaping in (halves, ~halves):
        gaussian = _Gaussians(states[:, shaping], groups[shaping])
        drawn = gaussian.draw(particles, rng)
        here = log_p[:, ~shaping] - gaussian.log_density(states[:, ~shaping])
        found.append(bridge(here, evaluate(drawn) - gaussian.log_density(drawn)))
    values = np.array([f.log_evidence for f in found])
    # The halves share nothing but the chains' common past: their errors are nearly independent.
    se = np.sqrt(np.mean([f.se**2 for f in found]) / 2)
    return Bridge(float(values.mean()), float(max(se, 0.5 * abs(values[0] - values[1]))))


class _Gaussians:
    """A mixture of Gaussians with the moments of each group of particles."""

    def __init__(self, states: np.ndarray, groups: np.ndarray):
        d = states.shape[2]
        self.log_shares, self.means, self.factors = [], [], []
        for k in np.unique(groups):
            mine = states[:, groups == k]
            rows = mine.reshape(-1, d)
            mean = rows.mean(0)
            centred = rows - mean
            variance = np.maximum((centred**2).mean(0), 1e-300)
            weight = d / (mine.shape[1] + d)  # correlations that few particles show are mostly noise
            cov = (1 - weight) * (centred.T @ centred) / len(rows) + weight * np.diag(variance)
            self.log_shares.append(np.log((groups == k).mean()))
            self.means.append(mean)
            self.factors.append(lower_factor(cov))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``(n, D)``."""
        which = rng.choice(len(self.means), n, p=np.exp(self.log_shares))
        u = rng.standard_normal((n, len(self.means[0])))
        rows = np.empty_like(u)
        for k, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            rows[which == k] = mean + u[which == k] @ factor.T
        return rows

    def log_density(self, rows: np.ndarray) -> np.ndarray:
        """Nats, over all but the last axis."""
        flat = rows.reshape(-1, rows.shape[-1])
        terms = []
        for share, mean, factor in zip(self.log_shares, self.means, self.factors, strict=True):
            u = solve_triangular(factor, (flat - mean).T, lower=True, check_finite=False).T
            terms.append(share + gaussian_log_density(u, float(np.log(np.diagonal(factor)).sum())))
        return np.logaddexp.reduce(terms, axis=0).reshape(rows.shape[:-1])
