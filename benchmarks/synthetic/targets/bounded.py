"""Bounded supports: intervals, simplices, ordered vectors, correlation matrices."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.special import digamma, gammaln, polygamma

import taut
from benchmarks.synthetic.target import Target, prior_only
from benchmarks.synthetic.truth import Scalars, Truth, exact, sampled, truth
from taut import dist


@prior_only
def beta(a: float, b: float) -> None:
    """One beta variable."""
    taut.sample("x", dist.Beta(a, b))


@prior_only
def uniform(low: float, high: float, dim: int) -> None:
    """Independent uniform variables."""
    with taut.plate("row", dim):
        taut.sample("x", dist.Uniform(low, high))


@prior_only
def dirichlet(a: Any) -> None:
    """Shares that add up to one."""
    taut.sample("x", dist.Dirichlet(a))


def dirichlet_counts(a: Any, counts: Any, total: int) -> None:
    """Shares, and how often each kind was counted."""
    x = taut.sample("x", dist.Dirichlet(a))
    taut.sample("counts", dist.Multinomial(total_count=total, probs=x), obs=counts)


def ordered(dim: int) -> None:
    """Normal variables in order."""
    x = taut.sample("x", dist.ImproperUniform(dist.constraints.ordered_vector, (), (dim,)))
    taut.factor("density", dist.Normal(0, 1).log_prob(x).sum())


@prior_only
def lkj(dim: int, concentration: float) -> None:
    """A correlation matrix."""
    taut.sample("r", dist.LKJ(dim, concentration))


@prior_only
def lkj_cholesky(dim: int, concentration: float) -> None:
    """A correlation matrix through its Cholesky factor."""
    factor = taut.sample("factor", dist.LKJCholesky(dim, concentration))
    taut.deterministic("r", factor @ factor.T)


COUNTS = (12, 0, 3, 1)


def interval(a: Any, b: Any, low: float = 0.0, high: float = 1.0) -> Scalars:
    """A beta variable stretched over an interval: closed forms on both scales."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    sd = np.sqrt(a * b / (a + b + 1)) / (a + b) * (high - low)
    free_sd = np.sqrt(polygamma(1, a) + polygamma(1, b))
    return exact(low + (high - low) * a / (a + b), sd, digamma(a) - digamma(b), free_sd)


def _dirichlet(a: np.ndarray) -> Truth:
    return truth(0.0, x=interval(a, a.sum() - a))


def _counted(a: np.ndarray) -> Truth:
    told = _dirichlet(a + COUNTS)
    n, total = np.array(COUNTS), a.sum()
    log_z = gammaln(n.sum() + 1) - gammaln(n + 1).sum() + gammaln(total) - gammaln(total + n.sum())
    return told._replace(log_evidence=float(log_z + (gammaln(a + n) - gammaln(a)).sum()))


def _ordered(dim: int) -> Truth:
    def draw(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"x": np.sort(rng.normal(size=(n, dim)), axis=1)}

    return truth(-float(gammaln(dim + 1)), **sampled(draw, x="ordered"))


def correlation(dim: int, concentration: float) -> Truth:
    """Off the diagonal (1 + r)/2 is Beta(c, c), c = concentration - 1 + dim/2.

    Source: Lewandowski, Kurowicka and Joe, Journal of Multivariate Analysis 100 (2009).
    """
    c = concentration - 1 + dim / 2
    one = interval(c, c, -1.0, 1.0)
    names = tuple(f"r[{i},{j}]" for i in range(2, dim + 1) for j in range(1, i))
    natural, free = (type(side)(*(np.full(len(names), field) for field in side)) for side in one)
    return Truth(names, natural, free, 0.0)


def targets() -> Iterator[Target]:
    """Every target of this page."""
    for a, b in ((0.5, 0.5), (2.0, 5.0), (1.0, 1.0), (0.3, 3.0), (30.0, 70.0)):
        told = partial(_one, a, b)
        yield Target(f"beta-{a:g}-{b:g}", "bounded", beta, dict(a=a, b=b), told, {"x": "unit"})
    for low, high, dim in ((0.0, 1.0, 1), (-3.0, 7.0, 4)):
        told = partial(_uniform, low, high, dim)
        kind = {"x": f"interval({low},{high})"}
        yield Target(f"uniform-d{dim}", "bounded", uniform, dict(low=low, high=high, dim=dim), told, kind)
    shares = {"x": "simplex"}
    for name, a in (("flat", np.ones(3)), ("sparse", np.full(5, 0.5)), ("uneven", np.array([10.0, 5.0, 1.0]))):
        yield Target(f"dirichlet-{name}", "bounded", dirichlet, dict(a=a), partial(_dirichlet, a), shares)
    a = np.ones(4)
    data = dict(a=a, counts=np.array(COUNTS), total=sum(COUNTS))
    yield Target("dirichlet-counts", "bounded", dirichlet_counts, data, partial(_counted, a), shares)
    for dim in (2, 5):
        yield Target(f"ordered-d{dim}", "bounded", ordered, dict(dim=dim), partial(_ordered, dim), {"x": "ordered"})
    kind = {"r": "interval(-1,1)"}
    for dim, concentration in ((3, 1.0), (3, 4.0)):
        data, told = dict(dim=dim, concentration=concentration), partial(correlation, dim, concentration)
        yield Target(f"lkj-d{dim}-{concentration:g}", "bounded", lkj, data, told, kind)
    data, told = dict(dim=4, concentration=2.0), partial(correlation, 4, 2.0)
    yield Target("lkj-cholesky-d4-2", "bounded", lkj_cholesky, data, told, kind)


def _one(a: float, b: float) -> Truth:
    return truth(0.0, x=interval(a, b))


def _uniform(low: float, high: float, dim: int) -> Truth:
    return truth(0.0, x=interval(np.ones(dim), np.ones(dim), low, high))
