"""How many fixed draws are enough: climb the levels until fresh draws agree with the fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from taut._draws import gaussian_log_density, orthogonal_antithetic, paired_standard_error, pool
from taut.algorithms._fixed_draws import Info, State, init, maximise, positions
from taut.algorithms._starts import Evaluate

LEVELS = ((4, 64), (16, 256), (64, 1024))  # draws per dimension, and at least
OVERFIT = 0.05  # nats that the fit may promise beyond what fresh draws give
_NOISE_CAP = 0.2  # nats: a fresh test noisier than this has met the tail that more fixed draws would have seen
FRESH_ROWS = 1000
_FAR = 1.0  # nats from the posterior: a Gaussian this far off is repaired by particles, not by ever more draws
_SMALL_DIM = 5


class Fresh(NamedTuple):
    """Draws that the fit has not seen: ``z (n, D + P)``, ``log_p``, ``log_q (n,)``, and the ELBO with its standard
    error, nats. They serve as importance draws too."""

    z: np.ndarray
    log_p: np.ndarray
    log_q: np.ndarray
    elbo: float
    elbo_se: float


class Climb(NamedTuple):
    """A fit through the levels.

    state: the last one; its status is that of the last level. rows: draws of the last level. levels: how many were
    fitted. fresh: test of the last level. gap: fixed-draw minus fresh ELBO, nats. overfits: the gap is larger than its
    standard error explains even at the last level allowed. infos: of all steps.
    """

    state: State
    rows: int
    levels: int
    fresh: Fresh
    gap: float
    overfits: bool
    infos: list[Info]
    gradients: int


def level_draws(level: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Fixed draws of a level: ``max(4 D, 64)``, ``max(16 D, 256)``, ``max(64 D, 1024)`` rows.

    The first level has constant radii: fewest surprises from few draws. Later ones have chi radii, whitened, since
    one radius for all biases the spread by an amount that more draws do not cure. In fewer than five dimensions a
    sphere says too little (in one it is two points), and radii are stratified from the start.
    """
    per_dim, least = LEVELS[level]
    radii = "stratified" if dim < _SMALL_DIM else "constant" if level == 0 else "chi"
    return orthogonal_antithetic(max(per_dim * dim, least), dim, rng, radii=radii)


def fresh_elbo(evaluate: Evaluate, state: State, rows: int, rng: np.random.Generator) -> Fresh:
    r"""ELBO on new draws: :math:`\tfrac1n\sum_i\log p(z_i) - \log q(z_i)`, exact for ``q = p``.

    Args:
        evaluate: the density.
        state: a fit.
        rows: number of draws.
        rng: generator.

    Returns:
        `Fresh`; the ELBO is ``-inf`` if a draw has zero density.
    """
    u = pool(rows, len(state.mean), rng)
    z = positions(state.mean, state.factor, state.point, u)
    log_p, _ = evaluate(z)
    diagonal = state.factor if state.factor.ndim == 1 else np.diagonal(state.factor)
    log_q = gaussian_log_density(u, float(np.log(diagonal).sum()))
    log_w = log_p - log_q
    return Fresh(z, log_p, log_q, float(log_w.mean()), paired_standard_error(log_w))


def _joined(a: Fresh, b: Fresh) -> Fresh:
    n, m = len(a.log_p), len(b.log_p)
    elbo = (n * a.elbo + m * b.elbo) / (n + m)
    se = float(np.hypot(n * a.elbo_se, m * b.elbo_se)) / (n + m)
    return Fresh(
        np.concatenate([a.z, b.z]), np.concatenate([a.log_p, b.log_p]), np.concatenate([a.log_q, b.log_q]), elbo, se
    )


def _tested(evaluate: Evaluate, state: State, rows: int, rng: np.random.Generator) -> tuple[Fresh, float]:
    """Fresh draws and the gap; twice the draws where the first leave it unclear."""
    fresh = fresh_elbo(evaluate, state, rows, rng)
    if OVERFIT < state.elbo - fresh.elbo <= OVERFIT + 4 * fresh.elbo_se < np.inf:
        fresh = _joined(fresh, fresh_elbo(evaluate, state, rows, rng))
    return fresh, state.elbo - fresh.elbo


def _distance(fresh: Fresh) -> float:
    """KL(q || p) in nats as the weights of the fresh draws tell it."""
    log_w = fresh.log_p - fresh.log_q
    return float(np.logaddexp.reduce(log_w) - np.log(len(log_w)) - fresh.elbo)


def climb(
    evaluate: Evaluate,
    mean: np.ndarray,
    factor: np.ndarray,
    rng: np.random.Generator,
    *,
    point: np.ndarray | None = None,
    params_scale: np.ndarray | None = None,
    location: np.ndarray | None = None,
    levels: int = 3,
    first: int = 0,
    draw: Callable[[int, int, np.random.Generator], np.ndarray] = level_draws,
    fresh_rows: int = FRESH_ROWS,
    tolerance: float = 1e-3,
    max_steps: int = 300,
    callback: Callable[[Info], None] | None = None,
) -> Climb:
    r"""Maximise the fixed-draw ELBO; take more draws only if it promises what fresh draws do not give.

    The fixed-draw optimum is optimistic by about (number of fitted numbers) / (number of draws) times the variance
    of the log weights, and only draws that took no part show it. Level k + 1 is fitted, from level k's Gaussian, if

    .. math:: \hat F_{\text{fit}} - \hat F_{\text{fresh}} > 0.05 + \min(2\,\mathrm{se}, 0.2).

    The last level is for a Gaussian that fits: where the fresh draws put it more than a nat from the posterior, it is
    not begun. The cap matters: a fit that overfits has heavy tails, and one fresh draw out there swells the standard
    error until it excuses the very gap it betrays.

    Args:
        evaluate: rows ``(n, D + P)`` to ``(log_p, gradients)``.
        mean: ``(D,)``.
        factor: ``(D, D)`` full rank, or ``(D,)`` mean field.
        rng: generator.
        point: point-estimated parameters, ``(P,)``.
        params_scale: their units.
        location: frame of the mean in a mean-field fit; see `init`.
        levels: most levels to fit, counted from the lowest: 3 allows 64 D draws.
        first: level to begin with.
        draw: fixed draws of ``(level, dim, rng)``; `mean_field_draws` for a mean-field fit.
        fresh_rows: draws of a test; doubled where the first are inconclusive.
        tolerance: nats.
        max_steps: step cap of each level.
        callback: called with every `Info`.

    Returns:
        `Climb`.
    """
    infos: list[Info] = []
    gradients, level = 0, first
    last = min(levels, len(LEVELS)) - 1
    if point is not None and len(point) == 0:
        point = None
    while True:
        draws = draw(level, len(mean), rng)
        state = init(
            evaluate, mean, factor, draws, point=point, params_scale=params_scale, location=location,
            tolerance=tolerance, max_steps=max_steps,
        )  # fmt: skip
        state, steps = maximise(evaluate, state, callback)
        infos += steps
        gradients += state.gradients
        fresh, gap = _tested(evaluate, state, fresh_rows, rng)
        gradients += len(fresh.log_p)
        noise = 2 * fresh.elbo_se
        enough = np.isfinite(gap) and gap <= OVERFIT + min(noise, _NOISE_CAP)
        far = level == len(LEVELS) - 2 and not _distance(fresh) < _FAR
        if enough or far or level >= last or state.status == "nonfinite":
            overfits = not (np.isfinite(gap) and gap <= OVERFIT + noise)
            return Climb(state, len(draws), level - first + 1, fresh, gap, overfits, infos, gradients)
        mean, factor = state.mean, state.factor
        point = state.point if len(state.point) else None
        level += 1
