"""Guides written as programs: what is refused and how it is said, and what they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

import taut
from taut import dist, guides
from taut._errors import TautError
from taut.guides._within import within
from taut.problem import Problem, compilations

constraints = dist.constraints
Y = np.array([0.5, 1.5, 2.0, -0.3, 1.1])


def model(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    sigma = taut.sample("sigma", dist.LogNormal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, sigma), obs=y)


def positive(name: str, value: Any = 1.0) -> Any:
    return taut.param(name, value, constraint=constraints.positive)


def good(y: Any) -> None:
    taut.sample("mu", dist.Normal(taut.param("m", y.mean()), positive("s", 2)))
    taut.sample("sigma", dist.LogNormal(taut.param("m2", 0.25), positive("s2", 0.5)))


def normal() -> Any:
    return dist.Normal(taut.param("m", 0.0), 1.0)


def log_normal() -> Any:
    return dist.LogNormal(taut.param("l", 0.0), 1.0)


def mu_and_sigma(mu: Callable[[], Any], sigma: Callable[[], Any] = log_normal) -> Callable[[], None]:
    """A guide without arguments."""

    def guide() -> None:
        taut.sample("mu", mu())
        taut.sample("sigma", sigma())

    return guide


def observed() -> None:
    taut.sample("mu", dist.Normal(0.0, 1.0))
    taut.sample("sigma", dist.LogNormal(0.0, 1.0))
    taut.sample("y", dist.Normal(taut.param("m", 0.0), 1.0).expand([5]))


def with_data() -> None:
    taut.sample("mu", dist.Normal(0.0, 1.0), obs=1.0)


def missing() -> None:
    taut.sample("mu", dist.Normal(0.0, 1.0))


def misspelt() -> None:
    taut.sample("mu", dist.Normal(0.0, 1.0))
    taut.sample("sgima", dist.LogNormal(0.0, 1.0))


def computed() -> None:
    taut.sample("mu", dist.Normal(0.0, 1.0))
    taut.deterministic("sigma", positive("s"))


def shaped_by_a_factor() -> None:
    taut.sample("mu", normal())
    taut.sample("sigma", log_normal())
    taut.factor("shape", -positive("s"))


def unknown_argument(x: Any) -> None:
    raise AssertionError(x)


def param_named_as_a_site() -> None:
    taut.sample("mu", dist.Normal(taut.param("y", 0.0), 1.0))
    taut.sample("sigma", dist.LogNormal(0.0, 1.0))


def another_size() -> None:
    with taut.plate("rows", 7):
        taut.sample("mu", dist.Normal(0.0, 1.0))


def strange_rows() -> None:
    with taut.plate("row", 5, subsample_size=2):
        taut.sample("mu", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    "guide, code, site, words",
    [
        (observed, "guide-observed", "y", "delete"),
        (with_data, "guide-observed", "mu", "delete"),
        (missing, "guide-missing", "sigma", "positive"),
        (misspelt, "guide-unknown", "sgima", "did you mean 'sigma'"),
        (computed, "guide-deterministic", "sigma", "taut.transformed"),
        (shaped_by_a_factor, "guide-factor", "shape", "move taut.factor"),
        (unknown_argument, "data-missing", "x", "leave 'x' out"),
        (param_named_as_a_site, "duplicate-site", "y", "y_q"),
        (another_size, "plate-reuse", "rows", 'taut.plate("rows", 5)'),
        (strange_rows, "guide-unknown", "row", "did you mean 'rows'"),
        (mu_and_sigma(lambda: dist.Normal(0.0, 1.0).expand([3])), "guide-shape", "mu", "shape ()"),
        (mu_and_sigma(normal, lambda: dist.Normal(5.0, 0.1)), "guide-support", "sigma", "LogNormal"),
        (mu_and_sigma(lambda: dist.Bernoulli(0.5)), "guide-support", "mu", "discrete"),
        (mu_and_sigma(lambda: dist.Normal(0.0, taut.param("s", 1.0))), "argument-range", "mu", "constraints.positive"),
        (mu_and_sigma(lambda: dist.Normal(0.0, positive("s", 0.0))), "param-init", "s", "inside"),
        (mu_and_sigma(lambda: dist.ImproperUniform(constraints.real, (), ())), "improper-sample", "mu", "dist.Normal"),
        (mu_and_sigma(normal, lambda: dist.Delta(taut.param("d", -1.0))), "guide-support", "sigma", "first draws"),
    ],
)
def test_what_is_refused_before_the_first_step(guide: Any, code: str, site: str, words: str):
    problem = Problem(model, {"y": Y})
    with pytest.raises(TautError) as refused:
        guides.bind(guide, problem).init(problem, 0)
    assert (refused.value.code, refused.value.site) == (code, site)
    assert words in str(refused.value)
    assert code != "guide-observed" or "auxiliary" not in str(refused.value)


def test_event_and_batch_dimensions_are_told_apart():
    def vector(y: Any) -> None:
        beta = taut.sample("beta", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        taut.sample("y", dist.Normal(beta.sum(), 1.0), obs=y)

    problem = Problem(vector, {"y": 1.0})
    for fn in (dist.Normal(0.0, 1.0), dist.Normal(0.0, 1.0).expand([3])):
        with pytest.raises(TautError) as refused:
            guides.bind(lambda fn=fn: taut.sample("beta", fn), problem)
        assert refused.value.code == "guide-shape"
        assert "event (3,)" in refused.value.expected
        assert refused.value.remedy == ".expand([3]).to_event(1)"
    loc = dist.Normal(0.0, 1.0).expand([3]).to_event(1)
    guides.bind(lambda: taut.sample("beta", loc, allow="guide-fixed"), problem)


def test_a_support_that_depends_on_a_latent_is_checked_by_draws():
    def ordered() -> None:
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Uniform(x, x + 1.0))

    problem = Problem(ordered, {})

    def right() -> None:
        x = taut.sample("x", normal())
        taut.sample("y", dist.Uniform(x, x + positive("w", 0.9)))

    def wrong() -> None:
        taut.sample("x", normal())
        taut.sample("y", dist.Uniform(0.0, 1.0), allow="guide-fixed")

    guides.bind(right, problem).init(problem, 0)
    with pytest.raises(TautError) as refused:
        guides.bind(wrong, problem).init(problem, 0)
    assert (refused.value.code, refused.value.site) == ("guide-support", "y")


def test_initial_values_densities_and_names():
    problem = Problem(model, {"y": Y})
    guide = guides.bind(good, problem)
    params = guide.init(problem, 0)
    assert params["m"] == pytest.approx(Y.mean())  # from the data
    # A whole number inside its constraint becomes a real one.
    assert params["s"] == pytest.approx(np.log(2.0)) and params["s"].dtype == float
    point, log_q = guide.draws(problem, params, 50, np.random.default_rng(0))
    expected = stats.norm.logpdf(point["mu"], Y.mean(), 2.0)
    expected += stats.lognorm.logpdf(point["sigma"], 0.5, scale=np.exp(0.25))
    np.testing.assert_allclose(log_q, expected, rtol=1e-10)
    assert guide.named(problem, params)["s"]["transform"] == "ExpTransform"


def test_the_guide_reads_new_data_and_compiles_nothing():
    first, second = Problem(model, {"y": Y}), Problem(model, {"y": Y + 10})
    params = guides.bind(good, first).init(first, 0)
    guides.bind(good, first).draws(first, params, 8, np.random.default_rng(0))
    before = compilations()
    guide = guides.bind(good, second)
    assert guide == guides.bind(good, first)
    params = guide.init(second, 0)
    guide.draws(second, params, 8, np.random.default_rng(0))
    assert compilations() == before
    assert params["m"] == pytest.approx(Y.mean() + 10)


def test_what_a_guide_closes_over_is_not_confused():
    # Two functions with equal equations and different constants must not share a compilation.
    problem = Problem(model, {"y": Y})

    def around(values: np.ndarray) -> Callable[[], None]:
        def guide() -> None:
            taut.sample("mu", dist.Normal(taut.param("m", 0.0) + values.mean(), 0.1))
            taut.sample("sigma", log_normal())

        return guide

    means = []
    for shift in (0.0, 50.0):
        guide = guides.bind(around(Y + shift), problem)
        point, _ = guide.draws(problem, guide.init(problem, 0), 200, np.random.default_rng(0))
        means.append(point["mu"].mean())
    assert means[1] - means[0] == pytest.approx(50.0, abs=1e-6)


def test_rows_of_a_subsampled_plate_are_the_models():
    n, batch = 40, 8

    def local(y: Any) -> None:
        with taut.plate("rows", n, subsample_size=batch) as rows:
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(z, 1.0), obs=y[rows])
            taut.deterministic("which", rows + 0.0)

    def guide() -> None:
        loc = taut.param("loc", np.arange(n) * 1.0)
        # Another size of batch, and another key: the rows still are the model's.
        with taut.plate("rows", n, subsample_size=3) as rows:
            taut.sample("z", dist.Normal(loc[rows], 1e-6))

    problem = Problem(local, {"y": np.zeros(n)}, subsample=True)
    bound = guides.bind(guide, problem)
    params = bound.init(problem, 0)
    point, log_q = bound.draws(problem, params, 3, np.random.default_rng(0))
    rows = np.asarray(problem.program.evaluate("rows", {}, *problem.inputs)["rows"])
    assert len(rows) == batch
    np.testing.assert_allclose(point["z"], np.tile(rows, (3, 1)), atol=1e-4)
    # Each row stands for 5: the density of the guide counts as often as the model's.
    expected = (n / batch) * stats.norm.logpdf(point["z"], rows, 1e-6).sum(axis=1)
    np.testing.assert_allclose(log_q, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "inner, outer, expected",
    [
        (constraints.real, constraints.positive, False),
        (constraints.positive, constraints.real, True),
        (constraints.positive, constraints.nonnegative, True),
        (constraints.interval(2.0, 3.0), constraints.positive, True),
        (constraints.interval(-1.0, 3.0), constraints.positive, False),
        (constraints.positive, constraints.unit_interval, False),
        (constraints.unit_interval, constraints.interval(0.0, 1.0), True),
        (constraints.greater_than(1.0), constraints.greater_than(2.0), False),
        (constraints.simplex, constraints.simplex, True),
        (constraints.real_vector, constraints.simplex, False),
        (constraints.independent(constraints.positive, 1), constraints.independent(constraints.real, 1), True),
        (constraints.real, constraints.dependent, None),
        (constraints.simplex, constraints.ordered_vector, None),
    ],
)
def test_supports_are_compared_by_their_bounds(inner: Any, outer: Any, expected: bool | None):
    assert within(inner, outer) is expected


def test_bind_says_what_a_guide_is():
    problem = Problem(model, {"y": Y})
    family = guides.MeanField()
    assert guides.bind(family, problem) is family
    for wrong in (guides.MeanField, "auto"):
        with pytest.raises(TautError) as refused:
            guides.bind(wrong, problem)  # type: ignore[arg-type]
        assert refused.value.code == "bad-argument"
