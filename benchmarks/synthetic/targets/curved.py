"""Bananas: a normal variable carried along a parabola, so that every moment is known."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

import taut
from benchmarks.synthetic.target import Target, prior_only
from benchmarks.synthetic.truth import Truth, exact, sampled, truth
from taut import dist


@prior_only
def banana(width: float, bend: float, rest: int) -> None:
    """y is normal about bend (x^2 - width^2); `rest` further coordinates are plain."""
    x = taut.sample("x", dist.Normal(0, width))
    taut.sample("y", dist.Normal(bend * (x**2 - width**2), 1))
    if rest:
        taut.sample("z", dist.Normal(0, 1).expand([rest]).to_event(1))


def banana_factor(width: float, bend: float) -> None:
    """The same through a factor on one vector, turned by 45 degrees."""
    p = taut.sample("p", dist.ImproperUniform(dist.constraints.real, (), (2,)))
    x, y = (p[0] + p[1]) / jnp.sqrt(2.0), (p[0] - p[1]) / jnp.sqrt(2.0)
    taut.factor("x", dist.Normal(0, width).log_prob(x))
    taut.factor("y", dist.Normal(bend * (x**2 - width**2), 1).log_prob(y))


@prior_only
def rosenbrock(sharpness: float, length: int) -> None:
    """x[1] ~ Normal(1, 1/sqrt 2), x[k+1] ~ Normal(x[k]^2, 1/sqrt(2 sharpness)).

    Source: Pagani, Wiegand and Nadarajah, Scandinavian Journal of Statistics 49 (2022): the hybrid Rosenbrock density.
    """
    x = taut.sample("x1", dist.Normal(1, jnp.sqrt(0.5)))
    for k in range(2, length + 1):
        x = taut.sample(f"x{k}", dist.Normal(x**2, jnp.sqrt(0.5 / sharpness)))


def circle(y: float, noise: float) -> None:
    """Only the radius is seen: the posterior is a ring."""
    p = taut.sample("p", dist.Normal(0, 2).expand([2]).to_event(1))
    taut.sample("y", dist.Normal(jnp.sqrt(jnp.sum(p**2)), noise), obs=y)


def _banana(width: float, bend: float, rest: int) -> Truth:
    z = {"z": exact(np.zeros(rest), 1.0)} if rest else {}
    return truth(0.0, x=exact(0.0, width), y=exact(0.0, np.sqrt(1 + 2 * bend**2 * width**4)), **z)


def _turned(width: float, bend: float) -> Truth:
    variance = (width**2 + 1 + 2 * bend**2 * width**4) / 2  # x and y are uncorrelated
    return truth(0.0, p=exact(np.zeros(2), np.sqrt(variance)))


def _rosenbrock(sharpness: float, length: int) -> Truth:
    def draw(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        x = {"x1": 1 + np.sqrt(0.5) * rng.normal(size=n)}
        for k in range(2, length + 1):
            x[f"x{k}"] = x[f"x{k - 1}"] ** 2 + np.sqrt(0.5 / sharpness) * rng.normal(size=n)
        return x

    return truth(0.0, **sampled(draw))


def _circle(y: float, noise: float) -> Truth:
    r = np.linspace(0, y + 12 * noise, 200_001)[1:]
    log_density = (
        -0.5 * (r / 2) ** 2 + np.log(r / 4) - 0.5 * ((y - r) / noise) ** 2 - 0.5 * np.log(2 * np.pi * noise**2)
    )
    w = np.exp(log_density - log_density.max())
    second = w @ r**2 / w.sum()
    log_z = np.log(w.sum() * (r[1] - r[0])) + log_density.max()
    return truth(log_z, p=exact(np.zeros(2), np.sqrt(second / 2)))


def targets() -> Iterator[Target]:
    """Every target of this page."""
    for width, bend, rest in ((1.0, 0.1, 0), (1.0, 0.5, 0), (1.0, 2.0, 0), (3.0, 0.3, 0), (2.0, 0.25, 8)):
        data, told = dict(width=width, bend=bend, rest=rest), partial(_banana, width, bend, rest)
        yield Target(f"banana-w{width:g}-b{bend:g}-d{rest + 2}", "banana", banana, data, told)
    for width, bend in ((1.0, 0.2), (2.0, 0.5)):
        data, told = dict(width=width, bend=bend), partial(_turned, width, bend)
        yield Target(f"banana-factor-w{width:g}-b{bend:g}", "banana", banana_factor, data, told)
    for sharpness, length in ((1.0, 2), (20.0, 2), (5.0, 3)):
        data, told = dict(sharpness=sharpness, length=length), partial(_rosenbrock, sharpness, length)
        yield Target(f"rosenbrock-{sharpness:g}-d{length}", "banana", rosenbrock, data, told)
    yield _ring(3.0, 0.3)


def _ring(y: Any, noise: float) -> Target:
    return Target("ring-d2", "banana", circle, dict(y=y, noise=noise), partial(_circle, y, noise))
