"""Sparse precisions: exact on Gaussian Markov models, with few numbers, in few steps."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import taut
from taut import algorithms, dist, guides
from taut.guides._elimination import colours, elimination
from taut.problem import Problem


def packed(pairs: Any) -> bytes:
    return np.asarray(pairs, np.int32).reshape(-1, 2).tobytes()


def chain(n: int) -> bytes:
    return packed([(i, i + 1) for i in range(n - 1)])


def local_level(n: int, looped: bool = False) -> tuple[Problem, np.ndarray, np.ndarray]:
    """A random walk with noise, and its posterior by dense algebra."""
    y = np.cumsum(np.random.default_rng(0).standard_normal(n))

    def model(y: Any) -> None:
        x = taut.sample("x", dist.GaussianRandomWalk(0.3, n))
        with taut.plate("time", n):
            taut.sample("y", dist.Normal(x, 1.0), obs=y)

    def inside(y: Any) -> None:
        x = taut.sample("x", dist.Normal(0.0, 1.0).expand([n]).to_event(1))

        def step(before: Any, now: Any) -> Any:
            return now, dist.Normal(before, 0.3).log_prob(now)

        _, terms = jax.lax.scan(step, 0.0, x)
        taut.factor("walk", terms.sum() - dist.Normal(0.0, 1.0).log_prob(x).sum())
        with taut.plate("time", n):
            taut.sample("y", dist.Normal(x, 1.0), obs=y)

    a = np.eye(n) - np.eye(n, k=-1)
    precision = a.T @ a / 0.09 + np.eye(n)
    problem = Problem(inside if looped else model, {"y": y}, precision="float64")
    return problem, np.linalg.solve(precision, y), np.linalg.inv(precision)


@pytest.mark.parametrize(("n", "looped"), [(6, False), (40, True), (300, False)])
def test_a_local_level_model_is_found_to_rounding(n: int, looped: bool):
    problem, mean, cov = local_level(n, looped)
    solution = algorithms.Run()(algorithms.FixedNoise(), problem, guides.SparsePrecision(), 0)
    entry = solution.guide.named(problem, solution.params)["x"]
    np.testing.assert_allclose(entry["loc"], mean, atol=1e-6)
    np.testing.assert_allclose(entry["scale"], np.sqrt(np.diag(cov)), rtol=1e-6)
    assert sum(np.size(v) for v in solution.params.values()) <= 4 * n
    point, log_q = solution.guide.draws(problem, solution.params, 64, np.random.default_rng(0))
    weights = problem.kernel()(point.coordinates, np.asarray(point.centredness))[0] - log_q
    np.testing.assert_allclose(weights, weights[0], atol=1e-6)


def test_a_chain_takes_few_levels_and_few_entries():
    found = elimination(chain(1000), 1000)
    assert len(found.levels) <= 12 and found.weights <= 2000
    order = np.concatenate([*(level.nodes for level in found.levels), found.rest])
    assert sorted(order) == list(range(1000))
    # Neighbours come later in the order.
    place = np.argsort(order)
    for level in found.levels:
        later = place[level.near] > place[level.nodes][:, None]
        assert np.all(later | ~level.real)


def test_hubs_and_dense_models_keep_what_they_have():
    star = elimination(packed([(0, i) for i in range(1, 50)]), 50)
    assert star.weights == 49 and len(star.levels) == 1
    dense = elimination(packed([(i, j) for i in range(6) for j in range(i)]), 6)
    assert dense.levels == () and len(dense.rest) == 6
    apart = elimination(b"", 5)
    assert apart.weights == 0


def test_colours_keep_neighbours_of_neighbours_apart():
    found = colours(chain(50), 50)
    assert found.max() + 1 == 3
    assert all(len({*found[i : i + 3]}) == 3 for i in range(48))


def test_ties_are_those_of_the_hessian():
    def crossed(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 2, dim=-2):
            a = taut.sample("a", dist.Normal(mu, 1.0))
        with taut.plate("columns", 3, dim=-1):
            b = taut.sample("b", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 2, dim=-2), taut.plate("columns", 3, dim=-1):
            taut.sample("y", dist.Normal(a + b, 1.0), obs=y)

    problem = Problem(crossed, {"y": np.zeros((2, 3))}, precision="float64")
    guide = guides.bind(guides.SparsePrecision(), problem)
    assert isinstance(guide, guides.SparsePrecision) and guide.edges is not None
    pairs = {tuple(p) for p in np.frombuffer(guide.edges, np.int32).reshape(-1, 2).tolist()}
    # mu (0) with each a (1, 2); each a with each b (3, 4, 5).
    assert pairs == {(0, 1), (0, 2), *((i, j) for i in (1, 2) for j in (3, 4, 5))}


def test_a_volatility_model_comes_near_its_full_rank_fit():
    n = 30
    rng = np.random.default_rng(1)
    y = np.exp(0.5 * np.cumsum(0.3 * rng.standard_normal(n))) * rng.standard_normal(n)

    def volatility(y: Any) -> None:
        sigma = taut.sample("sigma", dist.LogNormal(-1.0, 0.5))
        e = taut.sample("e", dist.Normal(0.0, 1.0))
        h = taut.sample("h", dist.GaussianRandomWalk(0.3, n))
        with taut.plate("time", n):
            taut.sample("y", dist.Normal(0.1 * e, sigma * jax.numpy.exp(h / 2)), obs=y)

    problem = Problem(volatility, {"y": y}, precision="float64")

    def elbo(guide: Any, algorithm: Any) -> float:
        solution = algorithms.Run()(algorithm, problem, guide, 0)
        point, log_q = solution.guide.draws(problem, solution.params, 4000, np.random.default_rng(0))
        return float(np.mean(problem.kernel()(point.coordinates, np.asarray(point.centredness))[0] - log_q))

    # The family is a part of the other, with nearly all that matters: the error of either mean is about 0.01.
    sparse = elbo(guides.SparsePrecision(), algorithms.FixedNoise())
    full = elbo(guides.FullRank(), algorithms.FixedDraws())
    assert full - 0.2 < sparse < full + 0.1
