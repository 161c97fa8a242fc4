"""Centredness of hierarchical latents in closed form from a fit, and the map between parametrisations."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from taut.algorithms._starts import triangular


def optimal_centring(
    factor: np.ndarray, coordinates: np.ndarray, lam: np.ndarray, expected_log_scale: np.ndarray
) -> np.ndarray:
    r"""The centredness that each hierarchical coordinate should have, read off a Gaussian fitted at another.

    With ``theta ~ N(m, s^2)`` written as :math:`u \sim N(\lambda m, s^{2\lambda})`,
    :math:`\theta = m + s^{1-\lambda}(u - \lambda m)`, the prior contributes the precision :math:`s^{-2\lambda}` to the
    posterior precision of ``u`` given everything else, and the data the rest. The share of the data is the centredness
    at which ``u`` and its hyperparameters depend least on each other:

    .. math:: \lambda_j \leftarrow
              \operatorname{clip}\!\Big(1 - \frac{s_j^{-2\lambda_j}}{(\Sigma_q^{-1})_{jj}},\,0,\,1\Big),\\
              s_j = \exp(E_q\log s)

    Data that say nothing give 0 (non-centred); data that say all give 1 (centred).

    Args:
        factor: ``C`` of the fit, ``(D, D)`` lower triangular (or standard deviations ``(D,)``).
        coordinates: positions of the hierarchical coordinates among the D, ``(J,)``.
        lam: their present centredness, ``(J,)``.
        expected_log_scale: ``E_q log s`` for each, ``(J,)``.

    Returns:
        New centredness, ``(J,)``, within [0, 1].

    Source: Gorinova, Moore, Hoffman (2020), "Automatic reparameterisation of probabilistic programs".

    Example:
        >>> # prior N(m, 1) and one datum of variance 1/3: the data carry three quarters of the precision
        >>> optimal_centring(np.array([[0.5]]), np.array([0]), np.array([0.0]), np.array([0.0]))
        array([0.75])
    """
    if factor.ndim == 1:
        precision = factor[coordinates] ** -2.0
    else:
        columns = np.zeros((len(factor), len(coordinates)))
        columns[coordinates, np.arange(len(coordinates))] = 1.0
        half = solve_triangular(factor, columns, lower=True, check_finite=False)
        precision = np.einsum("ij,ij->j", half, half)
    return np.clip(1.0 - np.exp(-2.0 * lam * expected_log_scale) / precision, 0.0, 1.0)


def recentre(
    u: np.ndarray, location: np.ndarray, log_scale: np.ndarray, lam: np.ndarray, new_lam: np.ndarray
) -> np.ndarray:
    r"""The same ``theta`` at another centredness: :math:`u' = \lambda' m + s^{\lambda'-\lambda}(u - \lambda m)`.

    All arguments broadcast; ``location`` is ``m`` and ``log_scale`` is ``log s`` at the draw.
    """
    return new_lam * location + np.exp((new_lam - lam) * log_scale) * (u - lam * location)


def matched_gaussian(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``(D,)`` and lower factor ``(D, D)`` of rows ``(n, D)``, ``n > D``: where a recentred fit begins.

    The factor comes from an orthogonal decomposition of the rows; their covariance is never formed.
    """
    mean = z.mean(0)
    return mean, triangular(((z - mean) / np.sqrt(len(z))).T)
