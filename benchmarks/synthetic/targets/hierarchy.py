"""Normal groups about a common mean: one integral over the scale between groups gives everything."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.stats import halfcauchy, halfnorm, norm

import taut
from benchmarks.synthetic.target import Target
from benchmarks.synthetic.truth import Truth, on_grid, truth, weights
from taut import dist

EIGHT = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
EIGHT_NOISE = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
POSITIVE = {"tau": "positive"}


def _prior(heavy: bool, scale: float) -> Any:
    return dist.HalfCauchy(scale) if heavy else dist.HalfNormal(scale)


def centred(y: Any, noise: Any, heavy: bool, scale: float) -> None:
    """Groups drawn about their mean, as most people write it."""
    mu = taut.sample("mu", dist.Normal(0, 5))
    tau = taut.sample("tau", _prior(heavy, scale))
    with taut.plate("group", len(y)):
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta, noise), obs=y)


def standardised(y: Any, noise: Any, heavy: bool, scale: float) -> None:
    """Non-centred by hand: groups are computed from standard normals."""
    mu = taut.sample("mu", dist.Normal(0, 5))
    tau = taut.sample("tau", _prior(heavy, scale))
    with taut.plate("group", len(y)):
        z = taut.sample("z", dist.Normal(0, 1))
        theta = taut.deterministic("theta", mu + tau * z)
        taut.sample("y", dist.Normal(theta, noise), obs=y)


def logarithmic(y: Any, noise: Any, heavy: bool, scale: float) -> None:
    """The scale written as the exponential of a real site with the Jacobian by hand, the groups through a factor."""
    mu = taut.sample("mu", dist.Normal(0, 5))
    log_tau = taut.sample("log_tau", dist.ImproperUniform(dist.constraints.real, (), ()))
    tau = taut.deterministic("tau", jnp.exp(log_tau))
    taut.factor("tau_prior", _prior(heavy, scale).log_prob(tau) + log_tau)
    theta = taut.sample("theta", dist.ImproperUniform(dist.constraints.real, (), (len(y),)))
    taut.factor("groups", dist.Normal(mu, tau).log_prob(theta).sum())
    with taut.plate("group", len(y)):
        taut.sample("y", dist.Normal(theta, noise), obs=y)


def posterior(y: np.ndarray, noise: Any, heavy: bool, scale: float) -> Truth:
    """Given tau, mu is normal; given both, so is each group."""
    u = np.linspace(-25.0, 9.0, 6801)
    tau, noise = np.exp(u), np.broadcast_to(np.asarray(noise, float), y.shape)
    total = noise**2 + tau[:, None] ** 2
    precision = 1 / 25 + np.sum(1 / total, 1)
    mean = np.sum(y / total, 1) / precision
    # p(y | tau) = p(mu) p(y | mu, tau) / p(mu | y, tau) at mu = mean
    log_y = norm.logpdf(mean, 0, 5) + norm.logpdf(y, mean[:, None], np.sqrt(total)).sum(1)
    log_y -= norm.logpdf(0, 0, np.sqrt(1 / precision))
    prior = (halfcauchy if heavy else halfnorm).logpdf(tau, scale=scale)
    w, log_z = weights(log_y + prior + u, u[1] - u[0])
    pull = noise**2 / total  # towards mu
    theta_mean = (1 - pull) * y + pull * mean[:, None]
    theta_variance = pull * tau[:, None] ** 2 + pull**2 / precision[:, None]
    return truth(
        log_z,
        mu=on_grid(w, mean, variance=1 / precision),
        tau=on_grid(w, tau, "positive"),
        theta=on_grid(w, theta_mean, variance=theta_variance),
    )


def targets() -> Iterator[Target]:
    """Every target of this page."""
    models = {"centred": centred, "standardised": standardised, "logarithmic": logarithmic}
    rng = np.random.default_rng(11)
    eight = dict(y=EIGHT, noise=EIGHT_NOISE, heavy=True, scale=5.0)
    cases = [("eight", eight, ("centred", "standardised", "logarithmic"))]
    for groups, noise, spread, ways in (
        (5, 0.1, 1.0, ("centred", "standardised")),
        (5, 10.0, 1.0, ("centred", "logarithmic")),
        (20, 1.0, 0.3, ("centred", "standardised")),
        (20, 0.1, 2.0, ("centred", "standardised")),
        (20, 1.0, 0.0, ("centred", "logarithmic")),
        (50, 1.0, 1.0, ("centred", "logarithmic")),
        (150, 1.0, 1.0, ("centred", "standardised")),
        (150, 3.0, 0.5, ("centred",)),
        (150, 0.2, 2.0, ("centred",)),
    ):
        y = 1 + spread * rng.normal(size=groups) + noise * rng.normal(size=groups)
        data = dict(y=y, noise=float(noise), heavy=False, scale=2.0)
        cases.append((f"{groups}-noise{noise:g}-spread{spread:g}", data, ways))
    for name, data, ways in cases:
        for way in ways:
            family = "hierarchy" if way != "logarithmic" else "hierarchy hidden"
            family = "many locals" if len(data["y"]) > 100 else family
            yield Target(f"groups-{name}-{way}", family, models[way], data, partial(posterior, **data), POSITIVE)
