"""Base draws: orthogonal, antithetic, with exact moments for fitting and exact margins for weighing."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.linalg import solve_triangular

Radii = Literal["constant", "chi", "stratified"]

_THIN = 512  # rows of a thin factor: its cost is their square times dim
_STRATUM = 32  # chi-squared values whose mean makes one stratified radius


def haar_rows(rows: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors, orthonormal within blocks, each block Haar distributed.

    With ``Z`` a square matrix of standard normals and ``Z = QR``, ``Q diag(sign R)`` is Haar distributed on O(dim);
    without the signs it is not (Mezzadri, 2007).

    Args:
        rows: number of unit vectors.
        dim: their length.
        rng: generator.

    Returns:
        Array ``(rows, dim)``; rows ``k dim ... (k+1) dim - 1`` are mutually orthogonal, those of a last block that is
        not full by 512.
    """
    blocks, rest = divmod(rows, dim)
    parts = []
    if blocks:
        q, r = np.linalg.qr(rng.standard_normal((blocks, dim, dim)))
        q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
        parts.append(q.reshape(blocks * dim, dim))
    for start in range(0, rest, _THIN):  # thin factors are enough, and cheap when dim is large
        q, r = np.linalg.qr(rng.standard_normal((dim, min(_THIN, rest - start))))
        parts.append((q * np.sign(np.diagonal(r))).T)
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def orthogonal_antithetic(
    rows: int, dim: int, rng: np.random.Generator, radii: Radii = "constant", whiten: bool = True
) -> np.ndarray:
    r"""Fixed draws whose first two moments are those of N(0, I), exactly.

    .. math:: U = [A; -A],\quad A_i = r_i q_i,\quad \tfrac1M \sum_i u_i = 0,\quad \tfrac1M U^\top U = I

    ``q_i`` are rows of Haar blocks. ``radii``: ``"constant"`` puts every draw on the sphere of radius ``sqrt(dim)``;
    ``"chi"`` draws the radius from its own law; ``"stratified"`` takes one radius from each of M/2 equal-probability
    strata of that law, which keeps the fourth and higher moments nearly exact. A fixed-draw ELBO of a Gaussian target
    depends on the draws only through these two moments, hence is exact for M >= 2 dim; with independent draws
    it overfits by whole nats at the same M.

    Args:
        rows: number of draws M, rounded up to an even number.
        dim: dimension.
        rng: generator.
        radii: law of the lengths.
        whiten: make the second moment exact where blocks are incomplete or lengths vary: the rows are multiplied by
            the inverse Cholesky factor of ``U'U / M``. Fewer than ``2 dim`` draws cannot be whitened: their columns
            are scaled to unit second moment instead.

    Returns:
        Array ``(M, dim)``; row ``i + M/2`` is minus row ``i``.

    Example:
        >>> u = orthogonal_antithetic(8, 2, np.random.default_rng(0))
        >>> bool(np.allclose(u.T @ u / 8, np.eye(2)))
        True
    """
    half = (rows + 1) // 2
    a = haar_rows(half, dim, rng)
    if radii == "constant":
        a *= np.sqrt(dim)
    elif radii == "chi":
        a *= np.sqrt(rng.chisquare(dim, half))[:, None]
    else:
        squares = np.sort(rng.chisquare(dim, half * _STRATUM)).reshape(half, _STRATUM).mean(1)
        a *= np.sqrt(rng.permutation(squares))[:, None]
    if whiten and half >= dim:
        if radii != "constant" or half % dim:
            a = solve_triangular(np.linalg.cholesky(a.T @ a / half), a.T, lower=True).T
    elif whiten:
        a /= np.sqrt(np.mean(a * a, axis=0))
    return np.concatenate([a, -a])


def pool(rows: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Orthogonal-antithetic draws, each of them exactly N(0, I): importance sampling with them stays unbiased.

    A Haar direction times an independent chi radius is a standard normal vector. Rows are dependent, in a way that
    lowers the variance of averages of smooth functions; nothing is whitened, since that would bias the weights.

    Args:
        rows: number of draws.
        dim: dimension.
        rng: generator.

    Returns:
        Array ``(rows, dim)``; antithetic partners are ``ceil(rows / 2)`` rows apart.
    """
    return orthogonal_antithetic(rows, dim, rng, radii="chi", whiten=False)[:rows]


def gaussian_log_density(u: np.ndarray, log_det: float) -> np.ndarray:
    r"""log N(z; m, CC') of ``z = m + C u``: :math:`-\tfrac12|u|^2 - \tfrac D2\log 2\pi - \log|C|`.

    Args:
        u: base draws, ``(n, D)``.
        log_det: log of the absolute determinant of ``C``.

    Returns:
        Array ``(n,)``, nats.
    """
    return -0.5 * np.einsum("ij,ij->i", u, u) - 0.5 * u.shape[1] * np.log(2 * np.pi) - log_det


def paired_standard_error(values: np.ndarray) -> float:
    """Standard error of the mean of ``values``, rows ``i`` and ``i + n/2`` being an antithetic pair.

    Pairs are treated as independent, which is conservative for orthogonal draws.
    """
    half = len(values) // 2
    if half < 2 or not np.all(np.isfinite(values)):
        return float("inf")
    pairs = 0.5 * (values[:half] + values[half : 2 * half])
    return float(np.std(pairs, ddof=1) / np.sqrt(half))
