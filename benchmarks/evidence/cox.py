"""The best ELBO that a Gaussian can have on a log-Gaussian Cox process: a fixed point in closed form, no draws."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

_ROUNDS = 200
_CLOSE = 1e-11


def best_elbo(counts: np.ndarray, covariance: np.ndarray, level: float, area: float) -> float:
    r"""The highest ELBO of a Gaussian on a log-Gaussian Cox process.

    $$\max_{m, S} \sum_i \big(c_i m_i - a\, e^{m_i + S_{ii}/2}\big)
      - \mathrm{KL}(\mathcal N(m, S) \| \mathcal N(\mu, K))$$

    At the maximum, with $d_i = a\, e^{m_i + S_{ii}/2}$: $S^{-1} = K^{-1} + \operatorname{diag} d$ and
    $m = \mu + K (c - d)$. Newton steps for m at a fixed diagonal of S, and that diagonal anew, by turns; every matrix
    that is factorised is $B = I + \sqrt d\, K \sqrt d$.

    Args:
        counts: $c$, points in each cell.
        covariance: $K$.
        level: $\mu$.
        area: $a$ of a cell.

    Returns:
        Nats, without the constants of the counts.

    Raises:
        ArithmeticError: if the iteration does not come to rest.
    """
    m = np.full(len(counts), level)
    half = 0.5 * np.diagonal(covariance).copy()  # half the diagonal of S
    value = -np.inf
    for _ in range(_ROUNDS):
        d = area * np.exp(m + half)
        root = np.sqrt(d)
        factor = cho_factor(np.eye(len(m)) + root[:, None] * covariance * root, lower=True)
        # Newton: m - mu = K a, a = (K + 1/d)^-1 applied to the target of the linearised mean.
        b = d * (m - level) + counts - d
        alpha = b - root * cho_solve(factor, root * (covariance @ b))
        step = level + covariance @ alpha - m
        m = m + step * min(1.0, 3.0 / np.abs(step).max())
        half_solve = solve_triangular(factor[0], root[:, None] * covariance, lower=True)
        half = 0.5 * (np.diagonal(covariance) - (half_solve**2).sum(axis=0))
        inverse = solve_triangular(factor[0], np.eye(len(m)), lower=True)
        kl = 0.5 * ((inverse**2).sum() - len(m) + alpha @ (covariance @ alpha)) + np.log(np.diagonal(factor[0])).sum()
        after = float(counts @ m - area * np.exp(m + half).sum() - kl)
        if abs(after - value) < _CLOSE * abs(after) and np.abs(step).max() < 1e-8:
            return after
        value = after
    raise ArithmeticError(f"no rest after {_ROUNDS} rounds: {value}")
