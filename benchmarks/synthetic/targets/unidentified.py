"""Ridges and symmetries: sums, products, signs and labels that the data cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import permutations
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

import taut
from benchmarks.synthetic.target import Target
from benchmarks.synthetic.targets.regression import normal_posterior
from benchmarks.synthetic.truth import Truth, exact, on_grid, truth, weights
from taut import dist


def total(y: float, noise: float, parts: int) -> None:
    """Only the sum of the parts is seen."""
    with taut.plate("part", parts):
        x = taut.sample("x", dist.Normal(0, 10))
    taut.sample("y", dist.Normal(jnp.sum(x), noise), obs=y)


def modulus(y: float, noise: float) -> None:
    """The sign of x is not seen."""
    x = taut.sample("x", dist.Normal(0, 3))
    taut.sample("y", dist.Normal(jnp.abs(x), noise), obs=y)


def square(y: float, noise: float) -> None:
    """Only x^2 is seen."""
    x = taut.sample("x", dist.Normal(0, 1))
    taut.sample("y", dist.Normal(x**2, noise), obs=y)


def times(y: float, noise: float) -> None:
    """Only the product is seen: two branches of a hyperbola."""
    a = taut.sample("a", dist.Normal(0, 1))
    b = taut.sample("b", dist.Normal(0, 1))
    taut.sample("y", dist.Normal(a * b, noise), obs=y)


def scales(y: float, noise: float) -> None:
    """Only the product of two positive scales is seen."""
    s = taut.sample("s", dist.HalfNormal(1))
    t = taut.sample("t", dist.Exponential(1.0))
    taut.sample("y", dist.Normal(s * t, noise), obs=y)


def labels(y: Any, kinds: int) -> None:
    """A mixture of unit normals with equal shares and exchangeable centres."""
    mu = taut.sample("mu", dist.Normal(0, 5).expand([kinds]).to_event(1))
    mixture = dist.MixtureSameFamily(dist.Categorical(jnp.full(kinds, 1 / kinds)), dist.Normal(mu, 1.0))
    with taut.plate("row", len(y)):
        taut.sample("y", mixture, obs=y)


def _modulus(y: float, noise: float) -> Truth:
    x = np.linspace(-y - 15 * noise - 1, y + 15 * noise + 1, 400_001)
    w, log_z = weights(norm.logpdf(x, 0, 3) + norm.logpdf(y, np.abs(x), noise), x[1] - x[0])
    return truth(log_z, x=on_grid(w, x))


def _square(y: float, noise: float) -> Truth:
    x = np.linspace(-9, 9, 100_001)
    w, log_z = weights(norm.logpdf(x) + norm.logpdf(y, x**2, noise), x[1] - x[0])
    return truth(log_z, x=on_grid(w, x))


def _times(y: float, noise: float) -> Truth:
    """Given a, b is normal."""
    a = np.linspace(-9, 9, 100_001)
    spread = np.sqrt(a**2 + noise**2)
    w, log_z = weights(norm.logpdf(a) + norm.logpdf(y, 0, spread), a[1] - a[0])
    one = on_grid(w, a)
    return truth(log_z, a=one, b=one)


def _scales(y: float, noise: float) -> Truth:
    z, u = np.linspace(-14, 2.5, 1651)[:, None], np.linspace(-14, 5, 1901)
    log_density = np.log(2) + norm.logpdf(np.exp(z)) + z - np.exp(u) + u + norm.logpdf(y, np.exp(z + u), noise)
    w, log_z = weights(log_density, 0.01 * 0.01)
    s, t = (np.exp(x + np.zeros_like(log_density)).ravel() for x in (z, u))
    return truth(log_z, s=on_grid(w, s, "positive"), t=on_grid(w, t, "positive"))


def _labels(y: np.ndarray, kinds: int) -> Truth:
    """On a grid of centres; all labels are alike, so one set of moments is enough."""
    g = np.linspace(-12, 12, 401 if kinds == 2 else 161)
    density = norm.pdf(y[:, None], g) / kinds
    prior = norm.logpdf(g, 0, 5)
    axes = [np.expand_dims(np.arange(len(g)), [k for k in range(kinds) if k != j]) for j in range(kinds)]
    log_density = sum(prior[i] for i in axes)
    for row in density:
        log_density = log_density + np.log(sum(row[i] for i in axes))
    w, log_z = weights(log_density, (g[1] - g[0]) ** kinds)
    margin = w.reshape(log_density.shape).sum(axis=tuple(range(1, kinds)))
    one = on_grid(margin, g).natural
    return truth(log_z, mu=exact(np.full(kinds, one.mean), one.sd))


def targets() -> Iterator[Target]:
    """Every target of this page."""
    for parts, noise in ((2, 0.1), (2, 1e-3), (10, 0.5)):
        told = partial(normal_posterior, np.ones((1, parts)), np.array([3.0]), noise, 10.0, name="x")
        yield Target(f"sum-of-{parts}-{noise:g}", "ridge", total, dict(y=3.0, noise=noise, parts=parts), told)
    for y, noise in ((4.0, 0.5), (1.0, 0.7)):
        yield Target(f"sign-{y:g}", "symmetry", modulus, dict(y=y, noise=noise), partial(_modulus, y, noise))
    for y, noise in ((1.0, 0.3), (0.0, 0.5)):
        yield Target(f"square-{y:g}", "symmetry", square, dict(y=y, noise=noise), partial(_square, y, noise))
    for y, noise in ((1.0, 0.2), (0.0, 0.5)):
        yield Target(f"product-{y:g}", "symmetry", times, dict(y=y, noise=noise), partial(_times, y, noise))
    both = {"s": "positive", "t": "positive"}
    yield Target("scales-product", "ridge", scales, dict(y=1.0, noise=0.1), partial(_scales, 1.0, 0.1), both)
    rng = np.random.default_rng(3)
    for kinds, centres, n in ((2, (-3.0, 3.0), 20), (2, (-1.0, 1.0), 10), (3, (-5.0, 0.0, 5.0), 15)):
        y = np.repeat(centres, n // kinds) + rng.normal(size=n)
        data = dict(y=y, kinds=kinds)
        yield Target(
            f"labels-{len(list(permutations(centres)))}-{centres[-1]:g}",
            "symmetry",
            labels,
            data,
            partial(_labels, y, kinds),
        )
