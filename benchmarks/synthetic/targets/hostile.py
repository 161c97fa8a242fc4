"""What breaks assumptions: no posterior at all, steps, kinks, regions that are not numbers, unbounded densities."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

import taut
from benchmarks.synthetic.target import Target, prior_only
from benchmarks.synthetic.truth import Truth, exact, on_grid, truth, weights
from taut import dist

free, real, positive = dist.ImproperUniform, dist.constraints.real, dist.constraints.positive


@prior_only
def flat_line() -> None:
    """A coordinate that nothing restrains."""
    taut.sample("x", free(real, (), ()))
    taut.sample("z", dist.Normal(0, 1))


def flat_sum(y: float) -> None:
    """Two coordinates, and only their sum is restrained."""
    a = taut.sample("a", free(real, (), ()))
    b = taut.sample("b", free(real, (), ()))
    taut.sample("y", dist.Normal(a + b, 1.0), obs=y)


def flat_scale(y: Any) -> None:
    """Groups whose scale has the density 1/tau: the integral is infinite at zero."""
    log_tau = taut.sample("log_tau", free(real, (), ()))
    mu = taut.sample("mu", dist.Normal(0, 5))
    with taut.plate("group", len(y)):
        z = taut.sample("z", dist.Normal(0, 1))
        taut.sample("y", dist.Normal(mu + jnp.exp(log_tau) * z, 1.0), obs=y)


def one_observation(y: float) -> None:
    """Mean and scale from one number: the density has no bound at mu = y, sigma = 0."""
    mu = taut.sample("mu", dist.Normal(0, 5))
    sigma = taut.sample("sigma", free(positive, (), ()))
    taut.factor("prior", -jnp.log(sigma))
    taut.sample("y", dist.Normal(mu, sigma), obs=y)


def separated(x: Any, y: Any) -> None:
    """Logistic regression with a flat prior on data that a line separates."""
    b = taut.sample("b", free(real, (), ()))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Bernoulli(logits=b * x), obs=y)


def collapsing(y: Any) -> None:
    """A mixture whose second part may shrink onto one observation: unbounded, with an infinite integral."""
    sigma = taut.sample("sigma", free(positive, (), ()))
    mu = taut.sample("mu", dist.Normal(0, 3))
    taut.factor("prior", -2.0 * jnp.log(sigma))
    parts = dist.Normal(jnp.stack([0.0 * mu, mu]), jnp.stack([1.0 + 0.0 * sigma, sigma]))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.MixtureSameFamily(dist.Categorical(jnp.array([0.5, 0.5])), parts), obs=y)


def step(height: float, dim: int) -> None:
    """A normal whose density is `height` times larger where x is positive."""
    x = taut.sample("x", dist.Normal(0, 1).expand([dim]).to_event(1))
    taut.factor("step", jnp.where(x > 0, jnp.log(height), 0.0).sum())


def wall(at: float) -> None:
    """A normal that may not pass a wall."""
    x = taut.sample("x", dist.Normal(0, 1))
    taut.factor("wall", jnp.where(x < at, 0.0, -jnp.inf))


def holes() -> None:
    """(1 + x) times a normal density; to the left of -1 it is not a number."""
    x = taut.sample("x", dist.Normal(0, 1))
    taut.factor("log", jnp.log(1 + x))


def wiggly() -> None:
    """A normal with ripples: many small modes."""
    x = taut.sample("x", dist.Normal(0, 1))
    taut.factor("ripples", jnp.log1p(0.9 * jnp.cos(20 * x)))


def plateau(width: float) -> None:
    """Flat, with edges that are steep but smooth."""
    x = taut.sample("x", free(real, (), ()))
    taut.factor("edges", -((x / width) ** 8))


def _step(height: float, dim: int) -> Truth:
    tilt = (height - 1) / (height + 1)
    mean = tilt * np.sqrt(2 / np.pi)
    log_z = dim * np.log((height + 1) / 2)
    return truth(log_z, x=exact(np.full(dim, mean), np.sqrt(1 - mean**2)))


def _wall(at: float) -> Truth:
    ratio = norm.pdf(at) / norm.cdf(at)
    return truth(norm.logcdf(at), x=exact(-ratio, np.sqrt(1 - at * ratio - ratio**2)))


def line(log_density: Any, low: float, high: float) -> Truth:
    """One parameter on a grid of half a million points."""
    x = np.linspace(low, high, 500_001)
    with np.errstate(divide="ignore", invalid="ignore"):
        w, log_z = weights(log_density(x), x[1] - x[0])
    return truth(log_z, x=on_grid(w, x))


def targets() -> Iterator[Target]:
    """Every target of this page."""
    y = np.array([0.5, -1.0, 2.0, 0.3])
    x = np.array([-2.0, -1.0, 1.5, 3.0])
    for name, model, data in (
        ("flat-line", flat_line, {}),
        ("flat-sum", flat_sum, dict(y=1.0)),
        ("flat-scale", flat_scale, dict(y=y)),
        ("one-observation", one_observation, dict(y=2.0)),
        ("separated", separated, dict(x=x, y=(x > 0).astype(int))),
        ("collapsing", collapsing, dict(y=y)),
    ):
        yield Target(f"improper-{name}", "improper", model, data, None)
    for height, dim in ((3.0, 1), (20.0, 1), (3.0, 5)):
        data, told = dict(height=height, dim=dim), partial(_step, height, dim)
        yield Target(f"step-{height:g}-d{dim}", "discontinuous", step, data, told)
    for at in (1.0, 3.0):
        yield Target(f"wall-{at:g}", "discontinuous", wall, dict(at=at), partial(_wall, at))
    told = partial(line, lambda x: norm.logpdf(x) + np.log(1 + x), -1.0, 12.0)
    yield Target("holes", "discontinuous", holes, {}, told)
    told = partial(line, lambda x: norm.logpdf(x) + np.log1p(0.9 * np.cos(20 * x)), -10.0, 10.0)
    yield Target("wiggly", "odd shapes", wiggly, {}, told)
    for width in (1.0, 100.0):
        told = partial(line, lambda x, width=width: -((x / width) ** 8), -3 * width, 3 * width)
        yield Target(f"plateau-{width:g}", "odd shapes", plateau, dict(width=width), told)
