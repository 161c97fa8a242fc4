"""The fitted guide by name: marginals, covariances, densities in the model's space, files, and beginning from one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy import stats as scipy_stats

import taut
from taut import dist, guides
from taut.algorithms import MAP, SVI, Solution
from taut.fitting import FittedGuide
from taut.fitting._guide_view import view_of
from taut.problem import Problem

stats: Any = scipy_stats
POSITIVE = dist.constraints.positive


def model(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    tau = taut.sample("tau", dist.HalfNormal(1.0))
    share = taut.sample("share", dist.Beta(2.0, 2.0))
    below = taut.sample("below", dist.TruncatedNormal(0.0, 1.0, low=None, high=3.0))
    mix = taut.sample("mix", dist.Dirichlet(jnp.ones(3)))
    taut.sample("y", dist.Normal(mu.sum() + share + below + mix[0], tau), obs=y)


DATA = dict(y=0.7)


def gaussian(family: Any, seed: int = 0) -> FittedGuide:
    """A view of a family at parameters that were not fitted, so that everything is known."""
    problem = Problem(model, DATA, precision="float64")
    rng = np.random.default_rng(seed)
    params = {n: v + 0.4 * rng.standard_normal(np.shape(v)) for n, v in family.init(problem, 0).items()}
    return view_of(problem, Solution(family, params, np.zeros(0), "converged"))


FAMILIES = [
    guides.MeanField(),
    guides.FullRank(),
    guides.LowRank(2),
    guides.GaussianMixture(2),
    guides.BlockDense(blocks=(("mu", "tau"), ("share",))),
    guides.SparsePrecision(),
]


def test_as_text_it_is_the_familys_name():
    view = gaussian(guides.FullRank())
    assert str(view) == f"{view}" == "FullRank" and view == "FullRank" and view != "MeanField"
    assert view.slices == {
        "mu": slice(0, 2),
        "tau": slice(2, 3),
        "share": slice(3, 4),
        "below": slice(4, 5),
        "mix": slice(5, 7),
    }
    assert "tau: [2:3], positive" in repr(view)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_exact_marginals_are_those_of_the_draws_and_integrate_to_one(family: Any):
    view = gaussian(family)
    n = 100_000
    drawn = view.draws(n, 1)
    for name in ("mu", "tau", "share", "below"):
        marginal = view.marginal(name)
        assert marginal.exact
        x = drawn[name]
        np.testing.assert_allclose(marginal.mean, x.mean(axis=0), atol=6 * np.max(x.std(axis=0)) / np.sqrt(n))
        # The standard error of an sd with these tails is below 1 %.
        np.testing.assert_allclose(marginal.sd, x.std(axis=0), rtol=0.03)
        levels = [0.1, 0.5, 0.9]
        found = marginal.quantile(levels)
        assert np.all(np.abs(np.mean(x[None] <= found[:, None], axis=1).T - levels) < 6 * 0.5 / np.sqrt(n))
    ends = {"tau": (0.0, np.inf), "share": (0.0, 1.0), "below": (-np.inf, 3.0)}
    for name, (low, high) in ends.items():
        marginal = view.marginal(name)

        def weighted(x: float, power: int, marginal: Any = marginal) -> float:
            return x**power * float(np.exp(marginal.log_density(x)))

        total, _ = integrate.quad(weighted, low, high, args=(0,), limit=200)
        assert total == pytest.approx(1.0, abs=1e-6)
        first, _ = integrate.quad(weighted, low, high, args=(1,), limit=200)
        assert first == pytest.approx(float(marginal.mean), rel=1e-5)
    assert view.marginal("tau").log_density(-1.0) == -np.inf
    assert not view.marginal("mix").exact
    np.testing.assert_allclose(view.marginal("mix").mean.sum(), 1.0)
    with pytest.raises(taut.TautError, match="draws alone"):
        view.marginal("mix").log_density(np.ones(3) / 3)


def test_a_log_normal_marginal_in_closed_form():
    view = gaussian(guides.MeanField())
    m, s = view.params["loc"][2], np.exp(view.params["log_scale"][2])
    exact, found = stats.lognorm(s, scale=np.exp(m)), view.marginal("tau")
    np.testing.assert_allclose([found.mean, found.sd], [exact.mean(), exact.std()], rtol=1e-8)
    np.testing.assert_allclose(found.quantile([0.01, 0.5, 0.99]), exact.ppf([0.01, 0.5, 0.99]), rtol=1e-10)
    np.testing.assert_allclose(found.log_density(np.array([0.3, 2.0])), exact.logpdf([0.3, 2.0]), rtol=1e-10)
    assert found.quantile(0.5).shape == () and view.marginal("mu").quantile([0.5]).shape == (1, 2)


def test_the_joint_density_in_the_models_space():
    view = gaussian(guides.MeanField())
    loc, scale = view.params["loc"], np.exp(view.params["log_scale"])
    values = dict(mu=np.array([0.2, -0.4]), tau=0.8, share=0.3, below=1.2, mix=np.array([0.2, 0.5, 0.3]))
    expected = stats.norm(loc[:2], scale[:2]).logpdf(values["mu"]).sum()
    expected += stats.lognorm(scale[2], scale=np.exp(loc[2])).logpdf(0.8)
    expected += stats.norm(loc[3], scale[3]).logpdf(np.log(0.3 / 0.7)) - np.log(0.3 * 0.7)
    expected += stats.norm(loc[4], scale[4]).logpdf(np.log(3.0 - 1.2)) - np.log(3.0 - 1.2)
    # Stick breaking: z_k = logit of the share of what is left, shifted by log(K - k); its Jacobian prod x_k (1 - z_k).
    u = [np.log(0.2 / 0.8) + np.log(2.0), np.log(0.5 / 0.3)]
    stick = np.log(0.2 * 0.8) + np.log(0.5 * 0.3 / 0.8)
    expected += stats.norm(loc[5:], scale[5:]).logpdf(u).sum() - stick
    assert view.log_prob(values) == pytest.approx(expected, rel=1e-10)
    several = view.draws(5, 3)
    found = view.log_prob(several | {"something": np.zeros(5)})
    assert found.shape == (5,)
    np.testing.assert_allclose(found[2], view.log_prob({n: v[2] for n, v in several.items()}), rtol=1e-12)
    assert view.log_prob(values | {"tau": -1.0}) == -np.inf
    for wrong, code in ((dict(mu=0.0), "site-missing"), (values | {"mu": np.zeros(3)}, "bad-argument")):
        with pytest.raises(taut.TautError) as caught:
            view.log_prob(wrong)
        assert caught.value.code == code
    with pytest.raises(taut.TautError) as caught:
        gaussian(guides.Delta()).log_prob(values)
    assert caught.value.code == "bad-combination"


def schools(y: Any, s: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 5.0))
    tau = taut.sample("tau", dist.HalfCauchy(5.0))
    with taut.plate("schools", len(y)):
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta, s), obs=y)


SCHOOLS = dict(y=np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), s=np.array([15.0, 10, 16, 11, 9, 11, 10, 18]))


@pytest.mark.parametrize("centredness", [1.0, 0.0, 0.4])
def test_the_density_of_a_hierarchy_in_any_coordinates(centredness: float):
    problem = Problem(schools, SCHOOLS, precision="float64")
    family = guides.MeanField(centredness)
    params = family.init(problem, 0)
    view = view_of(problem, Solution(family, params, np.zeros(0), "converged"))
    theta = np.linspace(-2.0, 3.0, 8)
    values = dict(mu=1.5, tau=2.0, theta=theta)
    loc, scale = params["loc"], np.exp(params["log_scale"])
    # u = c mu + tau^(c - 1) (theta - mu), so that du/dtheta = tau^(c - 1), eight times.
    u = centredness * 1.5 + 2.0 ** (centredness - 1) * (theta - 1.5)
    expected = stats.norm(loc, scale).logpdf(np.concatenate([[1.5, np.log(2.0)], u])).sum()
    expected += -np.log(2.0) + 8 * (centredness - 1) * np.log(2.0)
    assert view.log_prob(values) == pytest.approx(expected, rel=1e-8)


def test_supports_that_depend_on_other_latents():
    def moving(y: Any) -> None:
        top = taut.sample("top", dist.LogNormal(0.0, 0.5))
        x = taut.sample("x", dist.Uniform(0.0, top))
        taut.sample("y", dist.Normal(x, 1.0), obs=y)

    problem = Problem(moving, dict(y=0.5), precision="float64")
    family = guides.MeanField()
    params = family.init(problem, 0)
    view = view_of(problem, Solution(family, params, np.zeros(0), "converged"))
    loc, scale = params["loc"], np.exp(params["log_scale"])
    expected = stats.norm(loc, scale).logpdf([np.log(2.0), np.log(0.25 / 0.75)]).sum()
    expected -= np.log(2.0) + np.log(2.0 * 0.25 * 0.75)
    assert view.log_prob(dict(top=2.0, x=0.5)) == pytest.approx(expected, rel=1e-6)
    assert not view.marginal("x").exact


def test_covariances_between_real_sites_are_exact():
    view = gaussian(guides.FullRank())
    factor = guides.FullRank.factor(view.params)
    exact = (factor @ factor.T)[:2, :2]
    np.testing.assert_allclose(view.cov("mu"), exact, rtol=1e-12)
    np.testing.assert_allclose(view.cov("mu", "mu"), exact, rtol=1e-12)
    drawn = view.draws(100_000, 5)
    flat = np.concatenate([drawn["mu"], drawn["tau"][:, None]], axis=1)
    # 16,000 draws on one side and 100,000 on the other: five standard errors of a correlation are 0.05.
    np.testing.assert_allclose(view.corr(["mu", "tau"]), np.corrcoef(flat.T), atol=0.05)
    assert view.corr("mu", "tau").shape == (2,) and view.cov("tau", "tau").shape == ()
    with pytest.raises(taut.TautError) as caught:
        view.corr("mu", "ta")
    assert caught.value.code == "site-missing" and "'tau'" in caught.value.remedy


_LOADER = """
import sys, numpy as np, taut
view = taut.load_guide(sys.argv[1])
drawn = view.draws(50, key=3)
np.savez(sys.argv[2], density=view.log_prob(drawn), mean=view.marginal("tau").mean, **drawn)
"""


@pytest.mark.parametrize("family", [guides.FullRank(), guides.Flow(layers=1)], ids=lambda f: type(f).__name__)
def test_a_saved_guide_needs_neither_model_nor_data(family: Any, tmp_path: Path):
    view = gaussian(family)
    path = view.save(tmp_path / "q.guide")
    done = subprocess.run([sys.executable, "-c", _LOADER, str(path), str(tmp_path / "q.npz")], check=True)
    assert done.returncode == 0
    drawn = view.draws(50, key=3)
    with np.load(tmp_path / "q.npz") as there:
        for name, values in drawn.items():
            np.testing.assert_array_equal(there[name], values)
        np.testing.assert_array_equal(there["density"], view.log_prob(drawn))
        np.testing.assert_array_equal(there["mean"], view.marginal("tau").mean)
    loaded = taut.load_guide(path)
    assert loaded == type(family).__name__ and loaded.slices == view.slices
    again = loaded.on(Problem(model, dict(y=9.0)))  # other data of the same model
    np.testing.assert_array_equal(again.draws(5)["tau"], view.draws(5)["tau"])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_saving_is_exact_for_every_family(family: Any, tmp_path: Path):
    view = gaussian(family)
    loaded = taut.load_guide(view.save(tmp_path / "q"))
    assert loaded.family == view.family
    assert all(np.array_equal(loaded.params[n], v) for n, v in view.params.items())
    values = view.draws(7)
    np.testing.assert_array_equal(loaded.log_prob(values), view.log_prob(values))
    raw = (tmp_path / "q").read_bytes()
    assert loaded.save(tmp_path / "again").read_bytes() == raw


def test_a_guide_whose_map_needs_the_model_says_so(tmp_path: Path):
    problem = Problem(schools, SCHOOLS, precision="float64")
    family = guides.FullRank(0.0)
    view = view_of(problem, Solution(family, family.init(problem, 0), np.zeros(0), "converged"))
    loaded = taut.load_guide(view.save(tmp_path / "q"))
    assert loaded.marginal("tau").mean == view.marginal("tau").mean
    for ask in (lambda: loaded.draws(3), lambda: loaded.log_prob(view.sample())):
        with pytest.raises(taut.TautError) as caught:
            ask()
        assert caught.value.code == "no-model" and caught.value.site == "theta" and ".on(" in caught.value.remedy
    there = loaded.on(problem)
    np.testing.assert_array_equal(there.draws(3)["theta"], view.draws(3)["theta"])
    assert there.log_prob(view.sample()) == view.log_prob(view.sample())


def test_another_model_is_refused_with_every_difference(tmp_path: Path):
    def fewer(y: Any, s: Any) -> None:
        with taut.plate("schools", len(y)):
            theta = taut.sample("theta", dist.Normal(taut.sample("mu", dist.LogNormal(0.0, 1.0)), 1.0))
            taut.sample("extra", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(theta, s), obs=y)

    fit = taut.fit(schools, SCHOOLS, guide=guides.MeanField(), verify=False)
    loaded = taut.load_guide(fit.guide.save(tmp_path / "q"))
    ten = {name: np.concatenate([v, v[:2]]) for name, v in SCHOOLS.items()}
    with pytest.raises(taut.TautError) as caught:
        taut.fit(schools, ten, guide=loaded)
    assert caught.value.code == "bad-combination"
    assert "site 'theta'" in caught.value.found and "(10,)" in caught.value.found and "(8,)" in caught.value.found

    def other(y: Any, s: Any) -> None:
        mu = taut.sample("mu", dist.LogNormal(0.0, 1.0))
        taut.sample("extra", dist.Normal(0.0, 1.0))
        with taut.plate("schools", len(y)):
            theta = taut.sample("theta", dist.Normal(mu, 1.0))
            taut.sample("y", dist.Normal(theta, s), obs=y)

    with pytest.raises(taut.TautError) as caught:
        loaded.on(Problem(other, SCHOOLS))
    for part in ("'tau' of the guide is missing", "'extra' of the model is missing", "support positive", "real"):
        assert part in caught.value.found


@pytest.mark.parametrize("algorithm", [None, SVI(steps=400)], ids=["default", "svi"])
def test_a_fit_begins_from_a_loaded_guide(algorithm: Any, tmp_path: Path):
    def simple(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(mu, 0.5), obs=y)

    first = taut.fit(simple, dict(y=10.0), guide=guides.MeanField(), verify=False)
    loaded = taut.load_guide(first.guide.save(tmp_path / "q"))
    again = taut.fit(simple, dict(y=10.2), guide=loaded, algorithm=algorithm, verify=False)
    # mean 8.16, sd 1/sqrt(5); 400 steps of noise.
    assert again.guide == "MeanField" and float(again["mu"].mean) == pytest.approx(8.16, abs=0.03)
    assert again.gradients < first.gradients or algorithm is not None
    with pytest.raises(taut.TautError) as caught:
        taut.fit(simple, dict(y=10.0), guide=loaded, algorithm=MAP())
    assert caught.value.code == "bad-combination"


def test_a_guide_of_ones_own_needs_its_function_again(tmp_path: Path):
    def simple(y: Any) -> None:
        tau = taut.sample("tau", dist.HalfNormal(1.0))
        taut.sample("y", dist.Normal(0.0, tau), obs=y)

    def guide() -> None:
        taut.sample("tau", dist.LogNormal(taut.param("loc", 0.0), taut.param("scale", 0.5, constraint=POSITIVE)))

    fit = taut.fit(simple, dict(y=0.7), guide=guide, algorithm=SVI(steps=400), verify=False)
    m, s = float(fit.params["loc"]), float(fit.params["scale"].value)
    assert fit.guide == "Program"
    assert fit.guide.log_prob(dict(tau=0.8)) == pytest.approx(stats.lognorm(s, scale=np.exp(m)).logpdf(0.8), rel=1e-10)
    path = fit.guide.save(tmp_path / "q")
    with pytest.raises(taut.TautError) as caught:
        taut.load_guide(path).draws(3)
    assert caught.value.code == "no-model" and "guide=guide" in caught.value.remedy
    loaded = taut.load_guide(path, guide=guide).on(Problem(simple, dict(y=0.7)))
    np.testing.assert_array_equal(loaded.draws(3)["tau"], fit.guide.draws(3)["tau"])
    again = taut.fit(simple, dict(y=0.7), guide=loaded, algorithm=SVI(steps=400), verify=False)
    assert float(again.params["scale"].value) == pytest.approx(s, rel=0.1)


def test_the_guide_of_a_saved_fit(tmp_path: Path):
    fit = taut.fit(schools, SCHOOLS, guide=guides.MeanField(), verify=False)
    path = fit.save(tmp_path / "fit")
    loaded, alone = taut.load(path), taut.load_guide(path)
    assert str(loaded) == str(fit) and loaded.guide == "MeanField"
    for view in (loaded.guide, alone):
        np.testing.assert_array_equal(view.draws(4)["theta"], fit.guide.draws(4)["theta"])
    assert all(np.array_equal(loaded.params[n].value, p.value) for n, p in fit.params.items())


def test_parameters_come_with_both_values_and_their_map(tmp_path: Path):
    def learned(y: Any) -> None:
        scale = taut.param("scale", 2.0, constraint=POSITIVE)
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(mu, scale), obs=y)

    def guide() -> None:
        taut.sample("mu", dist.Normal(taut.param("m", 0.0), taut.param("s", 0.5, constraint=POSITIVE)))

    fit = taut.fit(learned, dict(y=3.0), guide=guide, algorithm=SVI(steps=400), verify=False)
    assert list(fit.params) == ["m", "s", "scale"]
    for params in (fit.params, taut.load(fit.save(tmp_path / "fit")).params):
        for name, transform in (("m", "identity"), ("s", "exp"), ("scale", "exp")):
            param = params[name]
            assert param.transform == transform
            expected = param.unconstrained if transform == "identity" else np.exp(param.unconstrained)
            np.testing.assert_allclose(param.value, expected, rtol=1e-12)
            np.testing.assert_array_equal(np.asarray(param), param.unconstrained)
        assert type(params["s"] + 1) is not type(params["s"])
    lines = str(fit.params).splitlines()
    assert lines[0].split() == ["name", "value", "unconstrained", "transform"] and lines[2].split()[-1] == "exp"
    np.testing.assert_allclose(fit["scale"].mean, fit.params["scale"].value)


def test_a_latent_more_moves_no_others_entry():
    def some(y: Any, more: bool) -> None:
        if more:
            taut.sample("first", dist.Gamma(2.0, 1.0).expand([3]).to_event(1))
        a = taut.sample("a", dist.LogNormal(0.0, 1.0))
        taut.sample("y", dist.Normal(a, 0.5), obs=y)

    small, large = (taut.fit(some, dict(y=2.0, more=more), guide=guides.MeanField()) for more in (False, True))
    for view in (small.guide, large.guide):
        # Both are fits on fixed draws of their own; the sd is 0.5.
        assert view.marginal("a").mean == pytest.approx(float(small.guide.marginal("a").mean), abs=0.02)
    assert small.guide.slices["a"] == slice(0, 1) and large.guide.slices["a"] == slice(3, 4)
    np.testing.assert_allclose(small.guide.cov("a"), large.guide.cov("a"), rtol=0.05)


def test_a_latent_more_moves_no_others_entry_by_name():
    x = np.random.default_rng(0).standard_normal((30, 2))
    y = x @ np.array([1.0, -2.0]) + 0.3

    def smaller(y: Any) -> None:
        w = taut.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Normal(jnp.asarray(x) @ w, 1.0), obs=y)

    def larger(y: Any) -> None:
        taut.sample("aside", dist.Normal(5.0, 2.0))
        w = taut.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Normal(jnp.asarray(x) @ w, 1.0), obs=y)

    few, more = (taut.fit(m, dict(y=y), guide=guides.FullRank()) for m in (smaller, larger))
    precision = np.eye(2) + x.T @ x  # closed form: conjugate regression
    for fit in (few, more):
        marginal = fit.guide.marginal("w")
        np.testing.assert_allclose(marginal.mean, np.linalg.solve(precision, x.T @ y), atol=1e-6)
        np.testing.assert_allclose(fit.guide.cov("w"), np.linalg.inv(precision), atol=1e-6)
    assert few.guide.slices["w"] == slice(0, 2) and more.guide.slices["w"] == slice(1, 3)
    with pytest.raises(taut.TautError) as caught:
        taut.fit(larger, dict(y=y), guide=few.guide)
    assert "aside" in str(caught.value)
