"""Mean field: the diagonal Gaussian to start from, its draws, and the covariance that linear response gives back."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from taut._draws import orthogonal_antithetic
from taut.algorithms._fixed_draws import State, init, positions
from taut.algorithms._starts import Evaluate

_ROWS = 64
_WHITE_LIMIT = 4096  # up to this dimension the draws are enough to be exactly white
_BLOCK = 4096  # rows per call in the linear response


def mean_field_scales(factor: np.ndarray) -> np.ndarray:
    r"""Standard deviations :math:`s_i = (\Sigma^{-1})_{ii}^{-1/2}`, ``(D,)``: the mean-field optimum of N(m, CC')."""
    inverse = solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
    return 1.0 / np.sqrt(np.einsum("ij,ij->j", inverse, inverse))


def mean_field_draws(level: int, dim: int, rng: np.random.Generator, *, white: int = _WHITE_LIMIT) -> np.ndarray:
    """Fixed draws of a mean-field fit: ``max(64, 2 D)`` rows (64 past ``white`` latents), four times as many a level.

    Second moments are one; up to ``white`` dimensions the draws are exactly white, which makes the fit of a Gaussian
    target exact: with fewer, scalars that many others share see the accidents of the sample. Radii are stratified,
    since each coordinate's whole margin, not only its second moment, sets its scale.
    """
    rows = max(_ROWS, 2 * dim) if dim <= white else _ROWS
    return orthogonal_antithetic(rows * 4**level, dim, rng, radii="stratified")


def init_mean_field(
    evaluate: Evaluate,
    mean: np.ndarray,
    factor: np.ndarray,
    draws: np.ndarray,
    *,
    point: np.ndarray | None = None,
    params_scale: np.ndarray | None = None,
    tolerance: float = 1e-3,
    max_steps: int = 300,
) -> State:
    r"""State of the mean-field fit: the same contract and the same `step` as full rank.

    .. math:: F(m, s) = \tfrac1M\sum_i\log p(m + s\odot u_i) + \sum_j\log s_j + \tfrac D2\log 2\pi e

    Steps of ``m`` are whitened by the full Laplace factor, so that a correlated target, whose ``F`` is badly
    conditioned in ``m``, costs a handful of steps and the decrement means what it says.

    Args:
        evaluate: rows ``(n, D + P)`` to ``(log_p, gradients)``.
        mean: ``(D,)``.
        factor: Laplace factor ``(D, D)``, lower triangular.
        draws: from `mean_field_draws`.
        point: point-estimated parameters, ``(P,)``.
        params_scale: their units.
        tolerance: nats.
        max_steps: step cap.

    Returns:
        `State` with ``factor (D,)``.
    """
    return init(
        evaluate, mean, mean_field_scales(factor), draws, point=point, params_scale=params_scale, location=factor,
        tolerance=tolerance, max_steps=max_steps,
    )  # fmt: skip


def linear_response(evaluate: Evaluate, state: State, difference: float = 1e-3) -> tuple[np.ndarray, int]:
    r"""Covariance of the latents by linear response: what mean field knows and does not show.

    Tilting the target by ``t'z`` moves the optimal mean by ``Cov t``; with ``H`` the negative Hessian of ``F`` in
    ``(m, log s)``, :math:`\mathrm{Cov} = [H^{-1}]_{mm}`, which is exact for a Gaussian target. Differences of gradients
    at every draw along every coordinate give the Hessian columns of all draws, and all blocks of ``H`` are averages
    of them. Costs ``2 D M`` gradients: for D up to about 300.

    Args:
        evaluate: the density.
        state: a finished mean-field fit.
        difference: half-width, in standard deviations.

    Returns:
        Covariance ``(D, D)`` and the number of gradients. Where ``H`` is not positive definite the fit is no
        maximum; its negative eigenvalues are then reflected.

    Source: Giordano, Broderick, Jordan (2018), "Covariances, robustness, and variational Bayes".
    """
    u, s = state.draws, state.factor
    m, d = u.shape
    z = positions(state.mean, s, state.point, u)
    _, grad = evaluate(z)
    su = u * s
    mm, lm = np.empty((d, d)), np.empty((d, d))
    ll = np.empty((d, d))
    per_call = max(1, _BLOCK // (2 * m))
    for first in range(0, d, per_call):
        columns = np.arange(first, min(first + per_call, d))
        h = difference * s[columns]
        rows = np.repeat(z[None, None], 2 * len(columns), axis=1).reshape(2, len(columns), m, -1)
        rows[0, np.arange(len(columns)), :, columns] += h[:, None]
        rows[1, np.arange(len(columns)), :, columns] -= h[:, None]
        _, g = evaluate(rows.reshape(-1, z.shape[1]))
        g = g.reshape(2, len(columns), m, -1)[..., :d]
        hessian = (g[0] - g[1]) / (2 * h)[:, None, None]  # (column, draw, row)
        mm[:, columns] = hessian.mean(1).T
        lm[:, columns] = np.einsum("cik,ik->kc", hessian, su) / m
        ll[:, columns] = np.einsum("cik,ik,ic->kc", hessian, su, su[:, columns]) / m
    ll[np.arange(d), np.arange(d)] += np.einsum("ik,ik->k", grad[:, :d], su) / m
    full = -np.block([[mm, lm.T], [lm, ll]])
    unit = np.concatenate([1.0 / s, np.ones(d)])  # entries of one size, whatever the units of the latents
    full = 0.5 * (full + full.T) / np.outer(unit, unit)
    value, vector = np.linalg.eigh(full)
    half = (vector[:d] / unit[:d, None]) / np.sqrt(np.maximum(np.abs(value), 1e-12))
    return half @ half.T, m * (2 * d + 1)
