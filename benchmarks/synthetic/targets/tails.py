"""Tails: Student-t in one and more dimensions, and tails that fall exponentially."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.stats import t as student

import taut
from benchmarks.synthetic.target import Target, prior_only
from benchmarks.synthetic.truth import HELD, Scalars, Truth, exact, heavy, truth, weights
from taut import dist


@prior_only
def univariate(nu: float) -> None:
    """One Student-t."""
    taut.sample("x", dist.StudentT(nu, 0, 1))


@prior_only
def product(nu: float, dim: int) -> None:
    """Independent Student-ts."""
    with taut.plate("row", dim):
        taut.sample("x", dist.StudentT(nu, 0, 1))


@prior_only
def multivariate(nu: float, factor: Any) -> None:
    """Student-ts that share their scale and are correlated."""
    taut.sample("x", dist.MultivariateStudentT(nu, jnp.zeros(len(factor)), factor))


@prior_only
def laplace(dim: int) -> None:
    """Double exponentials."""
    with taut.plate("row", dim):
        taut.sample("x", dist.Laplace(0, 1))


@prior_only
def logistic() -> None:
    """A logistic variable."""
    taut.sample("x", dist.Logistic(2, 3))


@prior_only
def gumbel() -> None:
    """A Gumbel variable: one tail exponential, the other faster."""
    taut.sample("x", dist.Gumbel(1, 2))


def ridge(long: float, short: float) -> None:
    """A ridge with exponential ends, at 45 degrees."""
    p = taut.sample("p", dist.ImproperUniform(dist.constraints.real, (), (2,)))
    taut.factor("along", dist.Laplace(0, long).log_prob(p[0] + p[1]))
    taut.factor("across", dist.Normal(0, short).log_prob(p[0] - p[1]))


def one(nu: float) -> Scalars:
    """Moments of a standard Student-t: closed on its own scale, on a grid for the arsinh."""
    z = np.linspace(-60, 60, 60_001)
    w, _ = weights(student.logpdf(np.sinh(z), nu) + np.log(np.cosh(z)), z[1] - z[0])
    free_sd = np.sqrt(w @ z**2)
    if nu <= 2:
        return heavy(0.0, 1.0, np.inf, 0.0, free_sd)
    sd = np.sqrt(nu / (nu - 2))
    if nu > 4:
        return heavy(0.0, sd, 3 + 6 / (nu - 4), 0.0, free_sd)
    repeats = student.rvs(nu, size=(200, HELD), random_state=1).std(axis=1)
    return heavy(0.0, sd, np.inf, 0.0, free_sd, sd_error=float(np.std(repeats / sd)))


def _repeated(nu: float, dim: int) -> Truth:
    told = one(nu)
    return truth(0.0, x=Scalars(*(type(side)(*(np.full(dim, field) for field in side)) for side in told)))


def factor(dim: int) -> np.ndarray:
    """Cholesky factor of unit variances with correlation 1/2 throughout."""
    return np.linalg.cholesky(0.5 * np.eye(dim) + 0.5)


def targets() -> Iterator[Target]:
    """Every target of this page."""
    wild = {"x": "heavy"}
    for nu in (1.5, 3.0, 5.0, 10.0, 30.0):
        yield Target(f"student-{nu:g}", "tails", univariate, dict(nu=nu), lambda nu=nu: truth(0.0, x=one(nu)), wild)
    for nu, dim in ((1.5, 2), (5.0, 2), (3.0, 10), (10.0, 10), (30.0, 10)):
        data = dict(nu=nu, factor=factor(dim))
        yield Target(f"student-{nu:g}-d{dim}", "tails", multivariate, data, partial(_repeated, nu, dim), wild)
    yield Target("student-5-product-10", "tails", product, dict(nu=5.0, dim=10), partial(_repeated, 5.0, 10), wild)
    sd = np.sqrt(2.0)
    for dim in (1, 5):
        told = partial(truth, 0.0, x=exact(np.zeros(dim), sd))
        yield Target(f"laplace-d{dim}", "exponential", laplace, dict(dim=dim), told)
    yield Target("logistic", "exponential", logistic, {}, partial(truth, 0.0, x=exact(2.0, 3 * np.pi / np.sqrt(3.0))))
    told = partial(truth, 0.0, x=exact(1 + 2 * np.euler_gamma, 2 * np.pi / np.sqrt(6)))
    yield Target("gumbel", "exponential", gumbel, {}, told)
    for long, short in ((3.0, 0.3), (10.0, 0.1)):
        told = partial(truth, -np.log(2), p=exact(np.zeros(2), np.sqrt((2 * long**2 + short**2) / 4)))
        name = f"ridge-exponential-{long:g}-{short:g}"
        yield Target(name, "exponential", ridge, dict(long=long, short=short), told)
