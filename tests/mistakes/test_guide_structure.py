"""Mistakes in the structure of model and guide, cases 1 to 17: one sentence before the first step, or the answer."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import taut
from taut import dist, guides
from taut._errors import TautError, TautWarning
from taut.algorithms import SVI, Run
from taut.problem import Problem

constraints = dist.constraints
HERE = "test_guide_structure.py:"


def positive(name: str, value: Any = 1.0) -> Any:
    return taut.param(name, value, constraint=constraints.positive)


def refused(code: str, model: Callable[..., Any], data: Any = None, guide: Any = None) -> TautError:
    """What a fit refuses, before anything is fitted: the problem is made and the guide starts."""
    with pytest.raises(TautError) as caught:
        problem = Problem(model, data or {})
        if guide is not None:
            guides.bind(guide, problem).init(problem, 0)
    error = caught.value
    assert error.code == code, str(error)
    assert error.found and error.expected and error.remedy
    return error


def accepted(model: Callable[..., Any], data: Any = None, guide: Any = None) -> Problem:
    """Neither refused nor warned of: warnings are errors here."""
    problem = Problem(model, data or {})
    if guide is not None:
        guides.bind(guide, problem).init(problem, 0)
    return problem


def at(error: TautError, site: str, *words: str) -> None:
    assert error.site == site and error.source is not None and error.source.startswith(HERE)
    for word in words:
        assert word in str(error), str(error)


# 1 and 2: a Gaussian as a factor, and a guide that wants to be one by a factor of its own.


def gaussian() -> None:
    x = taut.sample("x", dist.Uniform(-10.0, 10.0))
    y = taut.sample("y", dist.Uniform(-10.0, 10.0))
    taut.factor("target", -0.5 * (x**2 + (y / 2) ** 2))


def shaped_directly() -> None:
    s1, s2 = positive("sig1_q", 2.0), positive("sig2_q", 2.0)
    x = taut.sample("x", dist.Uniform(-10.0, 10.0))
    y = taut.sample("y", dist.Uniform(-10.0, 10.0))
    taut.factor("log_fac", -0.5 * ((x / s1) ** 2 + (y / s2) ** 2) - jnp.log(s1 * s2))


def shaped_by_a_helper() -> None:
    def helper(name: str, scale: Any) -> Any:
        x = taut.sample(name, dist.Uniform(-10.0, 10.0))
        return -0.5 * jax.nn.softplus(scale) * x**2

    terms = [helper(name, taut.param(f"{name}_raw", 0.1)) for name in ("x", "y")]
    taut.factor("shape", sum(terms))


class Shaped:
    def __init__(self, width: float):
        self.width = width

    def __call__(self) -> None:
        scales = jnp.stack([positive("a"), positive("b")])
        x = taut.sample("x", dist.Uniform(-self.width, self.width))
        y = taut.sample("y", dist.Uniform(-self.width, self.width))
        taut.factor("f", -jnp.sum(jnp.stack([x, y]) ** 2 / scales))


@pytest.mark.parametrize(
    "guide, factor",
    [(shaped_directly, "log_fac"), (shaped_by_a_helper, "shape"), (Shaped(10.0), "f")],
    ids=["function", "helper", "class"],
)
def test_case_01_a_guide_shaped_by_a_factor(guide: Any, factor: str):
    error = refused("guide-fixed", gaussian, guide=guide)
    at(error, "x", "Uniform(-10, 10)", "depends on no parameter", "'y'", factor, "cannot change what the guide samples")
    assert "dist.Normal(" in error.remedy and 'allow="guide-fixed"' in error.remedy


def test_case_01_one_fixed_latent_among_others():
    def guide() -> None:
        taut.sample("x", dist.Normal(taut.param("m", 0.0), 1.0))
        taut.sample("y", dist.Normal(jax.lax.cond(True, lambda: 0.0, lambda: 1.0), 1.0))

    at(refused("guide-fixed", lambda: flat_pair(), guide=guide), "y", "Normal")


def flat_pair() -> None:
    taut.sample("x", dist.Normal(0.0, 1.0))
    taut.sample("y", dist.Normal(0.0, 1.0))


def test_case_01_frozen_on_purpose_and_moved_by_another_latent_are_no_mistakes():
    def guide() -> None:
        x = taut.sample("x", dist.Normal(taut.param("m", 0.0), 1.0))
        taut.sample("y", dist.Normal(x, 1.0))

    def frozen() -> None:
        taut.sample("x", dist.Normal(taut.param("m", 0.0), 1.0))
        taut.sample("y", dist.Normal(0.0, 1.0), allow="guide-fixed")

    accepted(flat_pair, guide=guide)
    accepted(flat_pair, guide=frozen)


def test_case_01_a_factor_beside_a_proper_guide():
    def guide() -> None:
        m = taut.param("m", jnp.zeros(2))
        for i, name in enumerate(("x", "y")):
            taut.sample(name, dist.Normal(m[i], 1.0))
        taut.factor("extra", -m.sum())

    at(refused("guide-factor", flat_pair, guide=guide), "extra", "move taut.factor", "adds a term to the objective")


SIG1, SIG2 = 1.0, 2.0


def as_typed() -> None:
    positive("sig1_q", 2.0), positive("sig2_q", 2.0)
    x = taut.sample("x", dist.Uniform(-10.0, 10.0))
    y = taut.sample("y", dist.Uniform(-10.0, 10.0))
    taut.factor("log_fac", -0.5 * ((x / SIG1) ** 2 + (y / SIG2) ** 2))


def test_case_02_params_without_effect():
    at(refused("unused-param", gaussian, guide=as_typed), "sig1_q", "'sig2_q'", "gradient is zero", "Uniform(-10, 10)")


@pytest.mark.parametrize(
    "use",
    [
        lambda p, idle: p,
        lambda p, idle: jnp.stack([p, idle])[0],
        lambda p, idle: jnp.exp(jnp.concatenate([p[None], idle[None]]))[:1].sum(),
        lambda p, idle: p + jax.lax.stop_gradient(idle),
        lambda p, idle: p + jnp.floor(idle),
        lambda p, idle: p + 0.0 * idle,
        lambda p, idle: jnp.where(idle > 0, p, p + 1),
        lambda p, idle: jax.jit(lambda a, b: (a, b))(p, idle)[0],
        lambda p, idle: jax.lax.scan(lambda c, x: ((c[0] + p, c[1] + idle), x), (0.0, 0.0), jnp.zeros(3))[0][0],
    ],
    ids=["ignored", "stacked", "concatenated", "stopped", "floor", "times zero", "condition", "jit", "scan"],
)
def test_case_02_variants(use: Any):
    def guide() -> None:
        p, idle = taut.param("p", jnp.asarray(0.3)), taut.param("idle", jnp.asarray(0.2))
        taut.sample("z", dist.Normal(use(p, idle), positive("s")))

    at(
        refused("unused-param", lambda: taut.factor("f", -(taut.sample("z", dist.Normal(0, 1)) ** 2)), None, guide),
        "idle",
    )


def test_case_02_a_param_of_the_model():
    def model(y: Any) -> None:
        used, idle = taut.param("used", jnp.asarray(0.0)), taut.param("idle", jnp.asarray(0.0))
        both = jax.nn.softplus(jnp.stack([used, idle]))
        z = taut.sample("z", dist.Normal(both[0], 1.0))
        taut.deterministic("shown", idle)
        taut.sample("y", dist.Normal(z, 1.0), obs=y)

    at(refused("unused-param", model, dict(y=1.0)), "idle", 'allow="unused-param"')


@pytest.mark.parametrize(
    "use",
    [
        lambda p: jnp.exp(p[0]) * jax.nn.softplus(p[1]),
        lambda p: jax.lax.cond(p[0] > 0, lambda: p[0], lambda: p[1]),
        lambda p: jnp.linalg.norm(p),
        lambda p: jax.lax.fori_loop(0, 3, lambda i, s: s + p[0] * p[1], 0.0),
        lambda p: jax.checkpoint(lambda q: q @ jnp.ones(2))(p),
        lambda p: jax.vmap(jax.nn.relu)(p).sum(),
        lambda p: jnp.clip(p, -1.0, 1.0).max(),
    ],
)
def test_case_02_what_reaches_the_objective_is_left_alone(use: Any):
    def guide() -> None:
        p = jnp.stack([taut.param("a", 0.1), taut.param("b", 0.2)])
        taut.sample("z", dist.Normal(use(p), 1.0))

    accepted(lambda: taut.sample("z", dist.Normal(0.0, 1.0)), guide=guide)


def test_case_02_a_param_that_is_kept_on_purpose():
    def guide() -> None:
        taut.param("later", 1.0, allow="unused-param")
        taut.sample("z", dist.Normal(taut.param("m", 0.0), 1.0))

    accepted(lambda: taut.sample("z", dist.Normal(0.0, 1.0)), guide=guide)


def test_case_02_opt_outs_are_known_codes():
    error = refused("bad-argument", lambda: taut.sample("z", dist.Normal(0.0, 1.0), allow="unowned-dimensions"))
    at(error, "z", 'allow="unowned-dimension"')


@pytest.mark.parametrize("shape", [(), (3,)])
def test_case_03_improper_uniform_in_the_guide(shape: tuple[int, ...]):
    def model() -> None:
        x = taut.sample("x", dist.ImproperUniform(constraints.real, (), shape))
        taut.factor("f", -jnp.sum(x**2))

    error = refused("improper-sample", model, guide=lambda: improper(shape))
    at(error, "x", "ImproperUniform", "models alone")


def improper(shape: tuple[int, ...]) -> None:
    positive("sig1_q")
    taut.sample("x", dist.ImproperUniform(constraints.real, (), shape))


def test_case_04_deterministic_for_a_latent():
    def guide() -> None:
        u = taut.sample("u", dist.Normal(0.0, positive("s")), auxiliary=True)
        taut.deterministic("x", 2.0 * u)
        taut.sample("y", dist.Normal(taut.param("m", 0.0), 1.0))

    error = refused("guide-deterministic", flat_pair, guide=guide)
    at(error, "x", 'taut.transformed("x", value)')
    assert "must be sampled" not in str(error)


# 5: x = (u1 + u2) / (2 cos t), y = (u2 - u1) / (2 sin t); the target is N(0, diag(4, 25)).


def target() -> None:
    taut.sample("x", dist.Normal(0.0, 2.0))
    taut.sample("y", dist.Normal(0.0, 5.0))


def base() -> tuple[Any, Any, Any]:
    u1 = taut.sample("u1", dist.Normal(0.0, positive("a")), auxiliary=True)
    u2 = taut.sample("u2", dist.Normal(0.0, positive("b", 1.5)), infer={"is_auxiliary": True})
    return u1, u2, taut.param("t", 0.7, constraint=constraints.interval(0.05, 1.5))


def sheared(make: Callable[[str, Any], Any]) -> Callable[[], None]:
    def guide() -> None:
        u1, u2, t = base()
        make("x", (u1 + u2) / (2 * jnp.cos(t)))
        make("y", (u2 - u1) / (2 * jnp.sin(t)))

    return guide


def rotated(make: Callable[[str, Any], Any]) -> Callable[[], None]:
    def guide() -> None:
        u1, u2, t = base()
        make("x", jnp.cos(t) * u1 - jnp.sin(t) * u2)
        make("y", jnp.sin(t) * u1 + jnp.cos(t) * u2)

    return guide


def point(name: str, value: Any) -> Any:
    return taut.sample(name, dist.Delta(value))


def test_case_05_transformed_finds_the_right_answer():
    problem = Problem(target, {})
    guide = guides.bind(sheared(taut.transformed), problem)
    solution = Run()(SVI(steps=6_400), problem, guide, 0)
    t = 0.05 + 1.45 / (1.0 + np.exp(-float(solution.params["t"])))
    assert t == pytest.approx(0.3805, abs=1e-3)  # tan t = 2 / 5; the one without Jacobian is 0.564
    values, log_q = guide.draws(problem, solution.params, 20_000, np.random.default_rng(0))
    # The sd of 20,000 draws is known to 0.5 %.
    assert values["x"].std() == pytest.approx(2.0, rel=0.02) and values["y"].std() == pytest.approx(5.0, rel=0.02)
    log_p = -0.5 * (values["x"] / 2) ** 2 - 0.5 * (values["y"] / 5) ** 2 - np.log(2 * np.pi * 10)
    # q is the target: every log-weight is 0.
    np.testing.assert_allclose(log_p, log_q, atol=0.01)


def test_case_05_log_q_is_that_of_the_change_of_variables():
    problem = Problem(target, {})
    guide = guides.bind(sheared(taut.transformed), problem)
    params = guide.init(problem, 0)
    values, log_q = guide.draws(problem, params, 50, np.random.default_rng(1))
    u1 = np.cos(0.7) * values["x"] - np.sin(0.7) * values["y"]
    u2 = np.cos(0.7) * values["x"] + np.sin(0.7) * values["y"]
    by_hand = -0.5 * u1**2 - 0.5 * (u2 / 1.5) ** 2 - np.log(2 * np.pi * 1.5) + np.log(np.sin(1.4))
    np.testing.assert_allclose(log_q, by_hand, rtol=1e-9)
    # The density of the same point under other parameters: the map is inverted from where the draw began.
    moved = {**params, "t": np.asarray(0.1), "a": np.asarray(0.3)}
    with taut._precision.scope("float64"):
        found = jax.jit(
            jax.vmap(lambda p: guide.log_prob(problem.program, moved, p, problem.inputs))  # one point after another
        )({n: jnp.asarray(v) for n, v in values.items()})
    t, a = 0.05 + 1.45 / (1.0 + np.exp(-0.1)), np.exp(0.3)
    u1 = np.cos(t) * values["x"] - np.sin(t) * values["y"]
    u2 = np.cos(t) * values["x"] + np.sin(t) * values["y"]
    by_hand = -0.5 * (u1 / a) ** 2 - 0.5 * (u2 / 1.5) ** 2 - np.log(2 * np.pi * 1.5 * a) + np.log(np.sin(2 * t))
    np.testing.assert_allclose(np.asarray(found), by_hand, rtol=1e-8)


def test_case_05_a_bare_delta_is_warned_of():
    problem = Problem(target, {})
    with pytest.warns(TautWarning, match="density of the map") as caught:
        guides.bind(sheared(point), problem).init(problem, 0)
    warning = caught[0].message
    assert isinstance(warning, TautWarning)
    assert warning.code == "delta-map" and warning.site == "x" and 'taut.transformed("x"' in warning.remedy


@pytest.mark.parametrize("make", [point, taut.transformed], ids=["Delta", "transformed"])
def test_case_05_a_true_rotation_keeps_volumes(make: Any):
    problem = Problem(target, {})
    guide = guides.bind(rotated(make), problem)
    params = guide.init(problem, 0)  # warns of nothing
    values, log_q = guide.draws(problem, params, 20, np.random.default_rng(0))
    u1 = np.cos(0.7) * values["x"] + np.sin(0.7) * values["y"]
    u2 = -np.sin(0.7) * values["x"] + np.cos(0.7) * values["y"]
    np.testing.assert_allclose(log_q, -0.5 * u1**2 - 0.5 * (u2 / 1.5) ** 2 - np.log(2 * np.pi * 1.5), rtol=1e-9)


def test_case_05_opt_out_of_the_warning():
    def meant(name: str, value: Any) -> Any:
        return taut.sample(name, dist.Delta(value), allow="delta-map")

    accepted(target, guide=sheared(meant))


def one(name: str = "u") -> Any:
    return taut.sample(name, dist.Normal(taut.param(f"loc_{name}", 0.3), 1.0), auxiliary=True)


def pair(x: Callable[[Any, Any], Any], y: Callable[[Any, Any], Any]) -> Callable[[], None]:
    def guide() -> None:
        u, v = one("u"), one("v")
        taut.transformed("x", x(u, v))
        taut.transformed("y", y(u, v))

    return guide


@pytest.mark.parametrize(
    "guide, word",
    [
        (pair(lambda u, v: u**2, lambda u, v: v), "same place"),
        (pair(lambda u, v: jnp.abs(u), lambda u, v: v), "same place"),
        (pair(lambda u, v: u * u - v * v, lambda u, v: 2 * u * v), "same place"),
        (pair(lambda u, v: u + v, lambda u, v: 2 * (u + v)), "loses a direction"),
        (pair(lambda u, v: jax.nn.relu(u), lambda u, v: v), "loses a direction"),
        (pair(lambda u, v: jnp.stack([u, v]).sum(), lambda u, v: 1.0), "no auxiliary draw"),
    ],
    ids=["square", "abs", "complex square", "sum twice", "relu", "constant"],
)
def test_case_05_what_cannot_be_inverted_is_refused(guide: Any, word: str):
    assert word in str(refused("guide-map", target, guide=guide))


def test_case_05_dimensions_are_counted():
    def guide() -> None:
        u = one()
        taut.transformed("x", u)
        taut.transformed("y", 2.0 * u)

    at(refused("guide-map", target, guide=guide), "x", "1 numbers drawn (u: 1) for 2 to be made (x: 1, y: 1)")


def test_case_05_an_auxiliary_draw_must_be_accounted_for():
    def guide() -> None:
        u = one()
        taut.sample("x", dist.Normal(u, 1.0))
        taut.sample("y", dist.Normal(u, 1.0))

    at(refused("guide-auxiliary", target, guide=guide), "u", "taut.transformed")


def test_case_05_other_latents_and_simplexes():
    def model() -> None:
        taut.sample("x", dist.Normal(0.0, 1.0))
        taut.sample("p", dist.Dirichlet(jnp.ones(3)))

    def guide() -> None:
        x = taut.sample("x", dist.Normal(taut.param("m", 0.5), 1.0))
        v = taut.sample("v", dist.Normal(taut.param("loc", jnp.zeros(2)), 1.0).to_event(1), auxiliary=True)
        taut.transformed("p", jax.nn.softmax(jnp.concatenate([v * jnp.exp(x), jnp.zeros(1)])))

    problem = Problem(model, {})
    bound = guides.bind(guide, problem)
    values, log_q = bound.draws(problem, bound.init(problem, 0), 20, np.random.default_rng(0))
    p, x = values["p"], values["x"]
    v = np.log(p[:, :2] / p[:, 2:]) / np.exp(x)[:, None]
    # The additive log-ratio map has the Jacobian prod(p); a density of a simplex is over its first two entries.
    by_hand = -0.5 * (x - 0.5) ** 2 - 0.5 * (v**2).sum(1) - 1.5 * np.log(2 * np.pi) - 2 * x - np.log(p).sum(1)
    np.testing.assert_allclose(log_q, by_hand, rtol=1e-8)


def test_case_05_transformed_belongs_in_guides():
    at(refused("bad-argument", lambda: taut.transformed("x", 1.0)), "x", 'taut.deterministic("x", value)')


# 6 to 11: what guide and model must agree on.

Y = np.array([41.0, 43.5, 40.2])


def measured(test: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 100.0))
    with taut.plate("rows", len(test)):
        taut.sample("test", dist.Normal(mu, 1.0), obs=test)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_case_06_the_guide_samples_an_observed_site(auxiliary: bool):
    def guide() -> None:
        taut.sample("mu", dist.Normal(taut.param("m", 42.0), 1.0))
        with taut.plate("rows", 3):
            taut.sample("test", dist.Normal(taut.param("mu_q", 42.0), positive("s_q")), auxiliary=auxiliary)

    error = refused("guide-observed", measured, dict(test=Y), guide)
    at(error, "test", "observed in the model", "delete the line")
    assert "auxiliary" not in str(error)


def test_case_06_with_obs_in_the_guide():
    def guide(test: Any) -> None:
        taut.sample("mu", dist.Normal(taut.param("m", 42.0), 1.0))
        with taut.plate("rows", 3):
            taut.sample("test", dist.Normal(taut.param("mu_q", 42.0), 1.0), obs=test)

    at(refused("guide-observed", measured, dict(test=Y), guide), "test", "delete the line")


def test_case_07_no_latents():
    def model(test: Any) -> None:
        with taut.plate("rows", 3):
            taut.sample("test", dist.Normal(taut.param("mu", 42.0), positive("s")), obs=test)

    error = refused("no-latents", model, dict(test=Y))
    assert "nothing to infer" in str(error) and "params are mu, s" in error.found
    assert "taut.fit_mle(model, data)" in error.remedy


@pytest.mark.parametrize("guide", [lambda: None, lambda: taut.param("m", 0.0)], ids=["empty", "params only"])
def test_case_08_a_latent_missing_from_the_guide(guide: Any):
    at(refused("guide-missing", measured, dict(test=Y), guide), "mu", 'taut.sample("mu"')


@pytest.mark.parametrize("name, meant", [("sgima", "sigma"), ("sigmaa", "sigma"), ("Sigma", "sigma")])
def test_case_09_a_misspelt_site(name: str, meant: str):
    def model(y: Any) -> None:
        sigma = taut.sample("sigma", dist.LogNormal(0.0, 1.0))
        taut.sample("y", dist.Normal(0.0, sigma), obs=y)

    def guide() -> None:
        taut.sample(name, dist.LogNormal(taut.param("m", 0.0), 1.0))

    at(refused("guide-unknown", model, dict(y=1.0), guide), name, f"did you mean '{meant}'")


@pytest.mark.parametrize(
    "fn", [lambda: dist.Normal(0.0, 1.0), lambda: dist.Normal(0.0, 1.0).expand([3])], ids=["scalar", "batch"]
)
def test_case_10_shapes_and_events(fn: Any):
    def model(y: Any) -> None:
        beta = taut.sample("beta", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        taut.sample("y", dist.Normal(beta.sum(), 1.0), obs=y)

    error = refused("guide-shape", model, dict(y=1.0), lambda: taut.sample("beta", fn()))
    at(error, "beta", "event (3,)", "batch ()", "plates none", ".expand([3]).to_event(1)")


@pytest.mark.parametrize(
    "prior, proposal",
    [
        (lambda: dist.LogNormal(0.0, 1.0), lambda m: dist.Normal(m, 1.0)),
        (lambda: dist.Uniform(0.0, 10.0), lambda m: dist.Normal(m, 1.0)),
        (lambda: dist.Uniform(0.0, 10.0), lambda m: dist.LogNormal(m, 1.0)),
        (lambda: dist.Beta(2.0, 2.0), lambda m: dist.LogNormal(m, 1.0)),
        (lambda: dist.HalfNormal(1.0), lambda m: dist.TransformedDistribution(dist.Normal(m, 1.0), shift())),
    ],
)
def test_case_11_the_guide_may_leave_the_support(prior: Any, proposal: Any):
    def model() -> None:
        taut.sample("sigma", prior())

    error = refused("guide-support", model, guide=lambda: taut.sample("sigma", proposal(taut.param("m", 0.0))))
    at(error, "sigma", "the support of")


def shift() -> Any:
    return dist.transforms.AffineTransform(1.0, 2.0)


# 12 and 13: what a parameter may be.


@pytest.mark.parametrize(
    "scale",
    [
        lambda s: s,
        lambda s: 2.0 * s,
        lambda s: s + 1.0,
        lambda s: jnp.tanh(s),
        lambda s: jnp.full(3, s),
        lambda s: jnp.log(jnp.exp(s)),
    ],
    ids=["direct", "times 2", "plus 1", "tanh", "full", "log exp"],
)
@pytest.mark.parametrize("where", ["model", "guide"])
def test_case_12_an_unconstrained_scale(scale: Any, where: str):
    def model(y: Any) -> None:
        m = taut.sample("m", dist.Normal(0.0, 1.0))
        s = scale(taut.param("s", 1.0)) if where == "model" else 1.0
        with taut.plate("rows", 3):
            taut.sample("y", dist.Normal(m, s), obs=y)

    def guide() -> None:
        s = taut.param("s", 1.0)
        taut.sample(
            "m", dist.Normal(taut.param("loc", 0.0), jnp.mean(scale(s)) if where == "full" else first(scale(s)))
        )

    def first(x: Any) -> Any:
        return x[0] if jnp.ndim(x) else x

    error = refused("argument-range", model, dict(y=Y), guide if where == "guide" else None)
    at(error, "y" if where == "model" else "m", "Normal.scale", "param 's'", "positive")


@pytest.mark.parametrize(
    "scale",
    [jnp.exp, jax.nn.softplus, lambda s: s**2 + 1e-6, lambda s: jax.nn.sigmoid(s), lambda s: jnp.sqrt(1.0 + s * s)],
)
def test_case_12_a_positive_function_of_a_real_param(scale: Any):
    def model(y: Any) -> None:
        m = taut.sample("m", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 3):
            taut.sample("y", dist.Normal(m, scale(taut.param("s", 1.0))), obs=y)

    accepted(model, dict(y=Y))


def test_case_12_a_real_latent_as_a_scale():
    def model(y: Any) -> None:
        s = taut.sample("s", dist.Normal(10.0, 0.1))
        taut.sample("y", dist.Normal(0.0, s), obs=y)

    def meant(y: Any) -> None:
        s = taut.sample("s", dist.Normal(10.0, 0.1))
        taut.sample("y", dist.Normal(0.0, s), obs=y, allow="argument-range")

    at(refused("argument-range", model, dict(y=1.0)), "y", "latent 's'", "LogNormal")
    accepted(meant, dict(y=1.0))


def test_case_12_what_cannot_be_seen_through_stops_the_run_and_names_the_param():
    def guide() -> None:
        s = taut.param("s", 0.05)
        # What is made of two functions of one param is not looked through; it is negative where s is.
        taut.sample("x", dist.Normal(0.0, s * jnp.sqrt(1.0 + s**2)))
        taut.sample("y", dist.Normal(taut.param("m", 0.0), 1.0))

    problem = Problem(flat_pair, {})
    solution = Run()(SVI(optimizer=optax.sgd(-0.05), steps=400), problem, guides.bind(guide, problem), 0)
    assert solution.status in ("nonfinite", "diverged")
    assert any("'s'" in note for note in solution.notes), solution.notes


@pytest.mark.parametrize("value, word", [(0.0, "0"), (-1.0, "-1"), (np.array([1.0, -2.0]), "-2")])
def test_case_13_an_initial_value_outside(value: Any, word: str):
    def model(y: Any) -> None:
        s = taut.param("s", value, constraint=constraints.positive)
        taut.sample("y", dist.Normal(taut.sample("m", dist.Normal(0.0, 1.0)), jnp.sum(s)), obs=y)

    error = refused("param-init", model, dict(y=1.0))
    at(error, "s", "positive")
    assert word in error.found or "1" in error.found


def test_case_13_an_integer_becomes_a_float():
    def model(y: Any) -> None:
        s = taut.param("s", 10, constraint=constraints.positive)
        taut.sample("y", dist.Normal(taut.sample("m", dist.Normal(0.0, 1.0)), s), obs=y)

    problem = accepted(model, dict(y=1.0))
    (inits,) = problem.kernel().constants(("init",))
    assert inits["s"] == pytest.approx(np.log(10.0)) and inits["s"].dtype == float


# 14 to 17.


def twice() -> None:
    taut.sample("x", dist.Normal(0.0, 1.0))
    taut.sample("x", dist.Normal(1.0, 1.0))


def param_and_site() -> None:
    taut.param("x", 0.0)
    taut.sample("x", dist.Normal(0.0, 1.0))


def in_a_loop() -> None:
    for i in range(3):
        taut.sample("x", dist.Normal(float(i), 1.0))


@pytest.mark.parametrize("program", [twice, param_and_site, in_a_loop])
def test_case_14_duplicate_names(program: Any):
    error = refused("duplicate-site", program)
    at(error, "x", "one name per site")
    assert error.found.count(HERE) == 2
    at(refused("duplicate-site", lambda: taut.sample("x", dist.Normal(0.0, 1.0)), guide=program), "x")


def test_case_15_python_branches_on_a_latent():
    def model(y: Any) -> None:
        sigma = taut.sample("sigma", dist.Normal(0.0, 1.0))
        if sigma < 0:
            sigma = -sigma
        taut.sample("y", dist.Normal(0.0, sigma), obs=y)

    error = refused("control-flow", model, dict(y=1.0))
    assert error.source is not None and error.source.startswith(HERE)
    assert "if sigma < 0:" in str(error) and "jnp.where" in error.remedy and "abs" in error.remedy


@pytest.mark.parametrize(
    "size",
    [jnp.abs, lambda s: jnp.sqrt(s**2), lambda s: s * s, jnp.square, lambda s: jax.nn.softplus(jnp.abs(2.0 * s))],
    ids=["abs", "sqrt", "product", "square", "softplus"],
)
def test_case_15_the_sign_is_said_not_to_be_identified(size: Any):
    def model(y: Any) -> None:
        sigma = taut.sample("sigma", dist.Normal(0.0, 1.0))
        taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 3):
            taut.sample("y", dist.Normal(0.0, size(sigma) + 1e-3), obs=y)

    # "mu" has no part in the data: that its prior is even is no news.
    notes = accepted(model, dict(y=Y - 42)).notes
    assert len(notes) == 1 and "the sign of 'sigma' is not identified" in notes[0]


def test_case_15_a_latent_with_a_sign_has_no_such_note():
    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        away = taut.sample("away", dist.Normal(0.5, 1.0))
        with taut.plate("rows", 3):
            taut.sample("y", dist.Normal(mu, jnp.abs(away) + 1.0), obs=y)

    assert accepted(model, dict(y=Y - 42)).notes == []


def test_case_16_a_support_that_depends_on_a_latent():
    def model() -> None:
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Uniform(x, x + 1.0))

    fit = taut.fit(model)
    draws = fit.draws(10_000)
    assert np.all((draws["x"] < draws["y"]) & (draws["y"] < draws["x"] + 1))
    # corr(x, x + U(0, 1)) = 1 / sqrt(1 + 1/12); 10,000 draws know it to 0.0008.
    assert np.corrcoef(draws["x"], draws["y"])[0, 1] == pytest.approx(0.9608, abs=0.01)


def test_case_17_nothing_is_observed():
    def model(x: Any, y: Any = None) -> None:
        slope = taut.sample("slope", dist.Normal(0.0, 1.0))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(slope * x, 1.0), obs=y)

    error = refused("no-observations", model, dict(x=np.ones(3)))
    assert "dict(y=...)" in error.remedy


def unused(labels: Any, y: Any) -> None:
    """The labels are read for their number alone."""
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(labels)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


def only_beside(labels: Any, y: Any) -> None:
    """The labels reach a latent that has nothing to do with the data."""
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    taut.sample("lost", dist.Normal(jnp.mean(labels), 1.0))
    with taut.plate("rows", 3):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


DATA = dict(labels=np.array([0.0, 1.0, 0.0]), y=Y)


@pytest.mark.parametrize("model", [unused, only_beside])
def test_case_17_an_argument_without_effect(model: Any):
    with pytest.warns(TautWarning) as caught:
        Problem(model, DATA)
    warning = caught[0].message
    assert len(caught) == 1 and isinstance(warning, TautWarning) and caught[0].filename == __file__
    assert warning.code == "unused-argument" and warning.site == "labels"
    assert "argument 'labels'" in str(warning) and "no effect on the likelihood" in str(warning)


def test_case_17_silenced_for_one_argument_alone():
    Problem(unused, DATA, allow={"labels": "unused-argument"})
    with pytest.raises(TautError, match="allow for 'label'"):
        Problem(unused, DATA, allow={"label": "unused-argument"})


def test_case_17_a_fit_warns_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        taut.fit(unused, DATA, verify=False, draws=1_000)
    assert [w.message.site for w in caught if isinstance(w.message, TautWarning)] == ["labels"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        taut.fit(unused, DATA, verify=False, draws=1_000, allow={"labels": "unused-argument"})


@pytest.mark.parametrize(
    "use",
    [
        lambda labels, mu: dist.Normal(mu + labels, 1.0),
        lambda labels, mu: dist.Normal(mu, jnp.exp(labels)),
        lambda labels, mu: dist.Normal(jnp.stack([mu, mu + 1])[labels.astype(int)], 1.0),
        lambda labels, mu: dist.Normal(mu, 1.0).mask(labels > 0),
    ],
)
def test_case_17_arguments_that_matter(use: Any):
    def model(labels: Any, y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 3):
            taut.sample("y", use(labels, mu), obs=y)

    accepted(model, DATA)


def test_case_17_a_prior_and_a_deterministic_site_are_effects_too():
    def model(labels: Any, new: Any, y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(jnp.mean(labels), 1.0))
        taut.deterministic("prediction", mu * new)
        with taut.plate("rows", 3):
            taut.sample("y", dist.Normal(mu, 1.0), obs=y)

    accepted(model, dict(new=np.ones(2), **DATA))


# Guides are functions, methods, partials, objects; their statements may stand in helpers and in jax.jit.


def scaled(width: float, *, name: str) -> None:
    taut.sample(name, dist.Normal(taut.param("loc", 0.0), width))


class Holder:
    def method(self) -> None:
        scaled(1.0, name="mu")


@pytest.mark.parametrize(
    "guide",
    [
        functools.partial(scaled, 1.0, name="mu"),
        Holder().method,
        lambda: jax.jit(lambda: scaled(1.0, name="mu"))(),
        lambda **data: scaled(1.0, name="mu"),
    ],
    ids=["partial", "method", "jit", "keywords"],
)
def test_guides_of_every_kind(guide: Any):
    accepted(measured, dict(test=Y), guide)


def test_a_vmapped_helper_is_refused_with_the_plate_as_remedy():
    def guide() -> None:
        jax.vmap(lambda m: taut.sample("mu", dist.Normal(m, 1.0)))(taut.param("m", jnp.zeros(3)))

    at(refused("site-inside", measured, dict(test=Y), guide), "mu", "jax.vmap", "taut.plate")


def test_handlers_around_the_fit_do_not_reach_the_guide():
    problem = Problem(measured, dict(test=Y))
    with taut.handlers.substitute(data={"mu": 3.0}):
        guide = guides.bind(Holder().method, problem)
        values, _ = guide.draws(problem, guide.init(problem, 0), 100, np.random.default_rng(0))
    assert values["mu"].std() > 0.5
