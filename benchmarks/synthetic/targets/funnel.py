"""Neal's funnel, v ~ Normal(0, sigma), x[i] ~ Normal(0, exp(v/2)): as a hierarchy, hidden in a factor, with data.

Source: Neal, Annals of Statistics 31 (2003), section 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

import taut
from benchmarks.synthetic.target import Target, prior_only
from benchmarks.synthetic.truth import Scalars, Truth, exact, heavy, on_grid, truth, weights
from taut import dist


@prior_only
def declared(sigma: float, leaves: int) -> None:
    """As a hierarchy: the scale of x is seen in its distribution."""
    v = taut.sample("v", dist.Normal(0, sigma))
    with taut.plate("leaf", leaves):
        taut.sample("x", dist.Normal(0, jnp.exp(v / 2)))


def hidden(sigma: float, leaves: int) -> None:
    """The same density through a factor: nothing says that x has a scale."""
    v = taut.sample("v", dist.Normal(0, sigma))
    x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (), (leaves,)))
    taut.factor("leaves", dist.Normal(0, jnp.exp(v / 2)).log_prob(x).sum())


@prior_only
def computed(sigma: float, leaves: int) -> None:
    """Non-centred by hand: x is computed from a standard normal."""
    v = taut.sample("v", dist.Normal(0, sigma))
    with taut.plate("leaf", leaves):
        z = taut.sample("z", dist.Normal(0, 1))
        taut.deterministic("x", z * jnp.exp(v / 2))


def declared_with_data(sigma: float, noise: float, y: Any) -> None:
    """`declared`, each leaf observed once."""
    v = taut.sample("v", dist.Normal(0, sigma))
    with taut.plate("leaf", len(y)):
        x = taut.sample("x", dist.Normal(0, jnp.exp(v / 2)))
        taut.sample("y", dist.Normal(x, noise), obs=y)


def hidden_with_data(sigma: float, noise: float, y: Any) -> None:
    """`hidden`, each leaf observed once."""
    v = taut.sample("v", dist.Normal(0, sigma))
    x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (), (len(y),)))
    taut.factor("leaves", dist.Normal(0, jnp.exp(v / 2)).log_prob(x).sum())
    with taut.plate("leaf", len(y)):
        taut.sample("y", dist.Normal(x, noise), obs=y)


def leaf(sigma: float) -> Scalars:
    r"""Moments of x: variance $e^{\sigma^2/2}$, kurtosis $3 e^{\sigma^2}$; those of its arsinh on a grid."""
    v, t = np.linspace(-8 * sigma, 8 * sigma, 801), np.linspace(-40, 2.5, 4001)
    w, _ = weights(norm.logpdf(v, 0, sigma), v[1] - v[0])
    u, _ = weights(norm.logpdf(np.exp(t)) + t, t[1] - t[0])  # of log |x| exp(-v/2)
    spread = w @ np.arcsinh(np.exp(v[:, None] / 2 + t)) ** 2 @ u
    return heavy(0.0, np.exp(sigma**2 / 4), 3 * np.exp(sigma**2), 0.0, np.sqrt(spread))


def _prior(sigma: float, leaves: int, standard: bool) -> Truth:
    one = leaf(sigma)
    x = Scalars(*(type(side)(*(np.full(leaves, field) for field in side)) for side in one))
    z = {"z": exact(np.zeros(leaves), 1.0)} if standard else {}
    return truth(0.0, v=exact(0.0, sigma), **z, x=x)


def posterior(sigma: float, noise: float, y: np.ndarray) -> Truth:
    """Given v everything is normal, so one integral is left."""
    v = np.linspace(-9 * sigma, 9 * sigma, 8001)
    total = np.exp(v)[:, None] + noise**2
    w, log_z = weights(norm.logpdf(v, 0, sigma) + norm.logpdf(y, 0, np.sqrt(total)).sum(1), v[1] - v[0])
    share = np.exp(v)[:, None] / total
    x = on_grid(w, share * y, variance=share * noise**2 + 0 * y)
    return truth(log_z, v=on_grid(w, v), x=x)


def targets() -> Iterator[Target]:
    """Every target of this page."""
    for sigma, leaves in ((1.0, 1), (1.0, 9), (1.0, 50), (2.0, 1), (2.0, 9), (3.0, 1), (3.0, 9), (3.0, 50)):
        yield _of("declared", declared, sigma, leaves)
    for sigma, leaves in ((1.0, 1), (1.0, 9), (2.0, 9), (2.0, 50), (3.0, 1), (3.0, 9)):
        yield _of("hidden", hidden, sigma, leaves)
    for sigma, leaves in ((1.0, 9), (3.0, 9)):
        yield _of("computed", computed, sigma, leaves)
    rng = np.random.default_rng(5)
    for noise in (0.1, 1.0, 10.0):
        y = np.sqrt(1 + noise**2) * rng.normal(size=9)
        data = dict(sigma=3.0, noise=noise, y=y)
        for name, model in (("declared", declared_with_data), ("hidden", hidden_with_data)):
            told = partial(posterior, 3.0, noise, y)
            yield Target(f"funnel-{name}-data-noise{noise:g}", f"funnel {name}", model, data, told)


def _of(name: str, model: Any, sigma: float, leaves: int) -> Target:
    told = partial(_prior, sigma, leaves, model is computed)
    data = dict(sigma=sigma, leaves=leaves)
    return Target(f"funnel-{name}-s{sigma:g}-n{leaves}", f"funnel {name}", model, data, told, {"x": "heavy"})
