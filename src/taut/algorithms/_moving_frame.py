"""Linear algebra of the moving frame: gradients, natural steps and quasi-Newton directions in whitened coordinates."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_CLIP = (0.05, 50.0)  # of the precision that one natural step may set, in units of the present one


@lru_cache(maxsize=16)
def lower_indices(dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row indices, column indices and positions of the diagonal among the entries of a lower triangle."""
    i, j = np.tril_indices(dim)
    return i, j, np.flatnonzero(i == j)


def spread_size(factor: np.ndarray) -> int:
    """Number of entries of the spread: D for a diagonal family (``factor`` a vector), D (D + 1) / 2 otherwise."""
    d = len(factor)
    return d if factor.ndim == 1 else d * (d + 1) // 2


def metric(factor: np.ndarray, params: int) -> np.ndarray:
    r"""``P0``, the inverse Hessian of the loss at a Gaussian target: 1, and 1/2 for log-scales.

    In the frame, :math:`-F = \tfrac12|a|^2 + \tfrac12|L|_F^2 - \sum\log L_{jj}`, whose second derivative at
    ``a = 0, L = I`` is 1 in ``a`` and below the diagonal, 2 in ``log L_jj``.
    """
    d, n = len(factor), spread_size(factor)
    p0 = np.ones(d + n + params)
    p0[d + (np.arange(d) if factor.ndim == 1 else lower_indices(d)[2])] = 0.5
    return p0


def frame_gradient(
    grad: np.ndarray, u: np.ndarray, factor: np.ndarray, location: np.ndarray, params_scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Gradient of the loss in the frame, and the raw second-order statistic.

    With ``z = m + B a + C L u`` at ``a = 0, L = I``, ``G`` the gradients of ``log p`` and ``Gw = G C``:

    .. math:: g_a = -\overline{B^\top G},\qquad g_L = -\big(\overline{Gw\,u^\top} + I\big)_{\text{lower}},\qquad
              g_\tau = -\,w\,\overline{\nabla_\theta\log p}.

    Args:
        grad: ``(M, D + P)``.
        u: base draws ``(M, D)``.
        factor: ``C``: ``(D, D)`` lower triangular, or its diagonal ``(D,)``.
        location: ``B (D, D)``; an empty array means ``C``.
        params_scale: ``w (P,)``, units of the point-estimated parameters.

    Returns:
        The gradient as one vector, and ``mean Gw u'`` (its diagonal for a diagonal family).
    """
    m, d = u.shape
    g = grad[:, :d]
    mean = g.mean(0)
    if factor.ndim == 1:
        moment = np.einsum("ij,ij->j", g, u) * factor / m
        g_spread = -(moment + 1.0)
        g_a = -(location.T @ mean) if location.size else -factor * mean
    else:
        moment = factor.T @ (g.T @ u) / m
        i, j, diagonal = lower_indices(d)
        g_spread = -moment[i, j]
        g_spread[diagonal] -= 1.0
        g_a = -((location if location.size else factor).T @ mean)
    g_tau = -params_scale * grad[:, d:].mean(0)
    return np.concatenate([g_a, g_spread, g_tau]), moment


def move(
    mean: np.ndarray,
    factor: np.ndarray,
    location: np.ndarray,
    point: np.ndarray,
    params_scale: np.ndarray,
    step: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Gaussian (and point) after a step of the frame: ``m + B a``, ``C L`` with ``diag L = exp(step)``."""
    d = len(mean)
    n = spread_size(factor)
    a, spread, tau = step[:d], step[d : d + n], step[d + n :]
    if factor.ndim == 1:
        new_mean = mean + (location @ a if location.size else factor * a)
        new_factor = factor * np.exp(spread)
    else:
        i, j, diagonal = lower_indices(d)
        low = np.zeros((d, d))
        low[i, j] = spread
        low[np.arange(d), np.arange(d)] = np.exp(spread[diagonal])
        new_mean = mean + (location if location.size else factor) @ a
        new_factor = np.tril(factor @ low)
    return new_mean, new_factor, point + params_scale * tau


def natural_step(
    g: np.ndarray, moment: np.ndarray, factor: np.ndarray, rho: float, spectrum: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    r"""One step of natural-gradient VI with the expected Hessian from gradients alone (Stein's identity).

    .. math:: P = -\operatorname{sym}\overline{Gw\,u^\top},\qquad P_\rho = (1-\rho)I + \rho P,\qquad
              LL^\top = P_\rho^{-1},\qquad a = \rho\,P_\rho^{-1}\,\overline{Gw}

    Eigenvalues of ``P`` are clipped to [.05, 50], and ``|L^-1 a|`` to ``3 sqrt(D)``. With draws that are exactly
    white, ``rho = 1`` lands on the posterior of a Gaussian target at once.

    Args:
        g: frame gradient (its first D entries are ``-mean Gw``).
        moment: ``mean Gw u'``, or its diagonal.
        factor: the present factor; its shape tells the family.
        rho: damping in (0, 1].
        spectrum: from `clipped_spectrum`.

    Returns:
        ``a (D,)`` and ``L`` (``(D, D)`` lower triangular, or ``(D,)``).
    """
    d = len(factor)
    value, vector = spectrum
    precision = (1.0 - rho) + rho * value
    if factor.ndim == 1:
        # The location's own frame is already whitened by the Laplace precision.
        low = 1.0 / np.sqrt(precision)
        a = -rho * g[:d]
        size = np.linalg.norm(a)
    else:
        covariance = (vector / precision) @ vector.T
        low = np.linalg.cholesky(covariance)
        a = -rho * (covariance @ g[:d])
        size = np.linalg.norm(np.sqrt(precision) * (vector.T @ a))
    return a * min(1.0, 3.0 * np.sqrt(d) / max(size, 1e-300)), low


def clipped_spectrum(moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clipped eigenvalues of ``-sym(moment)`` and its eigenvectors (of a diagonal: the clipped diagonal)."""
    if moment.ndim == 1:
        return np.clip(-moment, *_CLIP), moment
    value, vector = np.linalg.eigh(-0.5 * (moment + moment.T))
    return np.clip(value, *_CLIP), vector


def quasi_newton(g: np.ndarray, s: np.ndarray, y: np.ndarray, p0: np.ndarray) -> np.ndarray:
    """``H g`` by the two-loop recursion with ``H0 = gamma P0``; ``s`` and ``y`` are ``(pairs, n)``, oldest first."""
    if not len(s):
        return p0 * g
    sy = np.einsum("ij,ij->i", s, y)
    q = g.copy()
    alpha = np.empty(len(s))
    for k in range(len(s) - 1, -1, -1):
        alpha[k] = (s[k] @ q) / sy[k]
        q -= alpha[k] * y[k]
    q *= p0 * (sy[-1] / (y[-1] @ (p0 * y[-1])))
    for k in range(len(s)):
        q += s[k] * (alpha[k] - (y[k] @ q) / sy[k])
    return q
