"""Targets that nobody has seen: the families of the list with parameters and data drawn from a seed.

Constants of the ladder and of the verdict are set on the list; a seed that has never been run judges them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.synthetic.target import Target
from benchmarks.synthetic.targets import bounded, curved, funnel, gaussian, hierarchy, modes, regression, skewed, tails
from benchmarks.synthetic.truth import exact, truth


def targets(seed: int) -> Iterator[Target]:
    """Some seventy targets; the same seed gives the same ones."""
    for number, family in enumerate(_FAMILIES):
        rng = np.random.default_rng([seed, number])
        for i, target in enumerate(family(rng)):
            yield target._replace(name=f"fresh{seed}-{target.name}-{i}")


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.round(np.exp(rng.uniform(np.log(low), np.log(high))), 3))


def _gaussians(rng: np.random.Generator) -> Iterator[Target]:
    for _ in range(6):
        dim, condition = int(_between(rng, 2, 80)), _between(rng, 1, 1e6)
        mean, cov = rng.normal(0, 3, dim), gaussian.covariance(dim, condition)
        told = partial(gaussian._told, mean, np.sqrt(np.diag(cov)))
        yield Target(f"gaussian-d{dim}", "gaussian", gaussian.correlated, dict(mean=mean, covariance=cov), told)


def _funnels(rng: np.random.Generator) -> Iterator[Target]:
    for model, name in ((funnel.declared, "declared"), (funnel.hidden, "hidden"), (funnel.computed, "computed")):
        for _ in range(3):
            sigma, leaves = _between(rng, 0.7, 3.0), int(_between(rng, 1, 40))
            yield funnel._of(name, model, sigma, leaves)
    for model, name in ((funnel.declared_with_data, "declared"), (funnel.hidden_with_data, "hidden")):
        for _ in range(4):
            noise, leaves, sigma = _between(rng, 0.1, 10), int(_between(rng, 3, 40)), _between(rng, 1, 3)
            y = np.sqrt(_between(rng, 0.05, 5) + noise**2) * rng.normal(size=leaves)
            told = partial(funnel.posterior, sigma, noise, y)
            data = dict(sigma=sigma, noise=noise, y=y)
            yield Target(f"funnel-{name}-data", f"funnel {name}", model, data, told)


def _hierarchies(rng: np.random.Generator) -> Iterator[Target]:
    for name in ("centred", "standardised", "logarithmic"):
        for _ in range(5):
            groups, noise, spread = int(_between(rng, 4, 60)), _between(rng, 0.1, 10), _between(rng, 0.05, 3)
            y = rng.normal() + spread * rng.normal(size=groups) + noise * rng.normal(size=groups)
            data = dict(y=y, noise=noise, heavy=bool(rng.uniform() < 0.5), scale=_between(rng, 0.5, 5))
            told = partial(hierarchy.posterior, **data)
            family = "hierarchy hidden" if name == "logarithmic" else "hierarchy"
            yield Target(f"groups-{groups}-{name}", family, getattr(hierarchy, name), data, told, hierarchy.POSITIVE)


def _curved(rng: np.random.Generator) -> Iterator[Target]:
    for _ in range(4):
        width, bend, rest = _between(rng, 0.5, 2), _between(rng, 0.05, 1), int(rng.integers(0, 6))
        told = partial(curved._banana, width, bend, rest)
        yield Target("banana", "banana", curved.banana, dict(width=width, bend=bend, rest=rest), told)


def _tails(rng: np.random.Generator) -> Iterator[Target]:
    wild = {"x": "heavy"}
    for _ in range(4):
        nu, dim = _between(rng, 2.5, 40), int(_between(rng, 1, 15))
        told = partial(tails._repeated, nu, dim)
        yield Target(f"student-d{dim}", "tails", tails.multivariate, dict(nu=nu, factor=tails.factor(dim)), told, wild)
    dim = int(rng.integers(2, 8))
    told = partial(truth, 0.0, x=exact(np.zeros(dim), np.sqrt(2.0)))
    yield Target(f"laplace-d{dim}", "exponential", tails.laplace, dict(dim=dim), told)
    long, short = _between(rng, 1, 10), _between(rng, 0.1, 1)
    told = partial(truth, -np.log(2), p=exact(np.zeros(2), np.sqrt((2 * long**2 + short**2) / 4)))
    yield Target("ridge-exponential", "exponential", tails.ridge, dict(long=long, short=short), told)


def _skewed(rng: np.random.Generator) -> Iterator[Target]:
    for _ in range(3):
        a, b = _between(rng, 0.3, 50), _between(rng, 0.1, 10)
        yield skewed._target("gamma", skewed.gamma, dict(shape=a, rate=b), partial(skewed._gamma, a, b))
        a = _between(rng, 0.6, 20)
        told = partial(skewed._inverse, a, 1.0)
        yield skewed._target("inverse-gamma", skewed.inverse_gamma, dict(shape=a, rate=1.0), told)
    for _ in range(2):
        low, mean = 0.0, float(rng.normal())
        told = partial(skewed._truncated, low, mean)
        yield Target("truncated", "skewed", skewed.truncated, dict(low=low, mean=mean), told)
        skew = _between(rng, 0.5, 8)
        told = partial(skewed._skew, skew)
        yield Target("skew-normal", "skewed", skewed.skew_normal, dict(skew=skew), told)


def _bounded(rng: np.random.Generator) -> Iterator[Target]:
    for _ in range(3):
        a, b = _between(rng, 0.3, 30), _between(rng, 0.3, 30)
        yield Target("beta", "bounded", bounded.beta, dict(a=a, b=b), partial(bounded._one, a, b), {"x": "unit"})
        share = np.round(np.exp(rng.uniform(np.log(0.5), np.log(20), int(rng.integers(3, 7)))), 3)
        told = partial(bounded._dirichlet, share)
        yield Target("dirichlet", "bounded", bounded.dirichlet, dict(a=share), told, {"x": "simplex"})


def _modes(rng: np.random.Generator) -> Iterator[Target]:
    for _ in range(4):
        dim, share, apart = int(rng.integers(1, 6)), float(rng.uniform(0.5, 0.95)), _between(rng, 3, 25)
        if dim == 1:
            centre = np.array([0.0, apart])
            yield modes._target("modes-d1", "bimodal", modes.line, [share, 1 - share], centre, [1.0, 1.0])
        else:
            centre = np.stack([np.zeros(dim), apart * np.eye(dim)[0]])
            yield modes._target(f"modes-d{dim}", "bimodal", modes.space, [share, 1 - share], centre, [1.0, 1.0])


def _regressions(rng: np.random.Generator) -> Iterator[Target]:
    for _ in range(4):
        n, k = int(_between(rng, 12, 200)), int(rng.integers(1, 8))
        x = rng.normal(size=(n, k)) * np.exp(rng.normal(size=k))
        y = x @ rng.normal(size=k) + _between(rng, 0.3, 3) * rng.normal(size=n)
        told = partial(regression.normal_inverse_gamma, x, y, 2.0, 2.0)
        data = dict(x=x, y=y, a=2.0, b=2.0)
        yield Target(
            f"linear-unknown-d{k}", "regression", regression.linear_unknown, data, told, {"variance": "positive"}
        )


_FAMILIES = (_gaussians, _funnels, _hierarchies, _curved, _tails, _skewed, _bounded, _modes, _regressions)
