"""The posteriors that are stated in PyMC, each beside the model it restates; a test compares their log densities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.transforms import ordered

from benchmarks.posteriordb.models import hierarchical, latent, regression, series


def eight_schools(sigma: Any, y: Any) -> None:
    """Non-centred, as it is stated there."""
    mu = pm.Normal("mu", 0, 5)
    tau = pm.HalfCauchy("tau", 5)
    theta_trans = pm.Normal("theta_trans", 0, 1, shape=len(y))
    theta = pm.Deterministic("theta", mu + tau * theta_trans)
    pm.Normal("y", theta, sigma, observed=y)


def seeds(total: Any, x1: Any, x2: Any, germinated: Any) -> None:
    """A random effect per plate, centred."""
    alpha0, alpha1, alpha2, alpha12 = (pm.Normal(name, 0, 1) for name in ("alpha0", "alpha1", "alpha2", "alpha12"))
    sigma = pm.HalfCauchy("sigma", 1)
    b = pm.Normal("b", 0, sigma, shape=len(germinated))
    logits = alpha0 + alpha1 * x1 + alpha2 * x2 + alpha12 * x1 * x2 + b
    pm.Binomial("n", total, logit_p=logits, observed=germinated)


def radon(counties: int, county: Any, log_uppm: Any, floor: Any, log_radon: Any) -> None:
    """An intercept per county, centred."""
    sigma_alpha = pm.HalfNormal("sigma_alpha", 1)
    sigma_y = pm.HalfNormal("sigma_y", 1)
    mu_alpha = pm.Normal("mu_alpha", 0, 10)
    beta = pm.Normal("beta", 0, 10, shape=2)
    alpha = pm.Normal("alpha", mu_alpha, sigma_alpha, shape=counties)
    pm.Normal("log_radon", alpha[county] + log_uppm * beta[0] + floor * beta[1], sigma_y, observed=log_radon)


def linear(x: Any, y: Any) -> None:
    """Flat on the coefficients and on sigma itself."""
    beta = pm.Flat("beta", shape=x.shape[1])
    sigma = pm.HalfFlat("sigma")
    pm.Normal("y", pt.dot(x, beta), sigma, observed=y)


def diamonds(x: Any, y: Any) -> None:
    """24 nearly collinear columns."""
    b = pm.Normal("b", 0, 1, shape=x.shape[1])
    intercept = pm.StudentT("Intercept", nu=3, mu=8, sigma=10)
    sigma = pm.HalfStudentT("sigma", nu=3, sigma=10)
    pm.Normal("y", intercept + pt.dot(x, b), sigma, observed=y)


def wells_dist(distance: Any, switched: Any) -> None:
    """Two slopes of very different scale."""
    beta = pm.Flat("beta", shape=2)
    pm.Bernoulli("switched", logit_p=beta[0] + beta[1] * distance, observed=switched)


def wells_dae_inter(x: Any, switched: Any) -> None:
    """A logistic regression with interactions."""
    alpha = pm.Flat("alpha")
    beta = pm.Flat("beta", shape=x.shape[1])
    pm.Bernoulli("switched", logit_p=alpha + pt.dot(x, beta), observed=switched)


def glm_poisson(year: Any, count: Any) -> None:
    """A cubic log trend."""
    alpha = pm.Uniform("alpha", -20, 20)
    beta1, beta2, beta3 = (pm.Uniform(name, -10, 10) for name in ("beta1", "beta2", "beta3"))
    pm.Poisson("C", pt.exp(alpha + beta1 * year + beta2 * year**2 + beta3 * year**3), observed=count)


def autoregression(lags: Any, y: Any) -> None:
    """The lags are columns."""
    alpha = pm.Normal("alpha", 0, 10)
    beta = pm.Normal("beta", 0, 10, shape=lags.shape[1])
    sigma = pm.HalfCauchy("sigma", 2.5)
    pm.Normal("y", alpha + pt.dot(lags, beta), sigma, observed=y)


def gp_regr(x: Any, y: Any) -> None:
    """Gaussian-process regression; sigma is a variance."""
    covariance = _covariance(x, pm.Gamma("rho", alpha=25, beta=4), pm.HalfNormal("alpha", 2))
    sigma = pm.HalfNormal("sigma", 1)
    pm.MvNormal("y", mu=np.zeros(len(x)), cov=covariance + sigma * np.eye(len(x)), observed=y)


def gp_pois_regr(x: Any, count: Any) -> None:
    """Counts whose log rate is a Gaussian process."""
    covariance = _covariance(x, pm.Gamma("rho", alpha=25, beta=4), pm.HalfNormal("alpha", 2))
    f_tilde = pm.Normal("f_tilde", 0, 1, shape=len(x))
    f = pm.Deterministic("f", pt.dot(pt.linalg.cholesky(covariance + 1e-10 * np.eye(len(x))), f_tilde))
    pm.Poisson("k", pt.exp(f), observed=count)


def low_dim_gauss_mix(y: Any) -> None:
    """Two normals in order."""
    _two_normals(pm.Normal("mu", 0, 2, shape=2, transform=ordered, initval=[-1.0, 1.0]), y)


def low_dim_gauss_mix_collapse(y: Any) -> None:
    """Two normals in any order."""
    _two_normals(pm.Normal("mu", 0, 2, shape=2), y)


def _covariance(x: Any, rho: Any, alpha: Any) -> Any:
    return alpha**2 * pt.exp(-((x[:, None] - x) ** 2) / (2 * rho**2))


def _two_normals(mu: Any, y: Any) -> None:
    sigma = pm.HalfNormal("sigma", 2, shape=2)
    theta = pm.Beta("theta", 5, 5)
    pm.NormalMixture("y", w=pt.stack([theta, 1 - theta]), mu=mu, sigma=sigma, observed=y)


STATED: dict[Callable[..., None], Callable[..., None]] = {
    hierarchical.eight_schools_noncentered: eight_schools,
    hierarchical.seeds: seeds,
    hierarchical.radon: radon,
    regression.linear: linear,
    regression.diamonds: diamonds,
    regression.wells_dist: wells_dist,
    regression.wells_dae_inter: wells_dae_inter,
    regression.glm_poisson: glm_poisson,
    series.autoregression: autoregression,
    latent.gp_regr: gp_regr,
    latent.gp_pois_regr: gp_pois_regr,
    latent.low_dim_gauss_mix: low_dim_gauss_mix,
    latent.low_dim_gauss_mix_collapse: low_dim_gauss_mix_collapse,
}
