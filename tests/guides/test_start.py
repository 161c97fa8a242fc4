"""Where guides begin: values, medians, draws and modes, in every parametrisation and for every algorithm."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import taut
from taut import algorithms, dist, guides
from taut.problem import Problem

VALUES = {
    "tau": 2.0,
    "high": 0.5,
    "share": np.array([0.2, 0.3, 0.5]),
    "theta": np.array([1.0, 2.0, 3.0]),
}


def model(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 5.0))
    tau = taut.sample("tau", dist.HalfCauchy(5.0))
    high = taut.sample("high", dist.Uniform(0.0, tau))
    share = taut.sample("share", dist.Dirichlet(np.ones(3)))
    with taut.plate("group", 3):
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta * high, share[0]), obs=y)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(model, {"y": np.array([1.0, 2.0, 3.0])}, precision="float64")


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("family", [guides.MeanField, guides.StudentT, guides.Structured], ids=lambda f: f.__name__)
def test_given_values_are_where_a_guide_begins(problem: Problem, family: Any, lam: float):
    guide = family(centredness=lam, start=guides.At({**VALUES, "mu": 1.5}))
    loc = guide.init(problem, 0)["loc"]
    values = problem.constrain(loc[None], problem.centredness(lam))
    for name, value in {**VALUES, "mu": 1.5}.items():
        np.testing.assert_allclose(values[name][0], value, rtol=1e-6)


def test_values_may_be_given_in_part(problem: Problem):
    lam = problem.centredness(0.0)
    points = guides.At({"theta": VALUES["theta"], "tau": 2.0}).points(problem, lam, np.random.default_rng(0), 4)
    values = problem.constrain(points, lam)
    # theta's coordinate depends on mu, which differs between the points; its value does not.
    np.testing.assert_allclose(values["theta"], np.tile(VALUES["theta"], (4, 1)))
    np.testing.assert_allclose(values["tau"], 2.0)
    assert len(np.unique(np.round(values["mu"], 6))) == 4


@pytest.mark.parametrize(
    ("values", "site", "code"),
    [
        ({"tau": -1.0}, "tau", "bad-argument"),
        ({"theta": 1.0}, "theta", "bad-argument"),
        ({"tau": 1.0, "high": 3.0}, "high", "bad-argument"),
        ({"share": np.array([0.2, 0.2, 0.2])}, "share", "bad-argument"),
        ({"mu": np.nan}, "mu", "bad-argument"),
        ({"nu": 1.0}, "nu", "site-missing"),
    ],
)
def test_values_that_cannot_be_are_refused_with_their_site(problem: Problem, values: Any, site: str, code: str):
    with pytest.raises(taut.TautError) as refusal:
        guides.FullRank(start=guides.At(values)).init(problem, 0)
    assert (refusal.value.site, refusal.value.code) == (site, code)


def test_what_is_no_start_is_refused(problem: Problem):
    with pytest.raises(taut.TautError, match="PriorMedian"):
        guides.MeanField(start="median").init(problem, 0)  # type: ignore[arg-type]


def test_prior_median_and_prior_draws_are_those_of_the_prior():
    def skewed() -> None:
        taut.sample("s", dist.Gamma(3.0, 2.0))

    problem = Problem(skewed, {}, precision="float64")
    lam, rng = np.ones(1), np.random.default_rng(0)
    median = np.exp(guides.PriorMedian(draws=4001).points(problem, lam, rng, 1)[0, 0])
    # The standard error of a median of n draws is 1 / (2 f sqrt(n)).
    exact: Any = stats.gamma(3, scale=0.5)
    error = 1 / (2 * exact.pdf(exact.median()) * np.sqrt(4001))
    assert abs(median - exact.median()) < 5 * error
    draws = np.exp(guides.PriorSample().points(problem, lam, rng, 2000)[:, 0])
    assert stats.kstest(draws, exact.cdf).pvalue > 1e-4


def test_mode_and_data_climb_to_where_the_density_is():
    def gamma(y: Any) -> None:
        rate = taut.sample("rate", dist.Gamma(3.0, 1.0))
        taut.sample("y", dist.Poisson(rate), obs=y)

    problem = Problem(gamma, {"y": 5}, precision="float64")
    rng = np.random.default_rng(0)
    # Gamma(8, 2) in log(rate) has its mode at log(8 / 2).
    np.testing.assert_allclose(guides.Mode().points(problem, np.ones(1), rng, 1), np.log(4.0), atol=1e-5)
    assert abs(guides.FromData().points(problem, np.ones(1), rng, 1)[0, 0] - np.log(4.0)) < 0.05


def two_modes() -> None:
    components = dist.Normal(jnp.array([-20.0, 20.0]), 1.0)
    taut.sample("z", dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.01, 0.99])), components))


RUNS = {
    "FixedDraws": (algorithms.FixedDraws(), guides.FullRank),
    "FixedNoise": (algorithms.FixedNoise(), guides.BlockDense),
    "Laplace": (algorithms.Laplace(), guides.FullRank),
    "MAP": (algorithms.MAP(), guides.Delta),
    "Pathfinder": (algorithms.Pathfinder(), guides.FullRank),
    "BatchAndMatch": (algorithms.BatchAndMatch(), guides.FullRank),
    "LowRankDraws": (algorithms.LowRankDraws(), lambda **k: guides.LowRank(1, **k)),
    "SVI": (algorithms.SVI(steps=1600), guides.MeanField),
}


@pytest.mark.parametrize("case", RUNS.values(), ids=RUNS)
def test_every_algorithm_begins_where_it_is_told(case: Any):
    algorithm, family = case
    problem = Problem(two_modes, {}, precision="float64")
    guide = family(start=guides.At({"z": -21.0}))
    solution = algorithms.Run()(algorithm, problem, guide, 0)
    # The mode that a start does not choose holds 99 % of the mass, and nothing between them does.
    np.testing.assert_allclose(np.ravel(solution.params["loc"]), -20.0, atol=0.05)
    assert solution.modes is None or solution.modes[2] == 1


def test_a_start_does_not_make_another_guide():
    plain, started = guides.MeanField(), guides.MeanField(start=guides.PriorMedian())
    assert plain == started and hash(plain) == hash(started)
    assert guides.At({"a": 1.0}) == guides.At({"a": np.array(1.0)})
