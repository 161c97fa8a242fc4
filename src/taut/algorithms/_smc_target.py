"""The two ends of the path from q to the posterior: densities and gradients of both, and the swap of coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from taut._draws import gaussian_log_density
from taut.algorithms._centring import recentre
from taut.algorithms._smc_moves import Cloud
from taut.algorithms._starts import triangular
from taut.guides import FullRank, GaussianMixture, Guide, LowRank, MeanField
from taut.problem import Problem


class Components:
    """A Gaussian guide as a mixture: weights ``(K,)``, means ``(K, D)``, lower factors ``(K, D, D)``."""

    def __init__(self, guide: Guide, params: Mapping[str, Any]):
        if isinstance(guide, GaussianMixture):
            log_weight = np.asarray(params["log_weight"], float)
            parts = [{n: params[n][k] for n in ("log_diagonal", "lower")} for k in range(len(log_weight))]
            self.means = np.asarray(params["loc"], float)
            self.factors = np.stack([FullRank.factor(part) for part in parts])
        elif isinstance(guide, FullRank):
            log_weight = np.zeros(1)
            self.means = np.asarray(params["loc"], float)[None]
            self.factors = FullRank.factor(params)[None]
        elif isinstance(guide, MeanField):
            log_weight = np.zeros(1)
            self.means = np.asarray(params["loc"], float)[None]
            self.factors = np.diag(np.exp(np.asarray(params["log_scale"], float)))[None]
        elif isinstance(guide, LowRank):
            log_weight = np.zeros(1)
            self.means = np.asarray(params["loc"], float)[None]
            self.factors = triangular(LowRank.factor(params))[None]
        else:
            raise TypeError(f"no path from a {type(guide).__name__}")
        eye = np.eye(self.means.shape[1])
        # Inverses, since the same factors meet new points at every step.
        self.inverses = np.stack([solve_triangular(f, eye, lower=True, check_finite=False) for f in self.factors])
        weights = np.exp(log_weight - log_weight.max())
        with np.errstate(divide="ignore"):
            self.log_weights = np.log(weights / weights.sum())

    def density(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""$\log q$, its gradient, and the component most likely to have made each row.

        With $u_k = C_k^{-1}(z - m_k)$ and responsibilities $r_k$: $\nabla\log q = -\sum_k r_k C_k^{-\top} u_k$.
        """
        terms = np.empty((len(self.means), len(z)))
        slopes = np.empty((len(self.means), *z.shape))
        for k, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            u = (z - mean) @ self.inverses[k].T
            terms[k] = self.log_weights[k] + gaussian_log_density(u, float(np.log(np.diagonal(factor)).sum()))
            slopes[k] = -u @ self.inverses[k]
        if len(terms) == 1:
            return terms[0], slopes[0], np.zeros(len(z), int)
        top = terms.max(0)
        shares = np.exp(terms - top)
        total = shares.sum(0)
        return top + np.log(total), np.einsum("kp,kpd->pd", shares / total, slopes), terms.argmax(0)


class Target:
    """A problem at fixed model parameters, as the moves see it; counts the gradients it gives."""

    def __init__(self, problem: Problem, model_params: np.ndarray, components: Components):
        self.problem = problem
        self.kernel = problem.kernel()
        self.components = components
        self.params = np.asarray(model_params, float)
        self.gradients = 0

    def whole(self, z: np.ndarray) -> np.ndarray:
        """Rows with the model's parameters beside them, ``(P, D + num_params)``."""
        if not len(self.params):
            return z
        return np.concatenate([z, np.broadcast_to(self.params, (len(z), len(self.params)))], axis=1)

    def cloud(self, z: np.ndarray, centredness: np.ndarray, *, with_q: bool) -> Cloud:
        """Particles at these points; without q its part is zero, which is right at the posterior's end only."""
        log_p, grad_p = self.kernel(self.whole(z), centredness)
        self.gradients += len(z)
        grad_p = grad_p[:, : z.shape[1]]
        if with_q:
            log_q, grad_q, _ = self.components.density(z)
            return Cloud(z, log_p, grad_p, log_q, grad_q)
        return Cloud(z, log_p, grad_p, np.zeros(len(z)), np.zeros_like(z))

    def swapped(self, z: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The same points of the model's own space in coordinates of another centredness, ``(P, D)``.

        A bijection between two sets of coordinates, each with the density that includes its Jacobian: draws of one are
        draws of the other.
        """
        where = np.flatnonzero(self.problem.hierarchical[: z.shape[1]])
        location, log_scale = self.problem.hierarchies(self.whole(z), old)
        moved = z.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            moved[:, where] = recentre(z[:, where], location[:, where], log_scale[:, where], old[where], new[where])
        return moved
