"""Where to begin: several quasi-Newton climbs in lockstep, and the best Gaussian met along each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from taut._draws import orthogonal_antithetic
from taut.guides import Guide, Start, learned
from taut.problem import Problem

Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

CHECKPOINTS = frozenset((3, 6, 10, 15, 22, 32, 46, 66, 95, 140, 200, 290))
FEW_CHECKPOINTS = frozenset((10, 32, 95, 290))  # for dimensions where each costs a large factorisation
DENSE_LIMIT = 150
_MEMORY = 10
_REDRAWS = 8
_MAX_BACKTRACKS = 25


class Starts(NamedTuple):
    """What every climb found. One row per start; ``dim = D + P``.

    points, factors, elbos: the Gaussian of highest ELBO met on the way, ``(n, dim)``, ``(n, D, D)``, ``(n,)`` nats.
    ends, end_factors, end_log_p: where the climb stopped, its inverse-Hessian factor and log density.
    iterations: accepted steps. converged: the quasi-Newton decrement fell below the tolerance.
    never_finite: starts that met no finite density; their rows hold the last point tried and ``-inf``.
    """

    points: np.ndarray
    factors: np.ndarray
    elbos: np.ndarray
    ends: np.ndarray
    end_factors: np.ndarray
    end_log_p: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    never_finite: int
    gradients: int


class _Dense:
    """Inverse Hessians ``(n, dim, dim)`` by the BFGS update ``H+ = (I - rho s y') H (I - rho y s') + rho s s'``."""

    def __init__(self, n: int, dim: int):
        self.h = np.broadcast_to(np.eye(dim), (n, dim, dim)).copy()
        self.fresh = np.ones(n, dtype=bool)

    def direction(self, rows: np.ndarray, g: np.ndarray) -> np.ndarray:
        return -np.matmul(self.h[rows], g[:, :, None])[:, :, 0]

    def update(self, rows: np.ndarray, s: np.ndarray, y: np.ndarray, sy: np.ndarray) -> None:
        h = self.h[rows]
        new = self.fresh[rows]
        if new.any():
            h[new] *= (sy[new] / np.einsum("ij,ij->i", y[new], y[new]))[:, None, None]
            self.fresh[rows] = False
        hy = np.matmul(h, y[:, :, None])[:, :, 0] / sy[:, None]
        weight = (1.0 + np.einsum("ij,ij->i", y, hy)) / sy
        h += weight[:, None, None] * (s[:, :, None] * s[:, None, :])
        cross = s[:, :, None] * hy[:, None, :]
        self.h[rows] = h - cross - cross.transpose(0, 2, 1)

    def covariance(self, row: int) -> np.ndarray:
        return self.h[row]


class Limited:
    """L-BFGS memory for every start; the matrix itself is formed only where a Gaussian is wanted."""

    def __init__(self, n: int, dim: int):
        self.dim = dim
        self.pairs: list[list[tuple[np.ndarray, np.ndarray, float]]] = [[] for _ in range(n)]

    def direction(self, rows: np.ndarray, g: np.ndarray) -> np.ndarray:
        """``-H g`` for each of these starts."""
        return -np.stack([self._apply(self.pairs[row], v) for row, v in zip(rows, g, strict=True)])

    @staticmethod
    def _apply(pairs: list[tuple[np.ndarray, np.ndarray, float]], v: np.ndarray) -> np.ndarray:
        q, alphas = v.copy(), []
        for s, y, sy in reversed(pairs):
            alphas.append((s @ q) / sy)
            q -= alphas[-1] * y
        if pairs:
            _, y, sy = pairs[-1]
            q *= sy / (y @ y)
        for (s, y, sy), alpha in zip(pairs, reversed(alphas), strict=True):
            q += s * (alpha - (y @ q) / sy)
        return q

    def update(self, rows: np.ndarray, s: np.ndarray, y: np.ndarray, sy: np.ndarray) -> None:
        """Remember a step ``s`` and its change of gradient ``y`` for each of these starts."""
        for row, *pair in zip(rows, s, y, sy, strict=True):
            self.pairs[row].append((pair[0], pair[1], float(pair[2])))
            del self.pairs[row][:-_MEMORY]

    def covariance(self, row: int) -> np.ndarray:
        pairs = self.pairs[row]
        h = np.eye(self.dim)
        if pairs:
            _, y, sy = pairs[-1]
            h *= sy / (y @ y)
        for s, y, sy in pairs:
            hy = h @ y / sy
            h += np.outer(s * ((1.0 + y @ hy) / sy), s)
            cross = np.outer(s, hy)
            h -= cross + cross.T
        return h


def lower_factor(cov: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a covariance; eigenvalues that rounding made negative are lifted."""
    largest = np.abs(cov).max()
    if not (np.isfinite(largest) and largest > 0):
        return np.eye(len(cov))  # a climb that ran away: its score says so
    cov = 0.5 * (cov + cov.T)
    try:
        return np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        diagonal = np.diagonal(cov)
        scale = np.sqrt(np.where(diagonal > 0, diagonal, 1e-12 * largest))
        with np.errstate(over="ignore"):
            correlation = np.clip(cov / np.outer(scale, scale), -1.0, 1.0)
        value, vector = np.linalg.eigh(correlation)
        root = (scale[:, None] * vector) * np.sqrt(np.maximum(value, 1e-12))
        return triangular(root)


def triangular(root: np.ndarray) -> np.ndarray:
    """The lower triangular ``C`` with ``C C' = root root'`` and a positive diagonal, without forming the product."""
    r = np.asarray(np.linalg.qr(root.T, mode="r"))
    return (r * np.sign(np.diagonal(r))[:, None]).T


def first_points(
    evaluate: Evaluate, dim: int, rng: np.random.Generator, starts: int, radius: float, given: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Starting points; those of zero density are drawn again, each time nearer to the origin or the given point."""
    if given is None:
        x = rng.uniform(-radius, radius, (starts, dim))
        centre = np.zeros_like(x)
    else:
        x = np.array(np.atleast_2d(given), dtype=float)
        centre = x.copy()
    log_p, grad = (np.array(v, dtype=float) for v in evaluate(x))
    used = len(x)
    for attempt in range(1, _REDRAWS + 1):
        bad = np.flatnonzero(~np.isfinite(log_p))
        if not len(bad):
            break
        x[bad] = centre[bad] + rng.uniform(-1, 1, (len(bad), dim)) * radius * 0.5**attempt
        log_p[bad], grad[bad] = evaluate(x[bad])
        used += len(bad)
    return x, log_p, grad, used


def given_starts(
    problem: Problem, guide: Guide, centredness: np.ndarray, rng: np.random.Generator, most: int
) -> np.ndarray | None:
    """Where a guide's own start sends the climbs, ``(n, D + P)`` with ``n <= most``; ``None`` where it has none."""
    start = getattr(guide, "start", None)
    if not isinstance(start, Start):
        return None
    points = start.points(problem, centredness, rng, most)
    return np.concatenate([points, np.broadcast_to(learned(problem), (len(points), problem.num_params))], axis=1)


def explore(
    evaluate: Evaluate,
    dim: int,
    rng: np.random.Generator,
    starts: int = 8,
    *,
    params: int = 0,
    given: np.ndarray | None = None,
    radius: float = 2.0,
    ticks: int = 300,
    draws: int = 8,
    tolerance: float = 1e-4,
    dense_limit: int = DENSE_LIMIT,
) -> Starts:
    r"""Climb from several points at once; keep the Gaussian of highest ELBO along each path.

    Each start runs BFGS on :math:`-\log p` with Armijo backtracking; every tick evaluates one trial point of every
    climb in one call. At accepted steps 3, 6, 10, 15, 22, 32, ... and at the end, the inverse Hessian ``H`` and the
    iterate ``x`` are scored as a Gaussian,

    .. math:: \widehat{\mathrm{ELBO}}(x, H) = \tfrac1K\sum_k \log p(x + H^{1/2}u_k) + \tfrac12\log\det(2\pi e H),

    with the same few draws ``u_k`` for all. A density without a mode (a funnel) runs away along the path and its ELBO
    tells; one with a mode is best at the end. Coordinates ``D ...`` of point-estimated parameters have no spread: the
    Gaussian is then the one of the first D given them. Beyond ``dense_limit`` dimensions the climb is L-BFGS.
    The quasi-Newton decrement is not evidence of convergence: polish the ends.

    Args:
        evaluate: rows ``(n, dim)`` to ``(log_p, gradients)``; non-finite rows come back as ``(-inf, 0)``.
        dim: D + P.
        rng: generator.
        starts: number of points, uniform on ``(-radius, radius)`` in every coordinate.
        params: P, the number of trailing point-estimated coordinates.
        given: starting points to use instead, ``(n, dim)``.
        radius: half width of the starting box; halved at each of eight redraws of points of zero density.
        ticks: most calls of ``evaluate``, apart from the first points and the scoring.
        draws: K, draws per scored Gaussian.
        tolerance: a climb ends when its decrement ``g'Hg/2`` is below this many nats.
        dense_limit: largest ``dim`` for which inverse Hessians are kept whole.

    Returns:
        `Starts`.

    Source: Zhang, Carpenter, Gelman, Vehtari (2022), "Pathfinder: parallel quasi-Newton variational inference".

    Example:
        >>> f = lambda z: (-0.5 * (z**2).sum(1), -z)
        >>> found = explore(f, 3, np.random.default_rng(0))
        >>> bool(np.abs(found.ends).max() < 0.02)
        True
    """
    x, log_p, grad, gradients = first_points(evaluate, dim, rng, starts, radius, given)
    n = len(x)
    alive = np.isfinite(log_p)
    f, g = -log_p, -grad
    metric = _Dense(n, dim) if dim <= dense_limit else Limited(n, dim)
    checkpoints = CHECKPOINTS if dim <= 400 else FEW_CHECKPOINTS

    d = -g
    slope = -np.einsum("ij,ij->i", g, g)
    t = 1.0 / np.maximum(1.0, np.sqrt(-slope))  # the first step is at most one unit long
    active = alive & (slope < 0)
    converged = alive & ~active
    iterations, backtracks = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    snapshots: list[tuple[int, np.ndarray, np.ndarray]] = []

    for _ in range(ticks):
        rows = np.flatnonzero(active)
        if not len(rows):
            break
        step = t[rows, None] * d[rows]
        trial = x[rows] + step
        log_p, grad = evaluate(trial)
        gradients += len(rows)
        f_new = -log_p
        slack = 4e-16 * np.abs(f[rows])
        ok = f_new <= f[rows] + 1e-4 * t[rows] * slope[rows] + slack

        bad = rows[~ok]
        if len(bad):
            excess = f_new[~ok] - f[bad] - t[bad] * slope[bad]
            with np.errstate(invalid="ignore", over="ignore"):
                quadratic = -0.5 * t[bad] ** 2 * slope[bad] / excess
            t[bad] = np.clip(np.where(np.isfinite(quadratic), quadratic, 0.0), 0.1 * t[bad], 0.5 * t[bad])
            backtracks[bad] += 1
            active[bad] &= backtracks[bad] < _MAX_BACKTRACKS

        good = rows[ok]
        if not len(good):
            continue
        s, y = step[ok], -grad[ok] - g[good]
        x[good], f[good], g[good] = trial[ok], f_new[ok], -grad[ok]
        sy = np.einsum("ij,ij->i", s, y)
        curved = sy > 1e-10 * np.sqrt(np.einsum("ij,ij->i", s, s) * np.einsum("ij,ij->i", y, y))
        if curved.any():
            metric.update(good[curved], s[curved], y[curved], sy[curved])
        d[good] = metric.direction(good, g[good])
        slope[good] = np.einsum("ij,ij->i", d[good], g[good])
        uphill = good[~(slope[good] < 0)]
        d[uphill] = -g[uphill]
        slope[uphill] = -np.einsum("ij,ij->i", g[uphill], g[uphill])
        # Where no curvature was met the model cannot lengthen the step by itself.
        t[good] = np.where(curved, 1.0, 2.0 * t[good])
        iterations[good] += 1
        backtracks[good] = 0
        done = good[(-0.5 * slope[good] < tolerance) & (curved | (slope[good] == 0))]
        converged[done] = True
        active[done] = False
        for row in good[active[good]]:
            if iterations[row] in checkpoints:
                snapshots.append((int(row), x[row].copy(), _factor(metric.covariance(row), params)))

    latent = dim - params
    end_factors = np.empty((n, latent, latent))
    for row in range(n):
        end_factors[row] = _factor(metric.covariance(row), params)
        snapshots.append((row, x[row].copy(), end_factors[row]))
    scored = [snap for snap in snapshots if alive[snap[0]]]
    points, factors, elbos = x.copy(), end_factors.copy(), np.full(n, -np.inf)
    if scored:
        u = orthogonal_antithetic(draws, latent, rng)
        scores, used = gaussian_elbos(evaluate, [p for _, p, _ in scored], [c for _, _, c in scored], u)
        gradients += used
        for (row, point, factor), score in zip(scored, scores, strict=True):
            if score > elbos[row]:
                points[row], factors[row], elbos[row] = point, factor, score
    return Starts(
        points, factors, elbos, x, end_factors, np.where(alive, -f, -np.inf), iterations, converged,
        int(np.sum(~alive)), gradients,
    )  # fmt: skip


def _factor(cov: np.ndarray, params: int) -> np.ndarray:
    """Factor of the covariance of the first D coordinates given the last ``params``."""
    if params:
        d = len(cov) - params
        cross = cov[:d, d:]
        cov = cov[:d, :d] - cross @ np.linalg.solve(cov[d:, d:], cross.T)
    return lower_factor(cov)


def gaussian_elbos(
    evaluate: Evaluate, points: list[np.ndarray], factors: list[np.ndarray], u: np.ndarray
) -> tuple[np.ndarray, int]:
    """ELBO estimates of several Gaussians on common draws, in one call.

    Args:
        evaluate: the density.
        points: ``(dim,)`` each; coordinates past the factor's are held fixed.
        factors: lower triangular ``(D, D)`` each.
        u: base draws ``(K, D)``.

    Returns:
        ``(n,)`` nats (``-inf`` where a draw has zero density), and the number of gradients used.
    """
    k, latent = u.shape
    rows = np.repeat(np.stack(points), k, axis=0)
    for i, factor in enumerate(factors):
        rows[i * k : (i + 1) * k, :latent] += u @ factor.T
    log_p, _ = evaluate(rows)
    entropy = [np.log(np.diagonal(c)).sum() + 0.5 * latent * (1 + np.log(2 * np.pi)) for c in factors]
    return log_p.reshape(len(points), k).mean(1) + np.array(entropy), len(rows)
