"""NumPyro's statements as taut's: names, handlers, modules, guides, loops, predictions, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro as numpyro_typed
import numpyro.distributions as dist
import pytest
import scipy.stats
from jax.example_libraries import stax
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.contrib.module import eqx_module, random_eqx_module
from numpyro.infer import autoguide
from numpyro.infer.reparam import CircularReparam, ExplicitReparam, LocScaleReparam, ProjectedNormalReparam
from numpyro.primitives import _PYRO_STACK, mutable

import taut
from taut import TautError

stats: Any = scipy.stats
numpyro: Any = numpyro_typed  # which calls whatever is sampled a number

SIGMA = np.array([15.0, 10.0, 16.0, 11.0])
Y = np.array([2.8, 0.8, -0.3, 0.7])


def schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def conjugate(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def kalman(y):
    def step(last, now):
        x = numpyro.sample("x", dist.Normal(0.9 * last, 0.5))
        return x, numpyro.sample("y", dist.Normal(x, 0.5), obs=now)

    _, values = scan(step, 0.0, y)
    numpyro.deterministic("sum", values.sum())


@pytest.mark.parametrize(
    ("wrapped", "names"),
    [
        (schools, ["mu", "tau", "theta"]),
        (handlers.seed(schools, rng_seed=0), ["mu", "tau", "theta"]),
        (handlers.reparam(schools, config={"theta": LocScaleReparam(0)}), ["mu", "tau", "theta_decentered"]),
        (
            handlers.reparam(schools, config={"theta": LocScaleReparam()}),
            ["mu", "tau", "theta_decentered", "theta_centered"],
        ),
        (handlers.scope(schools, prefix="a"), ["a/mu", "a/tau", "a/theta"]),
        (handlers.substitute(schools, data={"tau": jnp.asarray(1.5)}), ["mu", "theta"]),
        (handlers.condition(schools, data={"mu": jnp.asarray(1.0)}), ["tau", "theta"]),
    ],
)
def test_names_are_numpyros(wrapped: Callable[..., Any], names: list[str]):
    assert list(taut.Problem(wrapped, dict(sigma=SIGMA, y=Y)).layout) == names


def test_bases_of_numpyros_reparametrisation_are_no_results():
    def model(y):
        tau = numpyro.sample("tau", dist.HalfNormal(1.0))

        def step(last, now):
            with handlers.reparam(config={"x": LocScaleReparam(0)}):
                x = numpyro.sample("x", dist.Normal(last, tau))
            numpyro.sample("y", dist.Normal(x, 1.0), obs=now)
            return x, None

        with handlers.reparam(config={"mu": LocScaleReparam(0)}):
            mu = numpyro.sample("mu", dist.Normal(0.0, 2.0 * tau))
        scan(step, mu, y)

    fit = taut.fit(model, dict(y=Y), guide=taut.guides.MeanField(), verify=False)
    assert fit.sites == ("tau", "mu", "x")
    # They are there for those who ask: mu is 2 tau times its base.
    base = fit["mu_decentered"].values
    np.testing.assert_allclose(fit["mu"].values, 2 * fit["tau"].values * base, rtol=1e-12)
    assert fit["x_decentered"].kind == "base" and set(fit.content().sites) == {"tau", "mu", "x"}


def test_a_loop_may_start_in_another_width():
    """As NumPyro's examples do: what is drawn inside is of 64 bits."""

    def model(y):
        def step(carry, now):
            key, state, level = carry
            state = numpyro.sample("state", dist.Bernoulli(jnp.where(state == 1, 0.7, 0.2)))
            level = numpyro.sample("level", dist.Normal(level, 1.0))
            numpyro.sample("y", dist.Normal(level + state, 1.0), obs=now)
            return (key, state, level), None

        start = jnp.ones((), jnp.int32), jnp.zeros((), jnp.float32)
        scan(step, ((jax.random.key(0), jax.random.PRNGKey(0)), *start), y)

    level = np.array([0.3, -0.2])
    found = taut.Problem(model, dict(y=Y[:2])).log_joint({"level": level})
    states = [(0, 0, 0.3 * 0.8), (0, 1, 0.3 * 0.2), (1, 0, 0.7 * 0.3), (1, 1, 0.7 * 0.7)]
    seen = [p * stats.norm(level + [a, b]).pdf(Y[:2]).prod() for a, b, p in states]
    prior = stats.norm([0.0, 0.3]).logpdf(level).sum()
    assert float(found) == pytest.approx(prior + np.log(sum(seen)), abs=1e-9)


def test_reparametrised_latents_keep_their_own_names_in_the_results():
    config = {
        "t": CircularReparam(),
        "p": ProjectedNormalReparam(),
        "g": ExplicitReparam(dist.transforms.SoftplusTransform().inv),
    }

    @handlers.reparam(config=config)
    def model(y):
        t = numpyro.sample("t", dist.VonMises(0.0, 2.0))
        p = numpyro.sample("p", dist.ProjectedNormal(jnp.array([1.0, 2.0])))
        g = numpyro.sample("g", dist.Gamma(4.0, 4.0))
        numpyro.sample("y", dist.Normal(t + p[0] + g, 1.0), obs=y)

    problem = taut.Problem(model, dict(y=Y))
    assert list(problem.layout) == ["t_unwrapped", "p_normal", "g_base"]
    point = {"t_unwrapped": 0.3 + 2 * np.pi, "p_normal": np.array([0.5, -1.0]), "g_base": np.log(np.expm1(1.2))}
    found = problem.log_joint_by_site(point)
    direction = np.array([1.5, 1.0]) / np.hypot(1.5, 1.0)
    assert float(found["y"]) == pytest.approx(stats.norm(0.3 + direction[0] + 1.2).logpdf(Y).sum())
    assert float(found["t_factor"]) == pytest.approx(stats.vonmises(2.0).logpdf(0.3))
    # The density of log(exp(g) - 1): the gamma's, times the slope of the softplus.
    slope = np.log(-np.expm1(-1.2))
    assert float(found["g_base"]) == pytest.approx(stats.gamma(4, scale=0.25).logpdf(1.2) + slope)


def test_learned_parameters_are_taut_parameters():
    def model(y):
        scale = numpyro.param("scale", 1.5, constraint=dist.constraints.positive)
        shift = numpyro.param("shift", lambda key: 1.0 + 0.1 * jax.random.normal(key, (2,)))
        assert numpyro.param("scale") is scale
        mu = numpyro.sample("mu", dist.Normal(0.0, scale))
        numpyro.sample("y", dist.Normal(mu + shift.sum(), 1.0), obs=y)

    problem = taut.Problem(model, dict(y=Y))
    assert {n: (p.shape, p.support) for n, p in problem.params.items()} == {
        "scale": ((), "positive"),
        "shift": ((2,), "real"),
    }
    found = problem.log_joint({"mu": 0.5, "scale": 2.0, "shift": np.array([0.1, 0.2])})
    assert float(found) == pytest.approx(stats.norm(0, 2).logpdf(0.5) + stats.norm(0.8).logpdf(Y).sum())


def test_an_equinox_module_is_learned_leaf_by_leaf():
    net = eqx.nn.MLP(2, "scalar", 3, 1, key=jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(4, 2))

    def model(x, y):
        apply: Any = eqx_module("net", net)
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        numpyro.sample("y", dist.Normal(jax.vmap(apply)(x), scale), obs=y)

    problem = taut.Problem(model, dict(x=x, y=Y))
    parts = [(i, part) for i in (0, 1) for part in ("weight", "bias")]
    leaves = {f"net$params.layers[{i}].{part}": getattr(net.layers[i], part) for i, part in parts}
    assert set(problem.params) == set(leaves)
    mean = [float(net(row)) for row in x.astype(np.float32)]
    expected = stats.halfnorm.logpdf(0.8) + stats.norm(mean, 0.8).logpdf(Y).sum()
    assert float(problem.log_joint({"scale": 0.8, **leaves})) == pytest.approx(expected, rel=1e-5)


def test_weights_with_priors_are_latents_and_no_parameters():
    net = eqx.nn.Linear(2, "scalar", key=jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(4, 2))

    def model(x, y):
        apply = random_eqx_module("net", net, prior={"weight": dist.Normal(0.0, 2.0)})
        numpyro.sample("y", dist.Normal(jax.vmap(apply)(x), 1.0), obs=y)

    problem = taut.Problem(model, dict(x=x, y=Y))
    assert list(problem.latents) == ["net/weight"]
    assert list(problem.params) == ["net$params.bias"]
    weight, bias = np.array([[0.3, -0.2]]), np.array([0.1])
    expected = stats.norm(0, 2).logpdf(weight).sum() + stats.norm(x @ weight[0] + bias).logpdf(Y).sum()
    assert float(problem.log_joint({"net/weight": weight, "net$params.bias": bias})) == pytest.approx(expected)


def test_a_stax_module_is_learned():
    """`numpyro.module` asks for its weights before it says what they start at."""
    init, apply = stax.serial(stax.Dense(3), stax.Tanh, stax.Dense(1))
    x = np.random.default_rng(0).normal(size=(4, 2))

    def model(x, y):
        net = numpyro.module("net", (init, apply), (4, 2))
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        numpyro.sample("y", dist.Normal(net(x)[:, 0], scale), obs=y)

    problem = taut.Problem(model, dict(x=x, y=Y))
    shapes = {name: param.shape for name, param in problem.params.items()}
    names = [f"net$params[{layer}][{part}]" for layer in (0, 2) for part in (0, 1)]
    assert shapes == dict(zip(names, [(2, 3), (3,), (3, 1), (1,)], strict=True))
    weights = {name: np.random.default_rng(1).normal(size=shape) for name, shape in shapes.items()}
    a, b, c, d = weights.values()
    mean = (np.tanh(x @ a + b) @ c + d)[:, 0]
    expected = stats.halfnorm.logpdf(0.8) + stats.norm(mean, 0.8).logpdf(Y).sum()
    assert float(problem.log_joint({"scale": 0.8, **weights})) == pytest.approx(expected)


def test_a_latent_masked_from_its_own_density_is_imputed():
    """NumPyro's idiom for missing values: the density of the latent is that of the data that it completes."""

    def model(age, y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        missing = np.nonzero(np.isnan(age))[0]  # NumPy on data
        imputed = numpyro.sample("imputed", dist.Normal(mu, 1.0).expand([len(missing)]).mask(False))
        full = jnp.asarray(age).at[missing].set(imputed)
        numpyro.sample("age", dist.Normal(mu, 1.0), obs=full)
        numpyro.sample("y", dist.Normal(full, 0.5), obs=y)

    age, y = np.array([1.0, np.nan, 2.0, np.nan, 1.0]), np.array([1.0, 1.5, 2.0, 2.5, 1.0])
    problem = taut.Problem(model, dict(age=age, y=y))
    point = np.array([0.1, 0.3, 0.4])
    full = np.array([1.0, 0.3, 2.0, 0.4, 1.0])
    expected = stats.norm.logpdf(0.1) + stats.norm(0.1).logpdf(full).sum() + stats.norm(full, 0.5).logpdf(y).sum()
    assert float(problem.log_joint(point)) == pytest.approx(expected)
    # The posterior is Gaussian: precision of (mu, two missing values).
    precision = np.array([[6.0, -1.0, -1.0], [-1.0, 5.0, 0.0], [-1.0, 0.0, 5.0]])
    mean = np.linalg.solve(precision, [4.0, 6.0, 10.0])
    fit = taut.fit(model, dict(age=age, y=y))
    np.testing.assert_allclose([fit["mu"].mean, *fit["imputed"].mean], mean, atol=1e-6)
    new = fit.predict(dict(age=np.array([np.nan, np.nan]), y=np.zeros(2)))
    assert not new, "data that are given are not drawn"


def test_programs_may_use_numpy_on_their_data():
    def model(group, y=None):
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        with numpyro.plate("groups", len(np.unique(group))):
            level = numpyro.sample("level", dist.Normal(0.0, scale))
        numpyro.sample("y", dist.Normal(level[group], 0.5), obs=y)

    group = np.array([0, 0, 2, 1])
    problem = taut.Problem(model, dict(group=group, y=Y))
    level = np.array([0.3, -0.1, 0.2])
    prior = stats.halfnorm.logpdf(0.7) + stats.norm(0, 0.7).logpdf(level).sum()
    found = problem.log_joint({"scale": 0.7, "level": level})
    assert float(found) == pytest.approx(prior + stats.norm(level[group], 0.5).logpdf(Y).sum())
    draws = {"scale": np.full(2000, 0.7), "level": np.tile(level, (2000, 1))}
    new = problem.predict(draws, dict(group=np.array([2, 2, 1, 0, 0])))["y"]
    np.testing.assert_allclose(new.mean(0), level[[2, 2, 1, 0, 0]], atol=4.5 * 0.5 / np.sqrt(2000))


def test_observed_values_are_read_out_of_a_loop():
    def model(y):
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))

        def step(last, t):
            return numpyro.sample("y", dist.Gamma(2.0, jnp.exp(slope * last)), obs=2.0 * y[t]), None

        scan(step, 0.0, jnp.arange(4))

    y = np.abs(Y)
    problem = taut.Problem(model, dict(y=y))
    np.testing.assert_allclose(problem.observed()["y"], 2 * y)
    with pytest.raises(TautError) as error:
        taut.Problem(model, dict(y=-y))
    assert (error.value.code, error.value.site) == ("data-support", "y")


def test_a_subsampled_plate_counts_for_all_of_its_rows():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(y), subsample_size=2) as rows:
            numpyro.sample("y", dist.Normal(mu, 0.5), obs=y[rows])

    same = np.full(10, 0.3)
    expected = stats.norm.logpdf(0.1) + 10 * stats.norm(0.1, 0.5).logpdf(0.3)
    for subsample in (False, True):
        problem = taut.Problem(model, dict(y=same), subsample=subsample)
        assert bool(problem.program.outputs["rows"]) == subsample
        assert float(problem.log_joint({"mu": 0.1})) == pytest.approx(expected)


def test_both_languages_mix():
    def model(y):
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.plate("columns", 4), handlers.scale(scale=2.0):
            z = taut.sample("z", dist.Normal(mu, 1.0))
            with taut.plate("rows", 3), taut.handlers.mask(mask=np.array([[True], [True], [False]])):
                numpyro.sample("y", dist.Normal(z, 1.0), obs=y)
        with taut.plate("a", 2), numpyro.plate("b", 3), taut.plate("c", 5):
            numpyro.sample("q", dist.Normal(0.0, 1.0))
            taut.sample("r", dist.Normal(0.0, 1.0))

    y = np.random.default_rng(0).normal(size=(3, 4))
    problem = taut.Problem(model, dict(y=y))
    shapes = {name: (latent.shape, set(latent.plates)) for name, latent in problem.latents.items()}
    assert shapes["z"] == ((4,), {"columns"})
    assert shapes["q"] == shapes["r"] == ((5, 3, 2), {"a", "b", "c"})
    z = np.array([0.1, 0.2, 0.3, 0.4])
    zeros = np.zeros((5, 3, 2))
    found = problem.log_joint_by_site({"mu": 0.5, "z": z, "q": zeros, "r": zeros})
    assert float(found["z"]) == pytest.approx(2 * stats.norm(0.5).logpdf(z).sum())
    assert float(found["y"]) == pytest.approx(2 * stats.norm(z).logpdf(y[:2]).sum())


def test_a_guide_of_numpyros_finds_the_posterior():
    def guide(y):
        loc = numpyro.param("loc", 0.0)
        scale = numpyro.param("scale", 1.0, constraint=dist.constraints.positive)
        numpyro.sample("mu", dist.Normal(loc, scale))

    fit = taut.fit(conjugate, dict(y=Y), guide=guide, verify=False)
    precision = 1 + 4 / 0.25
    # The ELBO of a Gaussian posterior is exact at its maximum; SVI stops within its own tolerance of it.
    assert fit.params["loc"] == pytest.approx(Y.sum() / 0.25 / precision, abs=0.02)
    assert np.exp(fit.params["scale"]) == pytest.approx(precision**-0.5, rel=0.05)


def test_a_guide_may_hold_a_loop():
    def guide(y):
        loc = numpyro.param("loc", jnp.zeros(4))
        scale = numpyro.param("scale", jnp.ones(4), constraint=dist.constraints.positive)
        slope = numpyro.param("slope", 0.1)

        def step(last, now):
            x = numpyro.sample("x", dist.Normal(now[0] + slope * last, now[1]))
            return x, None

        scan(step, 0.0, (loc, scale))

    problem = taut.Problem(kalman, dict(y=Y))
    params = {"loc": np.array([0.5, 0.1, -0.2, 0.3]), "scale": np.log([0.3, 0.4, 0.5, 0.6]), "slope": 0.4}
    point, log_q = taut.guides.Program(guide).draws(problem, params, 5, np.random.default_rng(0))
    x = np.asarray(point["x"])
    means = params["loc"] + 0.4 * np.concatenate([np.zeros((5, 1)), x[:, :-1]], axis=1)
    np.testing.assert_allclose(log_q, stats.norm(means, [0.3, 0.4, 0.5, 0.6]).logpdf(x).sum(1), rtol=1e-9)


def test_a_loop_is_predicted_as_a_whole():
    """Prior draws have the chain's covariance; posterior ones condition data on the states that were learned."""
    problem = taut.Problem(kalman, dict(y=Y))
    prior = problem.predict(size=4000)
    chain = np.linalg.inv(np.eye(4) - 0.9 * np.eye(4, k=-1))
    covariance = 0.25 * chain @ chain.T
    # 4.5 standard errors of a covariance of 4,000 draws with variances of at most 0.9 and 1.1.
    np.testing.assert_allclose(np.cov(prior["x"].T), covariance, atol=0.1)
    np.testing.assert_allclose(np.cov(prior["y"].T), covariance + 0.25 * np.eye(4), atol=0.12)
    np.testing.assert_allclose(prior["sum"], prior["y"].sum(1))
    states = np.tile([5.0, -5.0, 5.0, -5.0], (4000, 1))
    posterior = problem.predict({"x": states})
    np.testing.assert_allclose(posterior["y"].mean(0), states[0], atol=4.5 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose(np.cov(posterior["y"].T), 0.25 * np.eye(4), atol=0.03)


def test_a_loop_runs_on_beyond_the_data():
    def model(y, future=0):
        rate = numpyro.sample("rate", dist.Normal(0.0, 1.0))

        def step(last, _):
            value = numpyro.sample("y", dist.Normal(rate * last, 0.1))
            return value, value

        with handlers.condition(data={"y": y}):
            _, values = scan(step, 1.0, None, length=len(y) + future)
        if future:
            numpyro.deterministic("forecast", values[-future:])

    problem = taut.Problem(model, dict(y=Y))
    found = problem.predict({"rate": np.full(4000, 0.5)}, dict(y=Y, future=2))["forecast"]
    np.testing.assert_allclose(found.mean(0), [Y[-1] / 2, Y[-1] / 4], atol=4.5 * 0.12 / np.sqrt(4000))
    np.testing.assert_allclose(found.std(0), [0.1, 0.1 * np.sqrt(1.25)], rtol=4.5 / np.sqrt(8000))


def test_latents_of_a_loop_with_supports_of_their_own():
    def model(y):
        def step(last, now):
            with numpyro.plate("pairs", 2):
                rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0 + last**2))
                share = numpyro.sample("share", dist.Uniform(0.0, 1.0))
                numpyro.sample("y", dist.Normal(rate * share, 0.5), obs=now)
            return rate, None

        scan(step, jnp.zeros(2), y)

    y = np.random.default_rng(0).normal(size=(3, 2))
    problem = taut.Problem(model, dict(y=y))
    described = {n: (v.family, v.shape, v.support, v.plates) for n, v in problem.latents.items()}
    assert described == {
        "rate": ("Gamma", (3, 2), "positive", ("pairs",)),
        "share": ("Uniform", (3, 2), "interval(0, 1)", ("pairs",)),
    }
    u = np.random.default_rng(1).normal(size=12)
    rate, share = np.exp(u[:6]).reshape(3, 2), (1 / (1 + np.exp(-u[6:]))).reshape(3, 2)
    last = np.concatenate([np.zeros((1, 2)), rate[:-1]])
    prior = stats.gamma(2, scale=1 / (1 + last**2)).logpdf(rate).sum()
    expected = prior + stats.norm(rate * share, 0.5).logpdf(y).sum()
    jacobian = u[:6].sum() + np.log(share * (1 - share)).sum()
    assert float(problem.log_joint(u)) == pytest.approx(expected + jacobian)


def test_a_loop_may_run_backwards():
    """NumPyro's latents stand in the order of the rounds, and so do taut's; data stand at their places."""

    def model(y):
        def step(last, now):
            x = numpyro.sample("x", dist.Normal(0.9 * last, 0.5))
            return x, numpyro.sample("y", dist.Normal(x, 0.1), obs=now)

        numpyro.deterministic("seen", scan(step, 2.0, y, reverse=True)[1])

    problem = taut.Problem(model, dict(y=Y))
    x = np.array([0.4, 0.1, -0.3, 0.2])
    prior = stats.norm(0.9 * np.array([2.0, 0.4, 0.1, -0.3]), 0.5).logpdf(x).sum()
    expected = prior + stats.norm(x[::-1], 0.1).logpdf(Y).sum()
    assert float(problem.log_joint({"x": x})) == pytest.approx(expected)
    drawn = problem.predict(size=500)
    np.testing.assert_allclose(drawn["seen"], drawn["y"])
    # y follows its x within four and a half standard deviations, and starts from 2 at the end.
    assert np.abs(drawn["y"] - drawn["x"][:, ::-1]).max() < 0.5
    assert drawn["y"][:, -1].mean() == pytest.approx(1.8, abs=4.5 * 0.51 / np.sqrt(500))


def vague(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", 4):
        numpyro.sample("y", dist.Normal(z * jnp.ones((4, 1)), 1.0), obs=y)


def square(y):
    with numpyro.plate("rows", 4):
        z = numpyro.sample("z", dist.Normal(jnp.zeros((4, 1)), 1.0))
        numpyro.sample("y", dist.Normal(z[0], 1.0), obs=y)


def discrete(y):
    z = numpyro.sample("z", dist.Poisson(0.5))
    numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def drawn(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0)) + jax.random.normal(numpyro.prng_key())
    numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def branching(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    if z > 0:
        z = 0.0
    numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def twice(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0)) + numpyro.sample("z", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def mapped(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    jax.vmap(lambda one: numpyro.sample("y", dist.Normal(z, 1.0), obs=one))(y)


def stateful(y):
    mutable("count", jnp.zeros(()))
    numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=y)


def hidden(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    with handlers.block():
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(z, scale), obs=y)


def negative(y):
    scale = numpyro.param("scale", -1.0, constraint=dist.constraints.positive)
    numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0.0, 1.0)), scale), obs=y)


def learned_inside(y):
    def step(last, now):
        scale = numpyro.param("scale", 1.0)
        return numpyro.sample("x", dist.Normal(last, scale)), None

    scan(step, 0.0, y)


def bounded_inside(y):
    def step(last, now):
        x = numpyro.sample("x", dist.Uniform(last, last + 1.0))
        return x, numpyro.sample("y", dist.Normal(x, 1.0), obs=now)

    scan(step, 0.0, y)


@pytest.mark.parametrize(
    ("model", "code", "site"),
    [
        (vague, "data-shape", "y"),
        (square, "unowned-dimension", "z"),
        (discrete, "discrete-latent", "z"),
        (drawn, "side-effect", None),
        (branching, "control-flow", None),
        (twice, "duplicate-site", "z"),
        (mapped, "site-inside", "y"),
        (stateful, "side-effect", "count"),
        (hidden, "side-effect", None),
        (negative, "param-init", "scale"),
        (learned_inside, "site-inside", "scale"),
        (bounded_inside, "no-transform", "x"),
    ],
)
def test_mistakes_are_sentences_at_the_users_own_line(model: Callable[..., Any], code: str, site: str | None):
    with pytest.raises(TautError) as error:
        taut.Problem(model, dict(y=Y))
    assert (error.value.code, error.value.site) == (code, site)
    assert str(error.value.source).startswith("test_numpyro.py:")
    assert not _PYRO_STACK


def test_mistakes_in_a_guide_are_sentences_too():
    def guide(sigma, y=None):
        numpyro.sample("mu", dist.Normal(numpyro.param("loc", 0.0), 1.0))
        numpyro.sample("tua", dist.LogNormal(numpyro.param("size", 0.0), 1.0))

    with pytest.raises(TautError) as error:
        taut.fit(schools, dict(sigma=SIGMA, y=Y), guide=guide)
    assert (error.value.code, error.value.site) == ("guide-unknown", "tua")
    assert "tau" in error.value.remedy


@pytest.mark.parametrize(
    ("automatic", "remedy"),
    [
        (autoguide.AutoNormal, "guide=taut.guides.MeanField()"),
        (autoguide.AutoIAFNormal, "guide=taut.guides.Flow()"),
    ],
)
def test_an_automatic_guide_is_answered_with_tauts(automatic: Any, remedy: str):
    with pytest.raises(TautError) as error:
        taut.fit(conjugate, dict(y=Y), guide=automatic(conjugate))
    assert (error.value.code, error.value.remedy) == ("bad-argument", remedy)


def test_the_callers_own_handlers_are_left_alone():
    with handlers.trace() as outside, handlers.seed(rng_seed=0):
        height = len(_PYRO_STACK)
        problem = taut.Problem(conjugate, dict(y=Y))
        assert len(_PYRO_STACK) == height
    assert not outside
    expected = stats.norm.logpdf(0.2) + stats.norm(0.2, 0.5).logpdf(Y).sum()
    assert float(problem.log_joint({"mu": 0.2})) == pytest.approx(expected)


def test_threads_do_not_see_each_others_plates():
    barrier = threading.Barrier(4)

    def model(y, name):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.plate(name, len(y)):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    def plates(number: int) -> tuple[str, ...]:
        barrier.wait()
        problem = taut.Problem(model, dict(y=Y, name=f"rows_{number}"))
        return tuple(p.name for p in problem.program.sites["y"].plates)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(plates, range(4))) == [(f"rows_{n}",) for n in range(4)]


def test_tauts_handlers_act_on_numpyros_programs():
    program = taut.handlers.seed(taut.handlers.condition(taut.interop.from_numpyro(schools), {"mu": 1.0}), key=0)
    sites = taut.handlers.trace(program).get_trace(SIGMA)
    assert list(sites) == ["mu", "tau", "school", "theta", "y"]
    assert sites["mu"].observed
    assert not sites["y"].observed
    assert sites["theta"].plates == (taut.core.PlateFrame("school", 4, 4, -1),)
