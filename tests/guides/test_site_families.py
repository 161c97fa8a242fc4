"""Families by support: conjugate posteriors are found exactly, and every kind of support is drawn in."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.special import betaln, gammaln, ive

import taut
from taut import dist
from taut._precision import scope
from taut.guides import SiteFamilies
from taut.guides._families import FAMILIES
from taut.guides._von_mises import von_mises_draw
from taut.problem import Problem

stats: Any = scipy.stats


def value(fit: Any, name: str) -> Any:
    """A parameter on the real line."""
    return fit.params[name].unconstrained


def test_a_beta_of_bernoulli_data():
    y = np.array([1, 1, 0, 1, 1, 0, 1])

    def model(y: Any) -> None:
        p = taut.sample("p", dist.Beta(2.0, 2.0))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Bernoulli(p), obs=y)

    fit = taut.fit(model, dict(y=y), guide=SiteFamilies(), verify=False)
    np.testing.assert_allclose(
        np.exp([value(fit, "p.concentration1"), value(fit, "p.concentration0")]), [7, 4], rtol=0.02
    )
    # Where q is the posterior every log weight is the log evidence.
    assert fit.elbo == pytest.approx(betaln(7, 4) - betaln(2, 2), abs=1e-3)


@pytest.mark.parametrize("family", ["gamma", dist.Gamma])
def test_a_gamma_of_poisson_data(family: Any):
    y = np.array([[3, 5], [4, 0], [2, 1]])

    def model(y: Any) -> None:
        with taut.plate("columns", 2):
            rate = taut.sample("rate", dist.Gamma(2.0, 1.0))
            with taut.plate("rows", 3):
                taut.sample("y", dist.Poisson(rate), obs=y)

    fit = taut.fit(model, dict(y=y), guide=SiteFamilies({"rate": family}), verify=False)
    np.testing.assert_allclose(np.exp(value(fit, "rate.concentration")), [11, 8], rtol=0.03)
    np.testing.assert_allclose(np.exp(value(fit, "rate.rate")), [4, 4], rtol=0.03)
    exact = sum(gammaln(2 + s) - gammaln(2) - (2 + s) * np.log(4) for s in y.sum(axis=0)) - gammaln(y + 1).sum()
    assert fit.elbo == pytest.approx(exact, abs=2e-3)


def test_a_dirichlet_of_counts():
    counts = np.array([5, 0, 9, 3])

    def model(counts: Any) -> None:
        p = taut.sample("p", dist.Dirichlet(jnp.array([1.0, 2.0, 1.0, 0.5])))
        taut.sample("counts", dist.Multinomial(17, p), obs=counts)

    fit = taut.fit(model, dict(counts=counts), guide=SiteFamilies(), verify=False)
    alpha = np.array([1.0, 2.0, 1.0, 0.5])
    np.testing.assert_allclose(np.exp(value(fit, "p.concentration")), alpha + counts, rtol=0.05)
    np.testing.assert_allclose(fit["p"].mean, (alpha + counts) / (alpha + counts).sum(), atol=0.005)
    exact = gammaln(18) - gammaln(counts + 1).sum() + gammaln(4.5) - gammaln(21.5)
    exact += (gammaln(alpha + counts) - gammaln(alpha)).sum()
    assert fit.elbo == pytest.approx(exact, abs=5e-3)


def test_a_von_mises_of_angles():
    y = np.array([2.9, -3.0, 2.5])  # around the seam

    def model(y: Any) -> None:
        mean = taut.sample("mean", dist.VonMises(1.0, 0.7))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.VonMises(mean, 2.0), obs=y)

    fit = taut.fit(model, dict(y=y), guide=SiteFamilies(), verify=False)
    along = 0.7 * np.exp(1j) + (2.0 * np.exp(1j * y)).sum()

    def log_i0(k: float) -> float:
        return float(np.log(ive(0, k)) + k)

    exact = log_i0(abs(along)) - log_i0(0.7) - 3 * log_i0(2.0) - 3 * np.log(2 * np.pi)
    np.testing.assert_allclose(value(fit, "mean.vector"), [along.real, along.imag], atol=0.03 * abs(along))
    assert fit.elbo == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize("kappa", [0.1, 2.0, 50.0, 5000.0])
def test_the_gradient_of_a_von_mises_draw_is_that_of_its_quantile(kappa: float):
    with scope("float64"):
        keys = jax.random.split(jax.random.key(0), 20)

        def at(k: Any, key: Any) -> Any:
            return von_mises_draw(key, jnp.zeros(()), k)

        x, slope = jax.vmap(lambda key: jax.value_and_grad(at)(jnp.asarray(kappa), key))(keys)
    # F(x(k); k) stays: dx/dk by central differences of the inverse distribution function.
    step = 1e-3 * kappa
    place = stats.vonmises(kappa).cdf(np.asarray(x))
    expected = (stats.vonmises(kappa + step).ppf(place) - stats.vonmises(kappa - step).ppf(place)) / (2 * step)
    # SciPy's distribution function is an approximation at large concentrations.
    np.testing.assert_allclose(slope, expected, rtol=0.02, atol=2e-3 / kappa**1.5)


def everything(y: Any) -> None:
    a = taut.sample("a", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    taut.sample("b", dist.HalfNormal(1.0))
    taut.sample("above", dist.Pareto(2.0, 3.0))
    taut.sample("below", dist.TruncatedNormal(0.0, 1.0, low=None, high=1.5))
    taut.sample("between", dist.Uniform(-1.0, 4.0))
    with taut.plate("rows", 2):
        taut.sample("share", dist.Dirichlet(jnp.ones(3)))
    taut.sample("angle", dist.VonMises(0.0, 1.0))
    taut.sample("corr", dist.LKJCholesky(3, 1.0))
    taut.sample("whole", dist.LKJ(2, 2.0))
    taut.sample("y", dist.Normal(a.sum(), 1.0), obs=y)


def test_every_support_is_drawn_in_and_densities_are_those_of_scipy():
    problem = Problem(everything, dict(y=0.5), precision="float64")
    guide = SiteFamilies({"b": "gamma"}).bind(problem)
    rng = np.random.default_rng(0)
    params = {n: v + 0.2 * rng.standard_normal(np.shape(v)) for n, v in guide.init(problem, 0).items()}
    point, log_q = guide.draws(problem, params, 500, np.random.default_rng(1))
    for name, support in problem.program.supports.items():
        with scope("float64"):
            assert np.all(dist.contains(support, jnp.asarray(point[name]))), name
    with scope("float64"):
        one = {n: jnp.asarray(v[3]) for n, v in point.items()}
        terms = guide.log_prob_by_site(problem.program, params, one, problem.inputs)
        by_site, log_joint = {n: np.asarray(v) for n, v in terms.items()}, float(problem.log_joint(one))
    one = {n: v[3] for n, v in point.items()}
    assert np.isfinite(log_joint) and sum(np.sum(v) for v in by_site.values()) == pytest.approx(log_q[3], rel=1e-12)
    raw = {n: np.asarray(v) for n, v in params.items()}
    e = {n: np.exp(v) for n, v in raw.items()}
    vector = raw["angle.vector"]
    exact = {
        "a": stats.norm(raw["a.loc"], e["a.scale"]).logpdf(one["a"]).sum(),
        "b": stats.gamma(e["b.concentration"], scale=1 / e["b.rate"]).logpdf(one["b"]),
        "above": stats.lognorm(e["above.scale"], loc=2.0, scale=np.exp(raw["above.loc"])).logpdf(one["above"]),
        "below": stats.lognorm(e["below.scale"], scale=np.exp(raw["below.loc"])).logpdf(1.5 - one["below"]),
        "between": stats.beta(e["between.concentration1"], e["between.concentration0"], loc=-1.0, scale=5.0).logpdf(
            one["between"]
        ),
        "angle": stats.vonmises(np.hypot(*vector), loc=np.arctan2(vector[1], vector[0])).logpdf(one["angle"]),
    }
    for name, expected in exact.items():
        np.testing.assert_allclose(by_site[name], expected, rtol=1e-9)
    assert by_site["share"].shape == (2,) and by_site["a"].shape == ()


@pytest.mark.parametrize("family", [n for n, f in FAMILIES.items() if f.kind == "positive"])
def test_positive_families_have_the_density_of_their_draws(family: str):
    def model(y: Any) -> None:
        taut.sample("x", dist.HalfNormal(1.0))
        taut.sample("y", dist.Normal(0.0, 1.0), obs=y)

    problem = Problem(model, dict(y=0.5), precision="float64")
    guide = SiteFamilies({"x": family}).bind(problem)
    params = guide.init(problem, 0)
    point, _ = guide.draws(problem, params, 20_000, np.random.default_rng(0))
    edges = np.quantile(point["x"], np.linspace(0, 1, 11)[1:-1])
    grid = np.linspace(1e-6, float(edges[-1]) * 1.0, 4001)
    with scope("float64"):
        log_q = jax.vmap(lambda x: guide.log_prob(problem.program, params, {"x": x}))(jnp.asarray(grid))
    steps = np.exp(np.asarray(log_q))
    below = np.concatenate([[0.0], np.cumsum(0.5 * (steps[1:] + steps[:-1]) * np.diff(grid))])
    # Shares of 20,000 draws: five standard errors are 0.018.
    np.testing.assert_allclose(np.interp(edges, grid, below), np.linspace(0.1, 0.9, 9), atol=0.02)


def test_what_does_not_fit_is_refused_before_the_first_step():
    def moving(y: Any) -> None:
        top = taut.sample("top", dist.LogNormal(0.0, 1.0))
        taut.sample("x", dist.Uniform(0.0, top))
        taut.sample("y", dist.Normal(0.0, 1.0), obs=y)

    for guide, model, code, site in (
        (SiteFamilies({"a": "gamma"}), everything, "guide-support", "a"),
        (SiteFamilies({"corr": "beta"}), everything, "guide-support", "corr"),
        (SiteFamilies({"z": "gamma"}), everything, "site-missing", "z"),
        (SiteFamilies(), moving, "guide-support", "x"),
    ):
        with pytest.raises(taut.TautError) as caught:
            taut.fit(model, dict(y=0.5), guide=guide)
        assert (caught.value.code, caught.value.site) == (code, site)
    with pytest.raises(taut.TautError) as caught:
        SiteFamilies({"a": "cauchy"})
    assert caught.value.code == "bad-argument"
