"""Exact tests of whole fits: Gaussian posteriors to rounding, the funnel's mean field, a small Cox process."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import taut
from benchmarks.evidence.cox import best_elbo
from taut import dist, guides, testing
from taut.algorithms import FixedDraws, Run


def test_conjugate_regression_to_rounding():
    """Full rank over fixed orthogonal antithetic draws: log Z to 1e-8, mean and covariance to 1e-7."""
    exact = testing.conjugate_regression(rows=25, columns=4)
    assert exact.location is not None and exact.covariance is not None
    fit = taut.fit(exact.model, exact.data, guide=guides.FullRank(), verify=False)
    assert fit.elbo == pytest.approx(exact.log_evidence, abs=1e-8)
    assert fit.log_evidence == pytest.approx(exact.log_evidence, abs=1e-8)
    np.testing.assert_allclose(fit.params["loc"], exact.location, atol=1e-7)
    factor = guides.FullRank.factor(fit.params)
    np.testing.assert_allclose(factor @ factor.T, exact.covariance, atol=1e-7)


@pytest.mark.parametrize("leaves, elbo", [(1, -0.852374), (9, -1.862847), (99, -3.050720)])
def test_mean_field_of_the_funnel(leaves: int, elbo: float):
    """-1/2 log(1 + 9 n / 2) at m_v = 0, s_v^2 = 1 / (1/9 + n/2): the ELBO of these moments by closed form is the
    highest in a neighbourhood, and the fit, on 4 to 64 draws per dimension, is short of it by less than .05."""

    def value(m: float, log_s: float, log_r: float) -> float:
        # E log N(v; 0, 3) + n E log N(x; 0, e^(v/2)) + entropies, x with sd r.
        s2, r2 = np.exp(2 * log_s), np.exp(2 * log_r)
        first = -0.5 * np.log(9.0) - (m * m + s2) / 18 + 0.5 + log_s
        return float(first + leaves * (-0.5 * m - 0.5 * r2 * np.exp(-m + s2 / 2) + 0.5 + log_r))

    s2 = 1 / (1 / 9 + leaves / 2)
    best = (0.0, 0.5 * np.log(s2), -s2 / 4)
    assert value(*best) == pytest.approx(elbo, abs=1e-6)
    assert elbo == pytest.approx(-0.5 * np.log(1 + 4.5 * leaves), abs=1e-6)
    found = minimize(lambda x: -value(*x), np.array(best) + 0.2)
    np.testing.assert_allclose(found.x, best, atol=1e-4)
    if leaves == 9:
        exact = testing.neal_funnel(leaves)
        problem = taut.Problem(exact.model, exact.data)
        solution = Run()(FixedDraws(), problem, guides.MeanField(centredness=1.0), 0)
        assert value(
            float(solution.params["loc"][0]),
            float(solution.params["log_scale"][0]),
            float(solution.params["log_scale"][1:].mean()),
        ) == pytest.approx(elbo, abs=0.05)


def cox(counts: Any, factor: Any, level: Any) -> None:
    noise = taut.sample("noise", dist.Normal(0.0, 1.0).expand([factor.shape[0]]).to_event(1))
    f = taut.deterministic("f", level + factor @ noise)
    taut.factor("points", jnp.sum(counts * f - jnp.exp(f) / factor.shape[0]))


def test_a_small_cox_process_against_its_closed_form_and_brute_force():
    side, level = 3, 2.0
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    covariance = 1.91 * np.exp(-np.linalg.norm(grid[:, None] - grid[None], axis=-1) / 1.5)
    n = side * side
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.exp(level + np.linalg.cholesky(covariance) @ rng.normal(size=n)) / n).astype(float)
    exact = best_elbo(counts, covariance, level, 1.0 / n)
    # Brute force: the ELBO of any mean and factor, maximised numerically.
    inverse, log_det = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
    lower = np.tril_indices(n, -1)

    def negative(x: np.ndarray) -> float:
        m, c = x[:n], np.diag(np.exp(x[n : 2 * n]))
        c[lower] = x[2 * n :]
        s = c @ c.T
        away = m - level
        kl = 0.5 * (np.trace(inverse @ s) + away @ inverse @ away - n + log_det) - x[n : 2 * n].sum()
        return -float(counts @ m - np.exp(m + 0.5 * np.diagonal(s)).sum() / n - kl)

    start = np.concatenate([np.full(n, level), np.full(n, -0.5), np.zeros(len(lower[0]))])
    found = minimize(negative, start, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15, "maxfun": 10**6})
    assert exact == pytest.approx(-found.fun, abs=1e-5)
    # And the fit, whose fixed draws leave it a few hundredths of a nat short; no q is above.
    data = {"counts": counts, "factor": np.linalg.cholesky(covariance), "level": level}
    fit = taut.fit(cox, data, guide=guides.FullRank(), verify=False)
    se = fit.numbers["ELBO"][1]
    assert se is not None and exact - 0.05 - 3 * se < fit.elbo < exact + 3 * se
    assert exact < fit.log_evidence + 3 * (fit.numbers["log evidence"][1] or 0.0)
