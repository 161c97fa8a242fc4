"""Layout, densities, maps and predictions, against scipy and numbers done by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.special import expit

import taut
from taut import TautError, dist
from taut.problem import Problem

stats: Any = scipy.stats  # its stubs take frozen continuous distributions for discrete ones

Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(sigma, y=None):
    mu = taut.sample("mu", dist.Normal(0, 5))
    tau = taut.sample("tau", dist.HalfCauchy(5))
    with taut.plate("school", len(sigma)):
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta, sigma), obs=y)
    taut.deterministic("ratio", mu / tau)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(schools, dict(sigma=SIGMA, y=Y))


VALUES: dict[str, Any] = dict(mu=4.0, tau=3.0, theta=np.linspace(-2.0, 9.0, 8))
BY_SITE = dict(
    mu=stats.norm(0, 5).logpdf(4.0),
    tau=stats.halfcauchy(scale=5).logpdf(3.0),
    theta=stats.norm(4.0, 3.0).logpdf(VALUES["theta"]).sum(),
    y=stats.norm(VALUES["theta"], SIGMA).logpdf(Y).sum(),
)


def test_layout_names_every_coordinate(problem: Problem):
    assert problem.layout == {"mu": slice(0, 1), "tau": slice(1, 2), "theta": slice(2, 10)}
    assert (problem.dim, problem.num_params) == (10, 0)
    latents = problem.latents
    assert [(x.shape, x.support, x.transform, x.plates) for x in latents.values()] == [
        ((), "real", "identity", ()),
        ((), "positive", "exp", ()),
        ((8,), "real", "identity", ("school",)),
    ]
    assert [x.family for x in latents.values()] == ["Normal", "HalfCauchy", "Normal"]
    assert [x.hierarchical for x in latents.values()] == [False, False, True]
    np.testing.assert_array_equal(problem.hierarchical, [False] * 2 + [True] * 8)
    assert latents["tau"].source.startswith("test_problem.py:")


def test_log_joint_total_and_by_site(problem: Problem):
    found = problem.log_joint_by_site(VALUES)
    assert set(found) == set(BY_SITE)
    for name, expected in BY_SITE.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-12)
    np.testing.assert_allclose(problem.log_joint(VALUES), sum(BY_SITE.values()), rtol=1e-12)


def test_values_may_be_whole_numbers_and_lists_and_hold_more_than_latents(problem: Problem):
    values = dict(mu=4, tau=3, theta=VALUES["theta"].tolist(), ratio=123.0)
    np.testing.assert_allclose(problem.log_joint(values), sum(BY_SITE.values()), rtol=1e-12)


def test_values_are_checked(problem: Problem):
    for values, code, site in (
        ({**VALUES, "theta": 1.0}, "bad-argument", "theta"),
        ({"mu": 1.0, "tau": 1.0}, "site-missing", "theta"),
    ):
        with pytest.raises(TautError) as caught:
            problem.log_joint(values)
        assert (caught.value.code, caught.value.site) == (code, site)


@pytest.mark.parametrize("centredness", [0.0, 0.3, 1.0])
def test_flat_density_has_the_jacobian_of_the_map(problem: Problem, centredness: float):
    # theta = mu + tau^(1-c) (u - c mu): |d theta / d u| = tau^(1-c) for each school; tau = exp(u).
    u_theta = (VALUES["theta"] - 4.0) / 3.0 ** (1 - centredness) + centredness * 4.0
    flat = np.concatenate([[4.0, np.log(3.0)], u_theta])
    lam = problem.centredness(centredness)
    expected = sum(BY_SITE.values()) + np.log(3.0) + 8 * (1 - centredness) * np.log(3.0)
    (value,), gradients = problem.kernel()(flat[None], lam)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(problem.log_joint(flat, lam), expected, rtol=1e-12)
    back = problem.constrain(flat[None], lam)
    np.testing.assert_allclose(back["theta"][0], VALUES["theta"], rtol=1e-12)
    np.testing.assert_allclose((back["tau"][0], back["ratio"][0]), (3.0, 4.0 / 3.0), rtol=1e-12)
    moves = 1e-5 * np.eye(10)
    slope = (problem.kernel()(flat + moves, lam)[0] - problem.kernel()(flat - moves, lam)[0]) / 2e-5
    np.testing.assert_allclose(gradients[0], slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("x64", [True, False])
def test_log_joint_is_traceable(problem: Problem, x64: bool):
    flat = jnp.asarray(np.linspace(-1, 1, 10), jnp.float32)
    expected = problem.kernel()(np.asarray(flat, float)[None], problem.centredness())
    with jax.enable_x64(x64):
        value, slope = jax.jit(jax.value_and_grad(problem.log_joint))(flat)
    np.testing.assert_allclose(value, expected[0][0], rtol=1e-6)
    # The slope has the point's own precision.
    np.testing.assert_allclose(slope, expected[1][0], rtol=1e-5, atol=1e-5)


def test_supports_that_move_with_other_latents():
    def model():
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Uniform(x, x + 1.0))
        taut.factor("nothing", 0.0)

    problem = Problem(model)
    points = np.random.default_rng(0).normal(size=(50, 2)) * 3
    values, _ = problem.kernel()(points, problem.centredness())
    s = expit(points[:, 1])
    np.testing.assert_allclose(values, stats.norm.logpdf(points[:, 0]) + np.log(s * (1 - s)), rtol=1e-10)
    found = problem.constrain(points)
    np.testing.assert_allclose(found["y"], found["x"] + s, rtol=1e-12)
    # Inside; at |u| = 9 within rounding of the bound.
    assert np.all((found["y"] > found["x"]) & (found["y"] < found["x"] + 1))


def test_bounds_as_in_garch():
    def model(y):
        alpha = taut.sample("alpha", dist.Uniform(0.0, 1.0))
        beta = taut.sample("beta", dist.Uniform(0.0, 1.0 - alpha))
        with taut.plate("t", len(y)):
            taut.sample("y", dist.Normal(0.0, jnp.sqrt(1.0 + alpha + beta)), obs=y)

    y = np.array([0.5, -2.0, 1.0])
    problem = Problem(model, dict(y=y))
    points = np.random.default_rng(1).normal(size=(40, 2)) * 2
    values, _ = problem.kernel()(points, problem.centredness())
    a = expit(points[:, 0])
    b = (1 - a) * expit(points[:, 1])
    # The density of (alpha, beta) is 1/(1 - alpha); the map's determinant a(1-a) * (1-a) s(1-s).
    s = expit(points[:, 1])
    expected = -np.log(1 - a) + np.log(a * (1 - a)) + np.log((1 - a) * s * (1 - s))
    expected = expected + stats.norm(0, np.sqrt(1 + a + b)[:, None]).logpdf(y).sum(1)
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    found = problem.constrain(points)
    assert np.all((found["alpha"] > 0) & (found["beta"] > 0) & (found["alpha"] + found["beta"] < 1))


def test_data_outside_of_a_support_that_moves_are_impossible():
    # y ~ Uniform(0, theta): zero density wherever theta < max(y), where NumPyro's log_prob alone says -log(theta).
    def model(y):
        theta = taut.sample("theta", dist.Exponential(1.0))
        with taut.plate("n", 3):
            taut.sample("y", dist.Uniform(0.0, theta), obs=y)

    problem = Problem(model, dict(y=np.array([0.5, 2.0, 1.0])))
    values, _ = problem.kernel()(np.log([[1.9], [2.1]]), problem.centredness())
    assert values[0] == -np.inf
    np.testing.assert_allclose(values[1], -2.1 + np.log(2.1) - 3 * np.log(2.1), rtol=1e-10)


@pytest.mark.parametrize("family", ["normal", "studentt", "cauchy", "laplace", "logistic", "gumbel", "vector"])
def test_every_location_scale_family_transforms_right(family: str):
    def model():
        m = taut.sample("m", dist.Normal(0.0, 1.0))
        s = taut.sample("s", dist.LogNormal(0.0, 1.0))
        corr = jnp.array([[1.0, 0.5], [0.5, 1.0]])
        fn = {
            "normal": lambda: dist.Normal(m, s),
            "studentt": lambda: dist.StudentT(4.0, m, s),
            "cauchy": lambda: dist.Cauchy(m, s),
            "laplace": lambda: dist.Laplace(m, s),
            "logistic": lambda: dist.Logistic(m, s),
            "gumbel": lambda: dist.Gumbel(m, s),
            "vector": lambda: dist.MultivariateNormal(m * jnp.ones(2), s**2 * corr),
        }[family]()
        with taut.plate("rows", 2):
            taut.sample("theta", fn)
        taut.factor("nothing", 0.0)

    problem = Problem(model)
    where = problem.layout["theta"]
    assert problem.latents["theta"].hierarchical
    z = np.random.default_rng(2).normal(size=(1, problem.dim))
    for centredness in (0.0, 0.3, 1.0):
        lam = problem.centredness(centredness)
        (value,), _ = problem.kernel()(z, lam)
        found = problem.constrain(z, lam)
        at = {n: found[n][0] for n in ("m", "s", "theta")}
        # The value's derivative with respect to its coordinate, by central differences of a linear map.
        moves = np.zeros((where.stop - where.start, problem.dim))
        moves[:, where] = 1e-3 * np.eye(len(moves))
        slopes = (problem.constrain(z + moves, lam)["theta"] - problem.constrain(z - moves, lam)["theta"]) / 2e-3
        volume = np.linalg.slogdet(slopes.reshape(len(moves), -1))[1]
        if family == "vector":
            own = (
                stats.multivariate_normal([at["m"]] * 2, at["s"] ** 2 * np.array([[1, 0.5], [0.5, 1]]))
                .logpdf(at["theta"])
                .sum()
            )
        else:
            frozen = {
                "normal": stats.norm,
                "studentt": lambda m, s: stats.t(4.0, m, s),
                "cauchy": stats.cauchy,
                "laplace": stats.laplace,
                "logistic": stats.logistic,
                "gumbel": stats.gumbel_r,
            }[family](at["m"], at["s"])
            own = frozen.logpdf(at["theta"]).sum()
        prior = stats.norm.logpdf(at["m"]) + stats.norm.logpdf(np.log(at["s"]))
        np.testing.assert_allclose(value, prior + own + volume, rtol=1e-7)


def test_masked_latents_keep_the_evidence():
    # Two of three rows take part; what is left out integrates to one instead of to infinity.
    def model():
        with taut.plate("rows", 3), taut.handlers.mask(mask=[True, False, True]):
            z = taut.sample("z", dist.Gamma(2.0, 1.0))
            taut.sample("y", dist.Normal(z, 1.0), obs=np.ones(3))

    problem = Problem(model)
    grid = np.linspace(-12.0, 6.0, 4001)
    points = np.zeros((len(grid), 3))
    points[:, 1] = grid
    values, _ = problem.kernel()(points, problem.centredness())
    expected = 2 * (stats.gamma(2.0).logpdf(1.0) + stats.norm.logpdf(0.0))
    np.testing.assert_allclose(np.log(np.trapezoid(np.exp(values), grid)), expected, rtol=1e-6)
    np.testing.assert_allclose(problem.log_joint({"z": [1.0, 5.0, 1.0]}), expected, rtol=1e-12)


def test_a_latent_given_a_value_inside_the_model_keeps_its_density():
    def model(y):
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.handlers.substitute(data={"z": 2.0}):
            z = taut.sample("z", dist.Normal(mu, 0.5))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)

    problem = Problem(model, dict(y=3.0))
    assert list(problem.latents) == ["mu"]
    (value,), _ = problem.kernel()(np.array([[0.7]]), problem.centredness())
    np.testing.assert_allclose(
        value, stats.norm.logpdf(0.7) + stats.norm(0.7, 0.5).logpdf(2.0) + stats.norm.logpdf(1.0)
    )


def test_params_of_the_model_follow_the_latents():
    def model(y):
        s = taut.param("s", 2.0, constraint=dist.constraints.positive)
        x = taut.sample("x", dist.Normal(0.0, s))
        taut.sample("y", dist.Normal(x, 1.0), obs=y)

    problem = Problem(model, dict(y=1.0))
    assert (problem.dim, problem.num_params, problem.layout) == (1, 1, {"x": slice(0, 1), "s": slice(1, 2)})
    (value,), _ = problem.kernel()(np.array([[0.5, np.log(3.0)]]), problem.centredness())
    # A parameter is a point: no prior, no Jacobian.
    np.testing.assert_allclose(value, stats.norm(0, 3).logpdf(0.5) + stats.norm(0.5).logpdf(1.0), rtol=1e-12)
    np.testing.assert_allclose(problem.constrain(np.array([[0.5, np.log(3.0)]]))["s"], [3.0])


def test_subsampled_plates_are_opened_whole_unless_asked():
    y = np.random.default_rng(0).normal(size=12)

    def model(y):
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", len(y), subsample_size=4) as rows:
            taut.sample("y", dist.Normal(mu, 1.0), obs=y[rows])

    expected = stats.norm.logpdf(0.3) + stats.norm(0.3).logpdf(y).sum()
    (value,), _ = Problem(model, dict(y=y)).kernel()(np.array([[0.3]]), np.ones(1))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    part = Problem(model, dict(y=y), subsample=True)
    leaves, consts = part.inputs
    estimates = [
        float(part.log_joint(np.array([0.3]), inputs=([*leaves[:-1], np.array([0, k], np.uint32)], consts)))
        for k in range(60)
    ]
    assert abs(np.mean(estimates) - expected) < 4 * np.std(estimates) / np.sqrt(60)
    # Predictions are for every row.
    assert Problem(model, dict(y=y)).predict(size=5)["y"].shape == (5, 12)


def test_prior_predictive_moments():
    def model(n, y=None):
        mu = taut.sample("mu", dist.Normal(1.0, 2.0))
        with taut.plate("rows", n):
            taut.sample("y", dist.Normal(mu, 1.0), obs=y)
        taut.deterministic("double", 2 * mu)

    problem = Problem(model, dict(n=3, y=np.zeros(3)))
    draws = problem.predict(size=4000)
    assert {n: v.shape for n, v in draws.items()} == {"mu": (4000,), "y": (4000, 3), "double": (4000,)}
    # Standard errors: sd/sqrt(4000) for means, var*sqrt(2/4000) for variances; four of them.
    assert abs(draws["mu"].mean() - 1.0) < 4 * 2.0 / np.sqrt(4000)
    assert abs(draws["mu"].var() - 4.0) < 4 * 4.0 * np.sqrt(2 / 4000)
    assert np.abs(draws["y"].var(0) - 5.0).max() < 4 * 5.0 * np.sqrt(2 / 4000)
    assert abs(np.cov(draws["y"][:, 0], draws["y"][:, 1])[0, 1] - 4.0) < 4 * np.sqrt((5 * 5 + 16) / 4000)
    np.testing.assert_allclose(draws["double"], 2 * draws["mu"])
    again = problem.predict(size=4000)
    np.testing.assert_array_equal(draws["y"], again["y"])
    assert not np.array_equal(draws["y"], problem.predict(size=4000, key=1)["y"])


def test_posterior_predictive_stands_on_its_draws(problem: Problem):
    rng = np.random.default_rng(0)
    draws = dict(
        mu=rng.normal(size=4000), tau=np.full(4000, 0.5), theta=rng.normal(size=(4000, 8)), ratio=np.zeros(4000)
    )
    found = problem.predict(draws)
    assert set(found) == {"y", "ratio"}
    np.testing.assert_allclose(found["ratio"], draws["mu"] / 0.5)
    errors = (found["y"] - draws["theta"]) / SIGMA
    assert abs(errors.mean()) < 4 / np.sqrt(errors.size)
    assert abs(errors.var() - 1) < 4 * np.sqrt(2 / errors.size)


def test_predictions_for_other_rows(problem: Problem):
    rng = np.random.default_rng(0)
    draws = dict(mu=rng.normal(size=3000) + 5, tau=np.full(3000, 2.0), theta=rng.normal(size=(3000, 8)))
    with pytest.raises(TautError) as caught:
        problem.predict(draws, dict(sigma=np.ones(3)))
    assert (caught.value.code, caught.value.site) == ("plate-shape", "theta")
    assert 'new_rows="prior"' in caught.value.remedy
    found = problem.predict(draws, dict(sigma=np.ones(3)), new_rows="prior")
    assert found["y"].shape == (3000, 3)
    # New schools given mu and tau: variance tau^2 + sigma^2 around mu.
    errors = found["y"] - draws["mu"][:, None]
    assert abs(errors.var() - 5.0) < 4 * 5.0 * np.sqrt(2 / errors.size) + 4 * 5.0 * np.sqrt(2 / 3000)
    # The same number of rows with other data needs no choice.
    assert problem.predict(draws, dict(sigma=np.full(8, 0.01)))["y"].shape == (3000, 8)
