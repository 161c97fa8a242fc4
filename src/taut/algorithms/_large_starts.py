"""Where to begin with many latents: climbs that keep no matrix, and the best mean-field Gaussian met along them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taut._draws import orthogonal_antithetic
from taut.algorithms._low_rank_curvature import probed_diagonal
from taut.algorithms._low_rank_shape import round_shape
from taut.algorithms._starts import FEW_CHECKPOINTS, Evaluate, Limited, first_points

_DRAWS = 32  # of a score
_MAX_BACKTRACKS = 25


class LargeStarts(NamedTuple):
    """The best mean-field Gaussian, and the ends of all climbs.

    point: ``(D + P,)``. scale: ``(D,)``. elbo: on a few draws, nats. ends ``(n, D + P)`` and end_log_p ``(n,)``.
    never_finite: starts that met no finite density. gradients: used.
    """

    point: np.ndarray
    scale: np.ndarray
    elbo: float
    ends: np.ndarray
    end_log_p: np.ndarray
    never_finite: int
    gradients: int


def explore_large(
    evaluate: Evaluate,
    dim: int,
    rng: np.random.Generator,
    starts: int,
    *,
    params: int,
    difference: float,
    ticks: int = 300,
    tolerance: float = 1e-2,
) -> LargeStarts:
    r"""L-BFGS climbs in lockstep, scored along the way as mean-field Gaussians.

    A point x on the path is scored with the scales $s_j = A_{jj}^{-1/2}$, from the diagonal of the negative Hessian
    there by random sign vectors, as the ELBO of $\mathcal N(x, s^2)$ on a few draws. Where a density rises for ever (a
    funnel) the climb runs away, and its best Gaussian is on the path.

    Args:
        evaluate: rows ``(n, D + P)`` to ``(log_p, gradients)``.
        dim: D + P.
        rng: generator.
        starts: climbs, from uniform points in (-2, 2).
        params: P, trailing coordinates without spread.
        difference: half-width of differences of gradients.
        ticks: most calls.
        tolerance: a climb ends when its decrement is below this many nats.

    Returns:
        `LargeStarts`.
    """
    x, log_p, grad, gradients = first_points(evaluate, dim, rng, starts, 2.0, None)
    n, d = starts, dim - params
    alive = np.isfinite(log_p)
    f, g, memory = -log_p, -grad, Limited(starts, dim)
    direction = -g
    slope = -np.einsum("ij,ij->i", g, g)
    t = 1.0 / np.maximum(1.0, np.sqrt(-slope))
    active = alive & (slope < 0)
    iterations, backtracks = np.zeros(n, int), np.zeros(n, int)
    passed: list[np.ndarray] = []
    for _ in range(ticks):
        rows = np.flatnonzero(active)
        if not len(rows):
            break
        step = t[rows, None] * direction[rows]
        new, grad = evaluate(x[rows] + step)
        gradients += len(rows)
        ok = -new <= f[rows] + 1e-4 * t[rows] * slope[rows] + 4e-16 * np.abs(f[rows])
        bad = rows[~ok]
        t[bad] *= 0.3
        backtracks[bad] += 1
        active[bad] &= backtracks[bad] < _MAX_BACKTRACKS
        good = rows[ok]
        if not len(good):
            continue
        s, y = step[ok], -grad[ok] - g[good]
        x[good], f[good], g[good] = x[good] + s, -new[ok], -grad[ok]
        sy = np.einsum("ij,ij->i", s, y)
        curved = sy > 1e-10 * np.sqrt(np.einsum("ij,ij->i", s, s) * np.einsum("ij,ij->i", y, y))
        if curved.any():
            memory.update(good[curved], s[curved], y[curved], sy[curved])
        direction[good] = memory.direction(good, g[good])
        slope[good] = np.einsum("ij,ij->i", direction[good], g[good])
        t[good] = np.where(curved, 1.0, 2.0 * t[good])
        iterations[good] += 1
        backtracks[good] = 0
        active[good[(-0.5 * slope[good] < tolerance) & curved]] = False
        passed += [x[row].copy() for row in good[active[good]] if iterations[row] in FEW_CHECKPOINTS]
    candidates = [*passed, *x[alive]] or [x[0]]
    u = orthogonal_antithetic(_DRAWS, d, rng)
    best, scale, elbo = candidates[0], np.ones(d), -np.inf
    for point in candidates:
        shape = round_shape(point[:d], np.ones(d))
        for limit in (1e8, 4.0):  # again in units of its own
            diagonal, used = probed_diagonal(evaluate, shape, point[d:], np.zeros_like(u), rng, difference, limit)
            shape = shape._replace(scale=shape.scale / np.sqrt(diagonal))
            gradients += used
        z = np.concatenate([shape.out(u), np.broadcast_to(point[d:], (len(u), params))], axis=1)
        score = float(evaluate(z)[0].mean()) + shape.log_det() + 0.5 * d * (1 + np.log(2 * np.pi))
        gradients += len(u)
        if score > elbo:
            best, scale, elbo = point, shape.scale, score
    return LargeStarts(best, scale, elbo, x, np.where(alive, -f, -np.inf), int(np.sum(~alive)), gradients)
