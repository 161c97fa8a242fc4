"""Regressions and small likelihoods: conjugate ones in closed form, others of one or two parameters on a grid."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import digamma, gammaln, polygamma
from scipy.stats import multivariate_normal, multivariate_t, norm, poisson

import taut
from benchmarks.synthetic.target import Target
from benchmarks.synthetic.truth import Truth, exact, on_grid, truth, weights
from taut import dist


def linear(x: Any, y: Any, noise: float, prior: float) -> None:
    """Coefficients of a linear regression with known noise."""
    beta = taut.sample("beta", dist.Normal(0, prior).expand([x.shape[1]]).to_event(1))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Normal(x @ beta, noise), obs=y)


def linear_unknown(x: Any, y: Any, a: float, b: float) -> None:
    """Noise unknown and the coefficients' prior in its units: the conjugate prior."""
    variance = taut.sample("variance", dist.InverseGamma(a, b))
    beta = taut.sample("beta", dist.Normal(0, jnp.sqrt(variance)).expand([x.shape[1]]).to_event(1))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Normal(x @ beta, jnp.sqrt(variance)), obs=y)


def normal_sample(y: Any) -> None:
    """Mean and sd of a sample, flat on both, by Jeffreys' rule on the sd."""
    mu = taut.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
    sigma = taut.sample("sigma", dist.ImproperUniform(dist.constraints.positive, (), ()))
    taut.factor("prior", -jnp.log(sigma))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Normal(mu, sigma), obs=y)


def logistic(x: Any, y: Any, prior: float) -> None:
    """Logistic regression on one predictor."""
    a = taut.sample("a", dist.Normal(0, prior))
    b = taut.sample("b", dist.Normal(0, prior))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Bernoulli(logits=a + b * x), obs=y)


def poisson_line(x: Any, y: Any) -> None:
    """Poisson regression on one predictor."""
    a = taut.sample("a", dist.Normal(0, 2))
    b = taut.sample("b", dist.Normal(0, 2))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Poisson(jnp.exp(a + b * x)), obs=y)


def rate(y: Any, shape: float) -> None:
    """The rate of counts with its conjugate prior."""
    x = taut.sample("x", dist.Gamma(shape, 1.0))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Poisson(x), obs=y)


def coin(heads: int, n: int) -> None:
    """The bias of a coin with a flat prior."""
    x = taut.sample("x", dist.Beta(1, 1))
    taut.sample("heads", dist.Binomial(n, x), obs=heads)


def normal_posterior(x: np.ndarray, y: np.ndarray, noise: float, prior: float, name: str = "beta") -> Truth:
    """Coefficients Normal(0, prior^2) under normal noise."""
    cov = np.linalg.inv(x.T @ x / noise**2 + np.eye(x.shape[1]) / prior**2)
    marginal = noise**2 * np.eye(len(y)) + prior**2 * x @ x.T
    log_z = multivariate_normal.logpdf(y, np.zeros(len(y)), marginal)
    return truth(float(log_z), **{name: exact(cov @ x.T @ y / noise**2, np.sqrt(np.diag(cov)))})


def normal_inverse_gamma(x: np.ndarray, y: np.ndarray, a: float, b: float) -> Truth:
    """beta is Student-t, the variance inverse gamma, the evidence a Student-t density."""
    n, d = x.shape
    cov = np.linalg.inv(x.T @ x + np.eye(d))
    mean = cov @ x.T @ y
    shape, rest = a + n / 2, b + (y @ y - mean @ x.T @ y) / 2
    log_z = multivariate_t.logpdf(y, np.zeros(n), b / a * (np.eye(n) + x @ x.T), 2 * a)
    sd = np.sqrt(np.diag(cov) * rest / (shape - 1))
    told = exact(
        rest / (shape - 1), rest / (shape - 1) / np.sqrt(shape - 2),
        np.log(rest) - digamma(shape), np.sqrt(polygamma(1, shape)),
    )  # fmt: skip
    return truth(float(log_z), variance=told, beta=exact(mean, sd))


def _normal_sample(y: np.ndarray) -> Truth:
    """mu is Student-t with n - 1 degrees of freedom; (n - 1) s^2 / sigma^2 is chi-square."""
    n, rest = len(y), np.sum((y - y.mean()) ** 2)
    k = (n - 1) / 2  # sigma^-2 is Gamma(k, rest/2)
    mean = np.sqrt(rest / 2) * np.exp(gammaln(k - 0.5) - gammaln(k))
    sd = np.sqrt(rest / 2 / (k - 1) - mean**2)
    free = 0.5 * (np.log(rest / 2) - digamma(k))
    log_z = gammaln(k) - np.log(2) - k * np.log(np.pi * rest) - 0.5 * np.log(n)
    return truth(
        float(log_z),
        mu=exact(y.mean(), np.sqrt(rest / (n - 1) / n * (n - 1) / (n - 3))),
        sigma=exact(mean, sd, free, 0.5 * np.sqrt(polygamma(1, k))),
    )


def plane(log_density: Any, a: np.ndarray, b: np.ndarray) -> Truth:
    """Two real parameters on a grid; ``log_density(a, b)`` is normalised in y."""
    w, log_z = weights(log_density(a[:, None], b[None, :]), (a[1] - a[0]) * (b[1] - b[0]))
    both = w.reshape(len(a), len(b))
    return truth(log_z, a=on_grid(both.sum(1), a), b=on_grid(both.sum(0), b))


def _logistic(x: np.ndarray, y: np.ndarray, prior: float) -> Truth:
    def log_density(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (
            norm.logpdf(a, 0, prior) + norm.logpdf(b, 0, prior)
            - sum(np.logaddexp(0, (1 - 2 * yi) * (a + b * xi)) for xi, yi in zip(x, y))
        )  # fmt: skip

    return plane(log_density, np.linspace(-8 * prior, 8 * prior, 1201), np.linspace(-8 * prior, 8 * prior, 1201))


def _poisson_line(x: np.ndarray, y: np.ndarray) -> Truth:
    def log_density(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        rates = (poisson.logpmf(yi, np.exp(a + b * xi)) for xi, yi in zip(x, y))
        return norm.logpdf(a, 0, 2) + norm.logpdf(b, 0, 2) + sum(rates)

    return plane(log_density, np.linspace(-12, 4, 1001), np.linspace(-8, 8, 1001))


def _rate(y: np.ndarray, shape: float) -> Truth:
    a, b = shape + y.sum(), 1.0 + len(y)
    log_z = gammaln(a) - gammaln(shape) - a * np.log(b) - gammaln(y + 1).sum()
    return truth(float(log_z), x=exact(a / b, np.sqrt(a) / b, digamma(a) - np.log(b), np.sqrt(polygamma(1, a))))


def _coin(heads: int, n: int) -> Truth:
    a, b = 1.0 + heads, 1.0 + n - heads
    sd = np.sqrt(a * b / (a + b + 1)) / (a + b)
    free = exact(a / (a + b), sd, digamma(a) - digamma(b), np.sqrt(polygamma(1, a) + polygamma(1, b)))
    return truth(-np.log(n + 1.0), x=free)


def targets() -> Iterator[Target]:
    """Every target of this page."""
    rng = np.random.default_rng(8)
    for n, d, noise in ((20, 3, 1.0), (50, 10, 0.3), (20, 30, 0.5), (400, 60, 1.0)):
        x = rng.normal(size=(n, d))
        y = x @ rng.normal(size=d) + noise * rng.normal(size=n)
        yield _linear(f"linear-n{n}-d{d}", x, y, noise)
    t = rng.normal(size=(40, 1))
    x = np.hstack([np.ones((40, 1)), t, t + 1e-3 * rng.normal(size=(40, 1))])
    yield _linear("linear-collinear", x, t[:, 0] + rng.normal(size=40), 1.0)
    for n, d in ((8, 2), (40, 5)):
        x = rng.normal(size=(n, d))
        data = dict(x=x, y=x.sum(1) + rng.normal(size=n), a=3.0, b=2.0)
        told = partial(normal_inverse_gamma, **data)
        yield Target(f"linear-unknown-n{n}", "regression", linear_unknown, data, told, {"variance": "positive"})
    y = rng.normal(size=10) * 2 + 5
    yield Target(
        "normal-sample", "regression", normal_sample, dict(y=y), partial(_normal_sample, y), {"sigma": "positive"}
    )
    x = np.linspace(-1, 1, 12)
    for name, hits, prior in (
        ("even", x + 0.3 * np.sin(9 * x) > 0, 2.0),
        ("separable", x > 0, 5.0),
        ("rare", x > 0.9, 2.0),
    ):
        data = dict(x=x, y=hits.astype(int), prior=prior)
        yield Target(f"logistic-{name}", "regression", logistic, data, partial(_logistic, **data))
    for name, y in (("counts", np.array([0, 1, 1, 2, 4, 3, 8, 9])), ("zeros", np.zeros(8, int))):
        data = dict(x=np.linspace(-1, 1, 8), y=y)
        yield Target(f"poisson-{name}", "regression", poisson_line, data, partial(_poisson_line, **data))
    for name, y, shape in (("zeros", np.zeros(3, int), 0.5), ("many", np.array([20, 31, 25, 28]), 2.0)):
        told = partial(_rate, y, shape)
        yield Target(f"rate-{name}", "regression", rate, dict(y=y, shape=shape), told, {"x": "positive"})
    for heads, n in ((0, 10), (7, 20), (1, 1)):
        told = partial(_coin, heads, n)
        yield Target(f"coin-{heads}-of-{n}", "regression", coin, dict(heads=heads, n=n), told, {"x": "unit"})


def _linear(name: str, x: np.ndarray, y: np.ndarray, noise: float) -> Target:
    data = dict(x=x, y=y, noise=noise, prior=2.0)
    return Target(name, "regression", linear, data, partial(normal_posterior, **data))
