"""A Gaussian near q, for particles to start from where q is of another family."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np

from taut._errors import TautError
from taut._keys import generator
from taut.algorithms import Solution, smc_applicable
from taut.guides import Flat, FullRank, NoiseGuide, unconstrain
from taut.problem import DISCRETE, Problem

_MOST_DENSE = 500  # latents: a matrix of them is still small
_DRAWS = 4000
_TAIL = 0.005  # of the draws on either side, coordinate by coordinate, are drawn in: a family may have no variance


def gaussian_near(problem: Problem, solution: Solution, key: int | jax.Array) -> tuple[Solution | None, bool]:
    """A solution that particles can start from, and whether it is q itself.

    It is q where q is Gaussian on the real line, or a mixture of such; else the Gaussian with the mean and the
    covariance of q's draws there. ``None`` for discrete latents, and where a matrix of all latents is too large.

    Args:
        problem: the problem on its full data.
        solution: what an algorithm found.
        key: the fit's key.
    """
    guide = solution.guide
    if smc_applicable(guide):
        return solution, True
    if problem.dim > _MOST_DENSE or any(latent.transform == DISCRETE for latent in problem.latents.values()):
        return None, False
    if isinstance(guide, NoiseGuide):
        root = guide.square_root(problem, solution.params)
        if root is not None:
            r = np.asarray(np.linalg.qr(root.T, mode="r"))
            loc = np.asarray(solution.params["loc"], float)
            return _gaussian(solution, loc, (r * np.sign(np.diag(r))[:, None]).T), True
    z = _on_the_line(problem, solution, key)
    if z is None:
        return None, False
    z = np.clip(z, *np.quantile(z, (_TAIL, 1.0 - _TAIL), axis=0))
    cov = np.atleast_2d(np.cov(z.T))
    spread = np.sqrt(np.diag(cov))
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        return None, False
    # A direction that the draws have not is given a little.
    correlation = cov / np.outer(spread, spread) + 1e-6 * np.eye(len(cov))
    factor = spread[:, None] * np.linalg.cholesky(correlation)
    return _gaussian(solution, z.mean(axis=0), factor), False


def _gaussian(solution: Solution, loc: np.ndarray, factor: np.ndarray) -> Solution:
    guide = FullRank(getattr(solution.guide, "centredness", 1.0))
    return replace(solution, guide=guide, params=FullRank.from_moments(loc, factor))


def _on_the_line(problem: Problem, solution: Solution, key: int | jax.Array) -> np.ndarray | None:
    """Draws of q on the real line, ``float[n, dim]``; ``None`` where values do not say where they stand there."""
    point, _ = solution.guide.draws(problem, solution.params, _DRAWS, generator(key, 1900))
    if isinstance(point, Flat):
        return np.asarray(point.coordinates, float)
    try:
        values = {name: np.asarray(point[name], float) for name in problem.latents}
        z = unconstrain(problem, values, np.zeros((_DRAWS, problem.dim)), problem.centredness(1.0))
    except TautError:
        return None
    z = z[np.isfinite(z).all(axis=1)]
    return z if len(z) > _DRAWS // 2 else None
