"""Every family on every exact problem that it can represent: to rounding with fixed noise, within noise with SVI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import algorithms, dist, guides, testing
from taut._precision import scope
from taut.algorithms._log_weights import log_p
from taut.problem import Problem

GAUSSIAN: dict[str, Callable[[], testing.Exact]] = {
    "normal": testing.conjugate_normal,
    "regression": testing.conjugate_regression,
    "correlated": testing.correlated_gaussian,
}
# Families that hold every Gaussian of these problems, and those of independent coordinates.
DENSE: dict[str, Callable[[], guides.NoiseGuide]] = {
    "FullRank": guides.FullRank,
    "BlockDense": guides.BlockDense,
    "Structured": guides.Structured,
    "SparsePrecision": guides.SparsePrecision,
}
INDEPENDENT: dict[str, Callable[[], guides.NoiseGuide]] = {
    "MeanField": guides.MeanField,
    "Structured": lambda: guides.Structured(dense=1),
}


def tailed() -> Problem:
    def model() -> None:
        taut.sample("x", dist.StudentT(3.0, 1.0, 2.0))
        taut.sample("c", dist.Cauchy(-5.0, 7.0))
        with taut.plate("rows", 2):
            taut.sample("z", dist.StudentT(6.0, 0.0, 0.1))

    return Problem(model, {}, precision="float64")


def bent() -> Problem:
    def model() -> None:
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(0.3 * x**2, 0.2))

    return Problem(model, {}, precision="float64")


def bend() -> guides.Structured:
    shift = guides.Shift(lambda w, x: w["a"] * x**2 + w["b"] * x, lambda rng, parent, child: {"a": 0.0, "b": 0.0})
    return guides.Structured({"y": {"x": shift}})


# Problems beyond the Gaussian ones, with a family that holds the posterior.
SPECIAL: dict[str, tuple[Callable[[], Problem], Callable[[], guides.NoiseGuide]]] = {
    "StudentT": (tailed, guides.StudentT),
    "Structured with a function": (bent, bend),
}


def fitted(problem: Problem, guide: guides.Guide, algorithm: Any) -> algorithms.Solution:
    return algorithms.Run()(algorithm, problem, guide, 0)


def log_weights(problem: Problem, solution: algorithms.Solution, rows: int = 400) -> np.ndarray:
    point, log_q = solution.guide.draws(problem, solution.params, rows, np.random.default_rng(1))
    return problem.kernel()(point.coordinates, np.asarray(point.centredness))[0] - log_q


@pytest.mark.parametrize("exact", GAUSSIAN.values(), ids=GAUSSIAN)
@pytest.mark.parametrize("member", DENSE.values(), ids=DENSE)
def test_gaussian_posteriors_are_found_to_rounding(member: Any, exact: Any):
    known = exact()
    problem = known.problem()
    solution = fitted(problem, member(), algorithms.FixedNoise())
    assert solution.status == "converged"
    # log p - log q is the log evidence at every draw if, and only if, q is the posterior.
    np.testing.assert_allclose(log_weights(problem, solution), known.log_evidence, atol=1e-6)
    named = solution.guide.named(problem, solution.params)
    loc = np.concatenate([np.ravel(entry["loc"]) for entry in named.values()])
    scale = np.concatenate([np.ravel(entry["scale"]) for entry in named.values()])
    np.testing.assert_allclose(loc, known.location, atol=1e-6)
    np.testing.assert_allclose(scale, np.sqrt(np.diag(known.covariance)), rtol=1e-6)


@pytest.mark.parametrize("exact", GAUSSIAN.values(), ids=GAUSSIAN)
@pytest.mark.parametrize("member", INDEPENDENT.values(), ids=INDEPENDENT)
def test_independent_families_reach_their_own_optimum(member: Any, exact: Any):
    known = exact()
    problem = known.problem()
    solution = fitted(problem, member(), algorithms.FixedNoise())
    # The best independent normals of N(m, P^-1) are at m, with variances 1 / P_ii.
    best = 1 / np.sqrt(np.diag(np.linalg.inv(known.covariance)))
    np.testing.assert_allclose(solution.params["loc"], known.location, atol=1e-6)
    np.testing.assert_allclose(np.exp(solution.params["log_scale"]), best, rtol=1e-6)


@pytest.mark.parametrize("case", SPECIAL.values(), ids=SPECIAL)
def test_other_posteriors_are_found_to_rounding_by_the_family_that_holds_them(case: Any):
    problem, guide = case[0](), case[1]()
    solution = fitted(problem, guide, algorithms.FixedNoise())
    assert solution.status == "converged"
    # The densities are normalised: the log evidence is 0.
    np.testing.assert_allclose(log_weights(problem, solution), 0.0, atol=1e-6)


@pytest.mark.parametrize("member", DENSE.values(), ids=DENSE)
def test_svi_finds_them_within_its_noise(member: Any):
    known = testing.correlated_gaussian()
    problem = known.problem()
    solution = fitted(problem, member(), algorithms.SVI())
    weights = log_weights(problem, solution)
    # Sticking the landing has no noise at the optimum: what is left is where the stages stopped, 0.01 nats.
    assert abs(weights.mean() - known.log_evidence) < 0.01
    assert weights.std() < 0.15


@pytest.mark.parametrize("name", [*DENSE, *SPECIAL])
def test_gradients_match_finite_differences(name: str):
    if name in SPECIAL:
        problem, guide = SPECIAL[name][0](), SPECIAL[name][1]()
    else:
        problem, guide = testing.conjugate_regression().problem(), DENSE[name]()
    guide = guides.bind(guide, problem)
    assert isinstance(guide, guides.NoiseGuide)
    rng = np.random.default_rng(2)
    start = guide.init(problem, 0)
    names, shapes = list(start), [np.shape(v) for v in start.values()]
    x = np.concatenate([np.ravel(v) for v in start.values()])
    x = x + 0.3 * rng.standard_normal(len(x))
    noise = rng.standard_normal(guide.noise_size(problem.program))
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def elbo(x: Any) -> Any:
        params = {n: p.reshape(s) for n, p, s in zip(names, jnp.split(x, ends), shapes, strict=True)}
        point, log_q = guide.push(problem.program, params, noise, problem.inputs)
        return log_p(problem.program, point, jnp.zeros(0), problem.inputs) - log_q

    with scope("float64"):
        slope = np.asarray(jax.grad(elbo)(jnp.asarray(x)))
        value, step = jax.jit(elbo), 1e-6
        rough = [float(value(x + step * e) - value(x - step * e)) / (2 * step) for e in np.eye(len(x))]
    # Central differences of a function of size 10 to 100 in double precision are good to about 1e-7.
    np.testing.assert_allclose(slope, rough, rtol=1e-5, atol=1e-5)
