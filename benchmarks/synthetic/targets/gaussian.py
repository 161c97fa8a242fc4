"""Gaussians: correlated, badly scaled, far from zero, narrow. A full-rank Gaussian must be exact on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.stats import ortho_group

import taut
from benchmarks.synthetic.target import Target, prior_only
from benchmarks.synthetic.truth import Truth, exact, truth
from taut import dist

SHAPES = (
    (2, 1e0), (2, 1e2), (2, 1e6), (5, 1e1), (5, 1e4), (10, 1e2), (10, 1e6), (30, 1e3), (30, 1e6), (100, 1e2),
    (100, 1e4), (200, 1e2), (500, 1e2),
)  # fmt: skip


@prior_only
def correlated(mean: Any, covariance: Any) -> None:
    """x ~ Normal(mean, covariance)."""
    taut.sample("x", dist.MultivariateNormal(mean, covariance))


@prior_only
def scaled(mean: Any, sd: Any) -> None:
    """Independent normals of any sizes."""
    with taut.plate("row", len(mean)):
        taut.sample("x", dist.Normal(mean, sd))


@prior_only
def chain(steps: int) -> None:
    """A random walk written step by step: y[t] ~ Normal(y[t-1], 1)."""
    y = taut.sample("y0", dist.Normal(0, 1))
    for t in range(1, steps):
        y = taut.sample(f"y{t}", dist.Normal(y, 1))


def factored(mean: Any, precision: Any) -> None:
    """The same as `correlated`, through a factor and with another constant."""
    x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (), (len(mean),)))
    r = x - mean
    taut.factor("target", -0.5 * jnp.dot(r, precision @ r) + 7.0)


def covariance(dim: int, condition: float) -> np.ndarray:
    """Eigenvalues from 1/condition to 1, evenly spaced in the logarithm, in a random frame."""
    frame = ortho_group.rvs(dim, random_state=dim)
    found = frame @ np.diag(np.geomspace(1 / condition, 1, dim)) @ frame.T
    return (found + found.T) / 2


def _told(mean: Any, sd: Any, log_evidence: float = 0.0) -> Truth:
    return truth(log_evidence, x=exact(mean, sd))


def _walk(steps: int) -> Truth:
    return truth(0.0, **{f"y{t}": exact(0.0, np.sqrt(t + 1.0)) for t in range(steps)})


def targets() -> Iterator[Target]:
    """Every target of this page."""
    for dim, condition in SHAPES:
        mean, cov = np.linspace(-2, 2, dim), covariance(dim, condition)
        name = f"gaussian-d{dim}-c{condition:.0e}".replace("+0", "")
        yield Target(
            name,
            "gaussian",
            correlated,
            dict(mean=mean, covariance=cov),
            partial(_told, mean, np.sqrt(np.diag(cov))),
        )
    mean, cov = np.ones(6), covariance(6, 1e3)
    log_evidence = 7.0 + 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1]
    yield Target(
        "gaussian-d6-factor", "gaussian", factored, dict(mean=mean, precision=np.linalg.inv(cov)),
        partial(_told, mean, np.sqrt(np.diag(cov)), log_evidence),
    )  # fmt: skip
    yield Target("gaussian-walk-20", "gaussian", chain, dict(steps=20), partial(_walk, 20))
    for name, mean, sd in (
        ("scaled-d5", np.zeros(5), np.geomspace(1e-3, 1e4, 5)),
        ("scaled-d20", np.linspace(-50, 50, 20), np.geomspace(1e-4, 1e3, 20)),
        ("scaled-far", np.array([1e4, -1e3, 5.0]), np.ones(3)),
        ("spike-d1", np.array([3.0]), np.array([1e-6])),
        ("spike-far-d4", np.array([1e3, -1e2, 10.0, 0.1]), np.full(4, 1e-4)),
    ):
        yield Target(name, "scaled", scaled, dict(mean=mean, sd=sd), partial(_told, mean, sd))
