"""Different guides for different latents: each part is the one it would be alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import taut
from taut import dist, guides
from taut._precision import scope
from taut.guides import Combine, FullRank, MeanField, SiteFamilies
from taut.problem import Problem

stats: Any = scipy.stats
POSITIVE = dist.constraints.positive


def model(y: Any, s: Any) -> None:
    a = taut.sample("a", dist.Normal(0.0, 1.0))
    b = taut.sample("b", dist.Normal(0.0, 1.0))
    taut.sample("tau", dist.LogNormal(0.5, 0.8))
    p = taut.sample("p", dist.Beta(2.0, 3.0))
    taut.sample("y", dist.Normal(a + b, 1.0), obs=y)
    taut.sample("s", dist.Bernoulli(p), obs=s)


DATA = dict(y=3.0, s=1)


def by_hand() -> None:
    one = taut.param("one", 1.0, constraint=POSITIVE)
    taut.sample("p", dist.Beta(one, taut.param("two", 1.0, constraint=POSITIVE)))


def test_parts_of_three_kinds_find_an_exact_posterior():
    guide = Combine({("a", "b"): FullRank(), "p": by_hand}, default=MeanField())
    fit = taut.fit(model, DATA, guide=guide, verify=False)
    # y is N(0, 3) before the data, s is 1 with probability 2/5; a, b have means 1, variances 2/3 and covariance -1/3.
    exact = stats.norm(0.0, np.sqrt(3.0)).logpdf(3.0) + np.log(0.4)
    assert fit.elbo == pytest.approx(exact, abs=2e-3)
    np.testing.assert_allclose(fit.cov(["a", "b"]), [[2 / 3, -1 / 3], [-1 / 3, 2 / 3]], atol=0.03)
    np.testing.assert_allclose([fit["a"].mean, fit["b"].mean], 1.0, atol=0.03)
    assert float(fit["tau"].quantile(0.5)) == pytest.approx(np.exp(0.5), rel=0.03)
    assert float(fit["p"].mean) == pytest.approx(3.0 / 6.0, abs=0.01)
    assert {"a.loc", "p.one", "p.two", "tau.loc"} <= set(fit.params)


def test_the_density_is_the_product_of_the_parts_in_the_models_space():
    problem = Problem(model, DATA, precision="float64")
    guide = guides.bind(Combine({"tau": MeanField(), "p": SiteFamilies()}, default=FullRank()), problem)
    rng = np.random.default_rng(0)
    params = {n: v + 0.3 * rng.standard_normal(np.shape(v)) for n, v in guide.init(problem, 0).items()}
    point, log_q = guide.draws(problem, params, 4, np.random.default_rng(1))
    with scope("float64"):
        one = {n: jnp.asarray(v[2]) for n, v in point.items()}
        again = float(guide.log_prob(problem.program, params, one, problem.inputs))
        drawn = guide.sample_and_log_prob(problem.program, params, jax.random.key(0), problem.inputs)
        same = float(guide.log_prob(problem.program, params, drawn[0], problem.inputs))
    assert float(drawn[1]) == pytest.approx(same, rel=1e-12)
    factor = FullRank.factor({n: params[f"a.{n}"] for n in ("log_diagonal", "lower")})
    expected = stats.multivariate_normal(params["a.loc"], factor @ factor.T).logpdf([point["a"][2], point["b"][2]])
    scale = np.exp(params["tau.log_scale"][0])
    expected += stats.lognorm(scale, scale=np.exp(params["tau.loc"][0])).logpdf(point["tau"][2])
    one_, two = (np.exp(params[f"p.p.concentration{k}"]) for k in (1, 0))
    expected += stats.beta(one_, two).logpdf(point["p"][2])
    assert log_q[2] == pytest.approx(expected, rel=1e-10) and again == pytest.approx(expected, rel=1e-10)


def test_every_latent_exactly_once():
    for guide, code, site in (
        (Combine({"a": MeanField()}), "guide-missing", "b"),
        (Combine({"a": MeanField(), "tua": MeanField()}, default=FullRank()), "guide-unknown", "tua"),
        (Combine({"a": MeanField(), ("a", "b"): FullRank()}, default=FullRank()), "bad-argument", "a"),
        (Combine({"tau": by_hand}, default=FullRank()), "guide-unknown", "p"),
    ):
        with pytest.raises(taut.TautError) as caught:
            taut.fit(model, DATA, guide=guide)
        assert (caught.value.code, caught.value.site) == (code, site)


def test_a_map_that_depends_on_another_part_is_refused():
    def moving(y: Any) -> None:
        top = taut.sample("top", dist.LogNormal(0.0, 1.0))
        taut.sample("x", dist.Uniform(0.0, top))
        taut.sample("y", dist.Normal(0.0, 1.0), obs=y)

    with pytest.raises(taut.TautError) as caught:
        taut.fit(moving, dict(y=0.0), guide=Combine({"x": MeanField()}, default=MeanField()))
    assert (caught.value.code, caught.value.site) == ("guide-support", "x")
