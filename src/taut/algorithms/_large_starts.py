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
COMPARABLE = 7.0  # nats: modes further below hold less than a thousandth of the mass


class LargeStarts(NamedTuple):
    """The best mean-field Gaussian met, and what the other climbs say of it.

    point: ``(D + P,)``. scale: ``(D,)``. elbo: on a few draws, nats. reached: climbs whose best Gaussian is of the same
    mode. others: distinct modes among the rest within 7 nats of it. starts: climbs. never_finite: climbs that met no
    finite density. gradients: used.
    """

    point: np.ndarray
    scale: np.ndarray
    elbo: float
    reached: int
    others: int
    starts: int
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
    given: np.ndarray | None = None,
    ticks: int = 200,
    tolerance: float = 1e-4,
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
        given: starting points to use instead, ``(n, D + P)``.
        ticks: most calls.
        tolerance: a climb ends when its decrement is below this many nats for each coordinate: only a start is wanted.

    Returns:
        `LargeStarts`.
    """
    x, log_p, grad, gradients = first_points(evaluate, dim, rng, starts, 2.0, given)
    n, d = len(x), dim - params
    alive = np.isfinite(log_p)
    f, g, memory = -log_p, -grad, Limited(n, dim)
    direction = -g
    slope = -np.einsum("ij,ij->i", g, g)
    t = 1.0 / np.maximum(1.0, np.sqrt(-slope))
    active = alive & (slope < 0)
    iterations, backtracks = np.zeros(n, int), np.zeros(n, int)
    passed: list[tuple[int, np.ndarray]] = []
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
        active[good[(-0.5 * slope[good] < tolerance * dim) & curved]] = False
        passed += [(int(row), x[row].copy()) for row in good[active[good]] if iterations[row] in FEW_CHECKPOINTS]
    passed += [(int(row), x[row]) for row in np.flatnonzero(alive)]
    u = orthogonal_antithetic(_DRAWS, d, rng)
    best: dict[int, _Scored] = {}
    for row, point in passed:
        scored, used = _scored(evaluate, point, u, rng, difference)
        gradients += used
        if row not in best or scored.elbo > best[row].elbo:
            best[row] = scored
    if not best:
        return LargeStarts(x[0], np.ones(d), -np.inf, 0, 0, n, n, gradients)
    ranked = sorted(best.values(), key=lambda b: -b.elbo)
    modes, reached = [ranked[0]], 0
    for scored in ranked:
        near = [_same_mode(scored, mode, d) for mode in modes]
        reached += near[0]
        if not any(near) and scored.elbo > ranked[0].elbo - COMPARABLE:
            modes.append(scored)
    first, failed = ranked[0], n - len(best)
    return LargeStarts(first.point, first.scale, first.elbo, reached, len(modes) - 1, n, failed, gradients)


class _Scored(NamedTuple):
    point: np.ndarray
    scale: np.ndarray
    elbo: float


def _scored(
    evaluate: Evaluate, point: np.ndarray, u: np.ndarray, rng: np.random.Generator, difference: float
) -> tuple[_Scored, int]:
    """A point as a mean-field Gaussian, and gradients used."""
    d = u.shape[1]
    shape, spent = round_shape(point[:d], np.ones(d)), len(u)
    for limit in (1e8, 4.0):  # again in units of its own
        diagonal, used = probed_diagonal(evaluate, shape, point[d:], np.zeros_like(u), rng, difference, limit)
        shape = shape._replace(scale=shape.scale / np.sqrt(diagonal))
        spent += used
    z = np.concatenate([shape.out(u), np.broadcast_to(point[d:], (len(u), len(point) - d))], axis=1)
    elbo = float(evaluate(z)[0].mean()) + shape.log_det() + 0.5 * d * (1 + np.log(2 * np.pi))
    return _Scored(point, shape.scale, elbo), spent


def _same_mode(a: _Scored, b: _Scored, d: int) -> bool:
    """The rule of `same_mode`, with diagonal factors."""
    step = a.point[:d] - b.point[:d]
    return bool(min(np.linalg.norm(step / a.scale), np.linalg.norm(step / b.scale)) <= 3.0 + 1.5 * np.sqrt(d))
