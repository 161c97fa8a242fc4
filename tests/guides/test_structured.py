"""Structured guides: the default dependencies, what the user asks for, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import taut
from taut import algorithms, dist, guides
from taut.guides._dependencies import default_parents
from taut.problem import Problem

Y = np.array([1.0, 2.0, 4.0])


def layered(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 5.0))
    with taut.plate("rows", 3):
        x = taut.sample("x", dist.Normal(mu, 1.0))
        w = taut.sample("w", dist.Normal(x, 2.0))
        taut.sample("y", dist.Normal(x + w, 1.0), obs=y)
    b = taut.sample("b", dist.Normal(mu, 1.0))
    taut.sample("v", dist.Normal(b, 1.0), obs=3.0)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(layered, {"y": Y}, precision="float64")


def exact(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior of (mu, x, w, b) by completing the square, row by row of the log joint's residuals."""
    rows, target = [], []
    e = np.eye(8)
    mu, x, w, b = e[0], e[1:4], e[4:7], e[7]
    rows.append(mu / 5.0)
    target.append(0.0)
    for i in range(3):
        rows += [x[i] - mu, (w[i] - x[i]) / 2.0, x[i] + w[i]]
        target += [0.0, 0.0, y[i]]
    rows += [b - mu, b]
    target += [0.0, 3.0]
    a, t = np.array(rows), np.array(target)
    return np.linalg.solve(a.T @ a, a.T @ t), np.linalg.inv(a.T @ a)


def test_a_gaussian_posterior_is_found_row_by_row(problem: Problem):
    solution = algorithms.Run()(algorithms.FixedNoise(), problem, guides.Structured(), 0)
    mean, cov = exact(Y)
    named = solution.guide.named(problem, solution.params)
    loc = np.concatenate([np.ravel(named[n]["loc"]) for n in ("mu", "x", "w", "b")])
    scale = np.concatenate([np.ravel(named[n]["scale"]) for n in ("mu", "x", "w", "b")])
    np.testing.assert_allclose(loc, mean, atol=1e-6)
    np.testing.assert_allclose(scale, np.sqrt(np.diag(cov)), rtol=1e-6)
    # w_i meets x_i alone, and the weight is the regression of one on the other given mu.
    assert solution.params["weight[w|x]"].shape == (3, 1, 1)
    given = [0, 1]
    slope = np.linalg.solve(cov[np.ix_(given, given)], cov[given, 4])
    np.testing.assert_allclose(solution.params["weight[w|x]"][0, 0, 0], slope[1], atol=1e-6)


def test_default_parents_are_those_that_the_posterior_needs():
    def collider(y: Any) -> None:
        a = taut.sample("a", dist.Normal(0.0, 1.0))
        b = taut.sample("b", dist.Normal(0.0, 1.0))
        c = taut.sample("c", dist.Normal(a, 1.0))
        d = taut.sample("d", dist.Normal(c, 1.0))
        taut.sample("y", dist.Normal(d + b, 1.0), obs=y)

    found = default_parents(Problem(collider, {"y": 1.0}, precision="float64").program)
    # The observation ties d to b; with d taken away c is tied to b, and with c away so is a.
    assert found == {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("b", "c")}


def test_what_is_asked_for_takes_the_place_of_the_default(problem: Problem):
    guide = guides.Structured({"x": (), "w": ("mu",)})
    params = guides.bind(guide, problem).init(problem, 0)
    assert {name for name in params if name.startswith("weight")} == {"weight[w|mu]", "weight[b|mu]"}
    alone = algorithms.Run()(algorithms.FixedNoise(), problem, guides.Structured(dict.fromkeys(("x", "w", "b"), ())), 0)
    _, cov = exact(Y)
    # Without dependencies it is a mean field.
    np.testing.assert_allclose(np.exp(alone.params["log_scale"]), np.diag(np.linalg.inv(cov)) ** -0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("dependencies", "site", "code"),
    [
        ({"q": ("mu",)}, "q", "site-missing"),
        ({"x": ("q",)}, "q", "site-missing"),
        ({"mu": ("x",)}, "mu", "bad-argument"),
        ({"x": ("x",)}, "x", "bad-argument"),
        ({"x": {"mu": lambda m: np.ones(5)}}, "x", "bad-argument"),
        ({"x": 3}, "x", "bad-argument"),
        ({"x": {"mu": "cubic"}}, "x", "bad-argument"),
        ({"x": "mu"}, "x", "bad-argument"),
    ],
)
def test_dependencies_that_cannot_be_are_refused(problem: Problem, dependencies: Any, site: str, code: str):
    with pytest.raises(taut.TautError) as refusal:
        guides.bind(guides.Structured(dependencies), problem)
    assert (refusal.value.site, refusal.value.code) == (site, code)
