"""Gaussian processes and mixtures: what is latent is a function, or a label that is summed out."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import taut
from taut import dist


def _kernel(x: Any, rho: Any, alpha: Any) -> Any:
    """Squared-exponential covariance alpha^2 exp(-(x - x')^2 / (2 rho^2)), shape (n, n)."""
    return alpha**2 * jnp.exp(-((x[:, None] - x) ** 2) / (2 * rho**2))


def gp_regr(x: Any, y: Any) -> None:
    """Gaussian-process regression; sigma stands on the diagonal as it is: a variance."""
    rho = taut.sample("rho", dist.Gamma(25, 4))
    alpha = taut.sample("alpha", dist.HalfNormal(2))
    sigma = taut.sample("sigma", dist.HalfNormal(1))
    covariance = _kernel(x, rho, alpha) + sigma * jnp.eye(len(x))
    taut.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), covariance), obs=y)


def gp_pois_regr(x: Any, count: Any) -> None:
    """Counts whose log rate is a Gaussian process; the jitter of 1e-10 needs float64."""
    rho = taut.sample("rho", dist.Gamma(25, 4))
    alpha = taut.sample("alpha", dist.HalfNormal(2))
    f_tilde = taut.sample("f_tilde", dist.Normal(0, 1).expand([len(x)]).to_event(1))
    f = jnp.linalg.cholesky(_kernel(x, rho, alpha) + 1e-10 * jnp.eye(len(x))) @ f_tilde
    with taut.plate("point", len(x)):
        taut.deterministic("f", f)
        taut.sample("k", dist.Poisson(jnp.exp(f)), obs=count)


def _two_normals(theta: Any, mu: Any, sigma: Any, y: Any) -> None:
    mixture = dist.MixtureSameFamily(dist.Categorical(jnp.stack([theta, 1 - theta])), dist.Normal(mu, sigma))
    with taut.plate("row", len(y)):
        taut.sample("y", mixture, obs=y)


def low_dim_gauss_mix(y: Any) -> None:
    """Two normals told apart by mu[1] < mu[2]; the labels are summed out."""
    mu = taut.sample("mu", dist.ImproperUniform(dist.constraints.ordered_vector, (), (2,)))
    taut.factor("mu_prior", dist.Normal(0, 2).log_prob(mu).sum())
    sigma = taut.sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
    theta = taut.sample("theta", dist.Beta(5, 5))
    _two_normals(theta, mu, sigma, y)


def low_dim_gauss_mix_collapse(y: Any) -> None:
    """The same without the order: two modes that mirror each other exactly."""
    mu = taut.sample("mu", dist.Normal(0, 2).expand([2]).to_event(1))
    sigma = taut.sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
    theta = taut.sample("theta", dist.Beta(5, 5))
    _two_normals(theta, mu, sigma, y)


def gp_regr_data(raw: dict[str, Any]) -> dict[str, Any]:
    """The responses are field y."""
    return {"x": np.asarray(raw["x"], float), "y": np.asarray(raw["y"], float)}


def gp_pois_regr_data(raw: dict[str, Any]) -> dict[str, Any]:
    """The counts are field k."""
    return {"x": np.asarray(raw["x"], float), "count": np.asarray(raw["k"])}
