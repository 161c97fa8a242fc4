"""Skewed variables on the positive line: their logarithm has an exponential or a faster left tail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import stats
from scipy.special import digamma, polygamma

import taut
from benchmarks.synthetic.target import Target, prior_only
from benchmarks.synthetic.truth import Scalars, Truth, exact, on_grid, truth, weights
from taut import dist

POSITIVE = {"x": "positive"}


@prior_only
def gamma(shape: float, rate: float) -> None:
    """One gamma variable."""
    taut.sample("x", dist.Gamma(shape, rate))


@prior_only
def inverse_gamma(shape: float, rate: float) -> None:
    """One inverse-gamma variable: its reciprocal is gamma."""
    taut.sample("x", dist.InverseGamma(shape, rate))


@prior_only
def lognormal(mean: float, sd: float) -> None:
    """One log-normal variable."""
    taut.sample("x", dist.LogNormal(mean, sd))


@prior_only
def exponentials(dim: int) -> None:
    """Independent exponential variables."""
    with taut.plate("row", dim):
        taut.sample("x", dist.Exponential(1.0))


@prior_only
def half_normal(scale: float) -> None:
    """The absolute value of a normal."""
    taut.sample("x", dist.HalfNormal(scale))


@prior_only
def half_cauchy(scale: float) -> None:
    """The absolute value of a Cauchy: it has no mean."""
    taut.sample("x", dist.HalfCauchy(scale))


@prior_only
def weibull(scale: float, shape: float) -> None:
    """One Weibull variable."""
    taut.sample("x", dist.Weibull(scale, shape))


@prior_only
def correlated_gammas(shape: float) -> None:
    """y is gamma with a mean of x, itself gamma: a curved tail at zero."""
    x = taut.sample("x", dist.Gamma(shape, shape))
    taut.sample("y", dist.Gamma(shape, shape / x))


@prior_only
def truncated(low: float, mean: float) -> None:
    """A normal cut below."""
    taut.sample("x", dist.TruncatedNormal(mean, 1.0, low=low))


def skew_normal(skew: float) -> None:
    """A skew normal through a factor: 2 phi(x) Phi(skew x).

    Source: Azzalini, Scandinavian Journal of Statistics 12 (1985).
    """
    x = taut.sample("x", dist.Normal(0, 1))
    taut.factor("skew", jnp.log(2.0) + dist.Normal(0, 1).log_cdf(skew * x))


def _log_gamma(shape: float, rate: float) -> tuple[float, float]:
    return float(digamma(shape) - np.log(rate)), float(np.sqrt(polygamma(1, shape)))


def _gamma(shape: float, rate: float) -> Truth:
    return truth(0.0, x=exact(shape / rate, np.sqrt(shape) / rate, *_log_gamma(shape, rate)))


def _inverse(shape: float, rate: float) -> Truth:
    centre, spread = _log_gamma(shape, rate)
    mean = rate / (shape - 1) if shape > 4 else np.nan  # below, the sd of a sample never settles
    sd = mean / np.sqrt(shape - 2) if shape > 4 else np.nan
    return truth(0.0, x=exact(mean, sd, -centre, spread))


def _lognormal(mean: float, sd: float) -> Truth:
    if sd > 1.0:  # of the variable itself the kurtosis is beyond 10^6
        return truth(0.0, x=exact(np.nan, np.nan, mean, sd))
    return truth(0.0, x=exact(np.exp(mean + sd**2 / 2), np.exp(mean + sd**2 / 2) * np.sqrt(np.expm1(sd**2)), mean, sd))


def _exponentials(dim: int) -> Truth:
    return truth(0.0, x=exact(np.ones(dim), 1.0, *_log_gamma(1.0, 1.0)))


def positive(law: Any, moments: bool = True) -> Scalars:
    """Moments of a positive law of SciPy and of its logarithm, on a grid of the logarithm."""
    z = np.linspace(-80, 40, 120_001)
    w, _ = weights(law.logpdf(np.exp(z)) + z, z[1] - z[0])
    free = on_grid(w, z).natural
    return exact(law.mean() if moments else np.nan, law.std() if moments else np.nan, free.mean, free.sd)


def _law(law: Any, moments: bool = True) -> Callable[[], Truth]:
    return lambda: truth(0.0, x=positive(law, moments))


def _correlated(shape: float) -> Truth:
    centre, spread = _log_gamma(shape, shape)
    second = (1 + 1 / shape) ** 2
    return truth(
        0.0,
        x=exact(1.0, shape**-0.5, centre, spread),
        y=exact(1.0, np.sqrt(second - 1), 2 * centre, np.sqrt(2) * spread),
    )


def _truncated(low: float, mean: float) -> Truth:
    z = np.linspace(-60, 6, 120_001)  # log (x - low)
    x = low + np.exp(z)
    w, _ = weights(stats.norm.logpdf(x, mean) + z, z[1] - z[0])
    return truth(0.0, x=on_grid(w, x))  # its unconstrained scale, log (x - low), is not measured


def _skew(skew: float) -> Truth:
    law = stats.skewnorm(skew)
    return truth(0.0, x=exact(law.mean(), law.std()))


def targets() -> Iterator[Target]:
    """Every target of this page."""
    for shape, rate in ((0.2, 1.0), (0.5, 1.0), (1.0, 1.0), (2.0, 0.1), (5.0, 2.0), (50.0, 1.0)):
        yield _target(f"gamma-{shape:g}", gamma, dict(shape=shape, rate=rate), lambda a=shape, b=rate: _gamma(a, b))
    for shape in (0.5, 1.5, 5.0):
        yield _target(
            f"inverse-gamma-{shape:g}", inverse_gamma, dict(shape=shape, rate=1.0), lambda a=shape: _inverse(a, 1.0)
        )
    for sd in (0.5, 1.0, 3.0):
        yield _target(f"lognormal-{sd:g}", lognormal, dict(mean=1.0, sd=sd), lambda s=sd: _lognormal(1.0, s))
    yield _target("exponentials-d10", exponentials, dict(dim=10), lambda: _exponentials(10))
    yield _target("half-normal", half_normal, dict(scale=2.0), _law(stats.halfnorm(scale=2.0)))
    yield _target("half-cauchy", half_cauchy, dict(scale=1.0), _law(stats.halfcauchy(), moments=False))
    yield _target("weibull-0.7", weibull, dict(scale=1.0, shape=0.7), _law(stats.weibull_min(0.7)))
    two = {"x": "positive", "y": "positive"}
    yield Target("gammas-chained-3", "skewed", correlated_gammas, dict(shape=3.0), lambda: _correlated(3.0), two)
    for low, mean in ((0.0, -2.0), (0.0, 1.0)):
        data = dict(low=low, mean=mean)
        yield Target(f"truncated-{mean:g}", "skewed", truncated, data, lambda a=low, m=mean: _truncated(a, m))
    for skew in (2.0, 10.0):
        yield Target(f"skew-normal-{skew:g}", "skewed", skew_normal, dict(skew=skew), lambda s=skew: _skew(s))


def _target(name: str, model: Any, data: Any, told: Callable[[], Truth]) -> Target:
    return Target(name, "skewed", model, data, told, POSITIVE)
