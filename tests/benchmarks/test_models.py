"""The harder benchmark models on made-up data, against plain NumPy and SciPy: loops, states added up, a real solver."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from benchmarks.posteriordb.models import POSTERIORS
from taut.problem import Problem

normal = stats.norm.logpdf
Values = dict[str, Any]


def half_cauchy(x: float, scale: float) -> float:
    return float(np.log(2) + stats.cauchy.logpdf(x, 0, scale))


def half_normal(x: Any, scale: float) -> float:
    return float(np.sum(np.log(2) + normal(x, 0, scale)))


def log_normal(x: Any, centre: Any, scale: Any) -> float:
    return float(np.sum(normal(np.log(x), centre, scale) - np.log(x)))


def arma11(raw: Values, p: Values) -> float:
    y, mu, phi, theta, sigma = raw["y"], p["mu"], p["phi"], p["theta"], p["sigma"]
    total = normal(mu, 0, 10) + normal(phi, 0, 2) + normal(theta, 0, 2) + half_cauchy(sigma, 2.5)
    error = y[0] - (mu + phi * mu)
    total += normal(error, 0, sigma)
    for t in range(1, len(y)):
        error = y[t] - (mu + phi * y[t - 1] + theta * error)
        total += normal(error, 0, sigma)
    return float(total)


def autoregression(raw: Values, p: Values) -> float:
    y, beta = raw["y"], p["beta"]
    total = normal(p["alpha"], 0, 10) + normal(beta, 0, 10).sum() + half_cauchy(p["sigma"], 2.5)
    for t in range(raw["K"], len(y)):
        mean = p["alpha"] + sum(beta[k] * y[t - k - 1] for k in range(raw["K"]))
        total += normal(y[t], mean, p["sigma"])
    return total


def hmm(raw: Values, p: Values) -> float:
    """Every path of hidden states, one by one."""
    y, transition = raw["y"], np.stack([p["theta1"], p["theta2"]])
    total = 0.0
    for path in np.ndindex(*(2,) * len(y)):
        density = np.prod(stats.norm.pdf(y, p["mu"][list(path)], 1))
        total += density * np.prod([transition[a, b] for a, b in pairwise(path)])
    return np.log(total) + normal(p["mu"], [3, 10], 1).sum()


def lotka_volterra(raw: Values, p: Values) -> float:
    a, b, c, d = p["theta"]

    def rate(_, z):
        return [(a - b * z[1]) * z[0], (-c + d * z[0]) * z[1]]

    z = solve_ivp(rate, (0, raw["ts"][-1]), p["z_init"], t_eval=raw["ts"], rtol=1e-11, atol=1e-11).y.T
    centre, width = np.array([1, 0.05, 1, 0.05]), np.array([0.5, 0.05, 0.5, 0.05])
    prior = float(np.sum(normal(p["theta"], centre, width) - stats.norm.logsf(0, centre, width)))
    prior += log_normal(p["sigma"], -1, 1) + log_normal(p["z_init"], np.log(10), 1)
    start = log_normal(raw["y_init"], np.log(p["z_init"]), p["sigma"])
    return float(prior + start + log_normal(raw["y"], np.log(z), p["sigma"]))


def covariance(raw: Values, p: Values, diagonal: float) -> np.ndarray:
    x = np.asarray(raw["x"], float)
    gap = np.subtract.outer(x, x)
    return p["alpha"] ** 2 * np.exp(-(gap**2) / (2 * p["rho"] ** 2)) + diagonal * np.eye(len(x))


def gp_prior(p: Values) -> float:
    return float(stats.gamma.logpdf(p["rho"], 25, scale=1 / 4)) + half_normal(p["alpha"], 2)


def gp_regr(raw: Values, p: Values) -> float:
    k = covariance(raw, p, p["sigma"])  # a variance
    quadratic = raw["y"] @ np.linalg.solve(k, raw["y"])
    likelihood = -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * k)[1])
    return float(gp_prior(p) + half_normal(p["sigma"], 1) + likelihood)


def gp_pois_regr(raw: Values, p: Values) -> float:
    f = np.linalg.cholesky(covariance(raw, p, 1e-10)) @ p["f_tilde"]
    return gp_prior(p) + normal(p["f_tilde"]).sum() + stats.poisson.logpmf(raw["k"], np.exp(f)).sum()


def mixture(raw: Values, p: Values) -> float:
    density = p["theta"] * stats.norm.pdf(raw["y"], p["mu"][0], p["sigma"][0])
    density += (1 - p["theta"]) * stats.norm.pdf(raw["y"], p["mu"][1], p["sigma"][1])
    prior = normal(p["mu"], 0, 2).sum() + half_normal(p["sigma"], 2) + stats.beta.logpdf(p["theta"], 5, 5)
    return np.log(density).sum() + prior


def seeds(raw: Values, p: Values) -> float:
    rate = p["alpha0"] + p["alpha1"] * raw["x1"] + p["alpha2"] * raw["x2"]
    rate = rate + p["alpha12"] * raw["x1"] * raw["x2"] + p["b"]
    prior = sum(normal(p[name]) for name in ("alpha0", "alpha1", "alpha2", "alpha12")) + half_cauchy(p["sigma"], 1)
    prior += normal(p["b"], 0, p["sigma"]).sum()
    return prior + stats.binom.logpmf(raw["n"], raw["N"], 1 / (1 + np.exp(-rate))).sum()


def radon(raw: Values, p: Values) -> float:
    mean = p["alpha"][raw["county_idx"] - 1] + raw["log_uppm"] * p["beta"][0] + raw["floor_measure"] * p["beta"][1]
    prior = half_normal(p["sigma_alpha"], 1) + half_normal(p["sigma_y"], 1) + normal(p["mu_alpha"], 0, 10)
    prior += normal(p["beta"], 0, 10).sum() + normal(p["alpha"], p["mu_alpha"], p["sigma_alpha"]).sum()
    return prior + normal(raw["log_radon"], mean, p["sigma_y"]).sum()


rng = np.random.default_rng(0)
SERIES = {"y": rng.normal(size=9), "T": 9, "K": 2}
GRID = {"x": [-2, 0, 1, 5], "y": np.array([0.3, -0.2, 1.1, 2.0]), "k": np.array([1, 0, 2, 7])}
TWO = {"mu": np.array([-0.4, 1.3]), "sigma": np.array([0.7, 1.4]), "theta": 0.3}
WILD = {"ts": [1, 2, 4], "y_init": [30, 4], "y": np.array([[47.0, 6.1], [70.2, 9.8], [20.0, 35.0]])}
FLOWERS = {
    "n": np.array([1, 4, 0]), "N": np.array([5, 9, 3]), "x1": np.array([0, 1, 1]), "x2": np.array([0, 0, 1])
}  # fmt: skip
HOMES = {
    "J": 2, "county_idx": np.array([2, 1, 2]), "log_radon": rng.normal(size=3), "log_uppm": rng.normal(size=3),
    "floor_measure": np.array([1, 0, 0]),
}  # fmt: skip

CASES: dict[str, tuple[Callable[[Values, Values], float], Values, Values]] = {
    "arma-arma11": (arma11, SERIES, {"mu": 0.3, "phi": 0.8, "theta": -0.4, "sigma": 1.2}),
    "arK-arK": (autoregression, SERIES, {"alpha": 0.3, "beta": np.array([0.8, -0.4]), "sigma": 1.2}),
    "hmm_example-hmm_example": (
        hmm,
        {"y": np.array([2.9, 9.0, 8.1, 3.3, 4.0, 9.5])},
        {"theta1": np.array([0.7, 0.3]), "theta2": np.array([0.1, 0.9]), "mu": np.array([3.1, 8.8])},
    ),
    "hudson_lynx_hare-lotka_volterra": (
        lotka_volterra,
        WILD,
        {
            "theta": np.array([0.55, 0.028, 0.8, 0.024]),
            "z_init": np.array([33.0, 6.0]),
            "sigma": np.array([0.25, 0.3]),
        },
    ),
    "gp_pois_regr-gp_regr": (gp_regr, GRID, {"rho": 5.5, "alpha": 1.4, "sigma": 0.4}),
    "gp_pois_regr-gp_pois_regr": (
        gp_pois_regr,
        GRID,
        {"rho": 5.5, "alpha": 1.4, "f_tilde": np.array([0.2, 1.0, -0.5, 0.9])},
    ),
    "low_dim_gauss_mix-low_dim_gauss_mix": (mixture, SERIES, TWO),
    "low_dim_gauss_mix_collapse-low_dim_gauss_mix_collapse": (mixture, SERIES, TWO),
    "seeds_data-seeds_stanified_model": (
        seeds,
        FLOWERS,
        {
            "alpha0": -0.5,
            "alpha1": 0.2,
            "alpha2": 1.1,
            "alpha12": -0.7,
            "sigma": 0.3,
            "b": np.array([0.1, -0.2, 0.4]),
        },
    ),
    "radon_mn-radon_hierarchical_intercept_centered": (
        radon,
        HOMES,
        {
            "alpha": np.array([1.2, 1.6]),
            "beta": np.array([0.7, -0.6]),
            "mu_alpha": 1.4,
            "sigma_alpha": 0.3,
            "sigma_y": 0.7,
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_log_density_is_the_one_written_out_by_hand(name: str) -> None:
    density, raw, values = CASES[name]
    posterior = POSTERIORS[name]
    found = float(Problem(posterior.model, posterior.data(raw)).log_joint(values))
    # Rounding only, but for the fixed-step solver: ten Runge-Kutta steps a year are exact to about 1e-4 nats here.
    tolerance = 1e-3 if "lotka" in name else 1e-7 if "pois" in name else 1e-10
    assert found == pytest.approx(density(raw, values), abs=tolerance)
