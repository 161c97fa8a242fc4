"""Sequences: autoregression, ARMA(1, 1), a hidden Markov model, and predators with their prey."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

import taut
from taut import dist


def autoregression(lags: Any, y: Any) -> None:
    """y[t] ~ Normal(alpha + sum_k beta[k] y[t-k], sigma); `lags` holds y[t-1], ..., y[t-K] in its columns."""
    alpha = taut.sample("alpha", dist.Normal(0, 10))
    beta = taut.sample("beta", dist.Normal(0, 10).expand([lags.shape[1]]).to_event(1))
    sigma = taut.sample("sigma", dist.HalfCauchy(2.5))
    with taut.plate("time", len(y)):
        taut.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y)


def arma11(y: Any) -> None:
    """y[t] ~ Normal(mu + phi y[t-1] + theta err[t-1], sigma), begun at y[0] = mu and err[0] = 0."""
    mu = taut.sample("mu", dist.Normal(0, 10))
    phi = taut.sample("phi", dist.Normal(0, 2))
    theta = taut.sample("theta", dist.Normal(0, 2))
    sigma = taut.sample("sigma", dist.HalfCauchy(2.5))

    def step(err, pair):
        before, now = pair
        mean = mu + phi * before + theta * err
        return now - mean, mean

    _, mean = jax.lax.scan(step, jnp.zeros_like(mu), (jnp.append(mu, y[:-1]), y))
    with taut.plate("time", len(y)):
        taut.sample("y", dist.Normal(mean, sigma), obs=y)


def hmm(y: Any) -> None:
    """Two hidden states with unit-variance emissions; the states are summed out by the forward algorithm."""
    theta1 = taut.sample("theta1", dist.Dirichlet(jnp.ones(2)))
    theta2 = taut.sample("theta2", dist.Dirichlet(jnp.ones(2)))
    mu = taut.sample("mu", dist.ImproperUniform(dist.constraints.positive_ordered_vector, (), (2,)))
    taut.factor("mu_prior", dist.Normal(jnp.array([3.0, 10.0]), 1.0).log_prob(mu).sum())

    log_transition = jnp.log(jnp.stack([theta1, theta2]))
    log_emission = dist.Normal(mu, 1.0).log_prob(y[:, None])

    def step(log_state, log_now):
        return logsumexp(log_state[:, None] + log_transition, axis=0) + log_now, None

    log_state, _ = jax.lax.scan(step, log_emission[0], log_emission[1:])
    taut.factor("y", logsumexp(log_state))


def lotka_volterra(gaps: Any, y_init: Any, y: Any, steps: int) -> None:
    """Hares and lynxes: du/dt = (theta1 - theta2 v) u, dv/dt = (-theta3 + theta4 u) v, observed with log-normal error.

    The equations are solved for (log u, log v), which keeps both positive, with `steps` Runge-Kutta steps per gap.
    """
    centre, width = jnp.array([1.0, 0.05, 1.0, 0.05]), jnp.array([0.5, 0.05, 0.5, 0.05])
    theta = taut.sample("theta", dist.TruncatedNormal(centre, width, low=0.0).to_event(1))
    z_init = taut.sample("z_init", dist.LogNormal(jnp.log(10.0), 1.0).expand([2]).to_event(1))
    sigma = taut.sample("sigma", dist.LogNormal(-1.0, 1.0).expand([2]).to_event(1))

    def rate(log_z):
        u, v = jnp.exp(log_z)
        return jnp.stack([theta[0] - theta[1] * v, -theta[2] + theta[3] * u])

    def across(log_z, gap):
        h = gap / steps

        def runge_kutta(z, _):
            k1 = rate(z)
            k2 = rate(z + h / 2 * k1)
            k3 = rate(z + h / 2 * k2)
            k4 = rate(z + h * k3)
            return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

        log_z, _ = jax.lax.scan(runge_kutta, log_z, None, length=steps)
        return log_z, log_z

    _, log_z = jax.lax.scan(across, jnp.log(z_init), gaps)
    taut.sample("y_init", dist.LogNormal(jnp.log(z_init), sigma).to_event(1), obs=y_init)
    with taut.plate("year", len(y)):
        taut.sample("y", dist.LogNormal(log_z, sigma).to_event(1), obs=y)


def autoregression_data(raw: dict[str, Any]) -> dict[str, Any]:
    """The first K values are conditioned on: column k - 1 holds y[t-k]."""
    y, order = np.asarray(raw["y"], float), int(raw["K"])
    return {"lags": np.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], axis=1), "y": y[order:]}


def series_data(raw: dict[str, Any]) -> dict[str, Any]:
    """The series alone."""
    return {"y": np.asarray(raw["y"], float)}


def lotka_volterra_data(raw: dict[str, Any]) -> dict[str, Any]:
    """Times become gaps since the last one, the first since t = 0."""
    return {
        "gaps": np.diff(np.asarray(raw["ts"], float), prepend=0.0),
        "y_init": np.asarray(raw["y_init"], float),
        "y": np.asarray(raw["y"], float),
        "steps": 10,
    }
