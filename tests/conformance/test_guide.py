"""Laws of every guide: draws match the density, the density is normalised, every draw lies in the model's support."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import taut
from taut import dist, guides
from taut._errors import TautError
from taut._precision import scope
from taut.guides import Flat
from taut.problem import Problem


def model(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    sigma = taut.sample("sigma", dist.HalfNormal(1.0))
    share = taut.sample("share", dist.Beta(2.0, 2.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu * share, sigma), obs=y)


DATA = {"y": np.array([0.3, -1.2, 0.8])}


def by_hand(y: Any) -> None:
    positive = dist.constraints.positive
    mu = taut.sample("mu", dist.Normal(taut.param("loc", y.mean()), taut.param("scale", 0.5, constraint=positive)))
    taut.sample("sigma", dist.LogNormal(taut.param("slope", 0.3) * mu, 0.4))
    taut.sample("share", dist.Beta(taut.param("a", 3.0, constraint=positive), 2.0))


def encoded(y: Any) -> None:
    """The same with a latent in every row, for guides that encode rows."""
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    sigma = taut.sample("sigma", dist.HalfNormal(1.0))
    with taut.plate("rows", len(y)):
        share = taut.sample("share", dist.Beta(2.0, 2.0))
        taut.sample("y", dist.Normal(mu * share, sigma), obs=y)


def row(p: Any, y: Any) -> Any:
    return p["slope"] * y + p["loc"], p["log_scale"]


ROW = {"slope": 0.2, "loc": 0.1, "log_scale": -0.5}


MEMBERS: dict[str, Callable[[], guides.Guide | Callable[..., Any]]] = {
    "MeanField": guides.MeanField,
    "FullRank": guides.FullRank,
    "LowRank": lambda: guides.LowRank(2),
    "StudentT": guides.StudentT,
    "BlockDense": lambda: guides.BlockDense((("mu", "sigma"),)),
    "Structured": guides.Structured,
    "SparsePrecision": guides.SparsePrecision,
    "DAIS": lambda: guides.DAIS(3),
    "Amortised": lambda: guides.Amortised("rows", row, init=ROW),
    "SemiAmortised": lambda: guides.SemiAmortised("rows", row, init=ROW, globals=guides.FullRank(), steps=1, draws=2),
    "GaussianMixture": lambda: guides.GaussianMixture(2),
    "Flow": lambda: guides.Flow(layers=1, width=4),
    "SiteFamilies": guides.SiteFamilies,
    "Combine": lambda: guides.Combine({"mu": guides.MeanField()}, default=guides.SiteFamilies({"sigma": "gamma"})),
    "Program": lambda: by_hand,
}
POINTS = {"Delta": guides.Delta}
# Guides that are about the rows of a plate need latents there.
MODELS = {MEMBERS[name]: encoded for name in ("Amortised", "SemiAmortised")}


def bound(member: Callable[[], Any], seed: int = 0) -> tuple[Problem, guides.Guide, dict[str, Any]]:
    """A problem, the guide ready for it, and parameters away from where it starts."""
    problem = Problem(MODELS.get(member, model), DATA, precision="float64")
    guide = guides.bind(member(), problem)
    rng = np.random.default_rng(seed)
    start = guide.init(problem, 0)
    return problem, guide, {n: v + 0.3 * rng.standard_normal(np.shape(v)) for n, v in start.items()}


@pytest.mark.parametrize("member", [*MEMBERS.values(), *POINTS.values()], ids=[*MEMBERS, *POINTS])
def test_log_prob_of_a_draw_is_the_one_that_came_with_it(member: Any):
    problem, guide, params = bound(member)
    if not guide.evaluable:
        # What comes with a draw is of the way that led to it; the draw alone has no density that can be had.
        with scope("float64"), pytest.raises(TautError, match="sample_and_log_prob"):
            point, _ = guide.sample_and_log_prob(problem.program, params, jax.random.key(0), problem.inputs)
            guide.log_prob(problem.program, params, point, problem.inputs)
        return
    with scope("float64"):
        for seed in range(3):
            point, log_q = guide.sample_and_log_prob(problem.program, params, jax.random.key(seed), problem.inputs)
            again = guide.log_prob(problem.program, params, point, problem.inputs)
            np.testing.assert_allclose(log_q, again, rtol=1e-12, atol=1e-12)
    point, log_q = guide.draws(problem, params, 5, np.random.default_rng(0))
    with scope("float64"):
        for row in range(5):
            if isinstance(point, Flat):
                one: Any = Flat(jnp.asarray(point.coordinates[row]), point.centredness)
            else:
                one = {n: jnp.asarray(v[row]) for n, v in point.items()}
            again = guide.log_prob(problem.program, params, one, problem.inputs)
            np.testing.assert_allclose(log_q[row], again, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_density_is_normalised_and_matches_the_draws(member: Any):
    # With h any normalised density on the real line, E_q[h(z) / q(z)] = 1. h is a normal around q's peak and narrower
    # than the fifth of all draws that lie nearest, so that the ratios are bounded; 5 standard errors.
    problem, guide, params = bound(member)
    point, log_q = guide.draws(problem, params, 40_000, np.random.default_rng(1))
    if isinstance(point, Flat):
        z, jacobian = point.coordinates, 0.0
    else:
        mu, sigma, share = point["mu"], point["sigma"], point["share"]
        z = np.stack([mu, np.log(sigma), np.log(share / (1 - share))], axis=1)
        jacobian = np.log(sigma) + np.log(share * (1 - share))
    log_q = log_q + jacobian
    peak = z[np.argmax(log_q)] if guide.evaluable else np.median(z, axis=0)
    near = z[np.argsort(np.linalg.norm((z - peak) / z.std(axis=0), axis=1))[: len(z) // 5]]
    h = stats.multivariate_normal(near.mean(axis=0), 0.5 * np.cov(near.T))
    ratio = np.exp(h.logpdf(z) - log_q)
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(len(ratio)) + 1e-6
    assert ratio.std() / np.sqrt(len(ratio)) < 0.05


@pytest.mark.parametrize("member", [*MEMBERS.values(), *POINTS.values()], ids=[*MEMBERS, *POINTS])
def test_host_and_traced_draws_have_the_same_moments(member: Any):
    problem, guide, params = bound(member)
    n = 4000
    host, _ = guide.draws(problem, params, n, np.random.default_rng(2))

    def one(key: Any) -> Any:
        return guide.sample_and_log_prob(problem.program, params, key, problem.inputs)[0]

    with scope("float64"):
        params = jax.tree.map(jnp.asarray, params)
        traced = jax.vmap(one)(jax.random.split(jax.random.key(3), n))
    pairs = [(host.coordinates, traced.coordinates)] if isinstance(host, Flat) else [(host[k], traced[k]) for k in host]
    for a, b in pairs:
        b = np.asarray(b)
        se = np.sqrt((a.var(axis=0) + b.var(axis=0)) / n) + 1e-12
        assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) < 5 * se)
        # The standard error of a sample sd is about sd / sqrt(2n), more with tails: 15 % is 10 of them.
        np.testing.assert_allclose(a.std(axis=0), b.std(axis=0), rtol=0.15, atol=1e-9)


@pytest.mark.parametrize("member", [*MEMBERS.values(), *POINTS.values()], ids=[*MEMBERS, *POINTS])
def test_every_draw_lies_in_the_models_support(member: Any):
    problem, guide, params = bound(member)
    point, _ = guide.draws(problem, params, 2000, np.random.default_rng(4))
    values = problem.constrain(point.coordinates, np.ones(problem.dim)) if isinstance(point, Flat) else point
    assert np.all(values["sigma"] > 0)
    assert np.all((values["share"] > 0) & (values["share"] < 1))


@pytest.mark.parametrize("member", [*MEMBERS.values(), *POINTS.values()], ids=[*MEMBERS, *POINTS])
def test_guides_are_static_arguments_and_every_real_parameter_is_valid(member: Any):
    problem, guide, params = bound(member)
    twin = guides.bind(member(), Problem(MODELS.get(member, model), DATA, precision="float64"))
    assert hash(guide) == hash(twin) and guide == twin
    far = {n: v + 2.0 * np.random.default_rng(5).standard_normal(np.shape(v)) for n, v in params.items()}
    with scope("float64"):
        _, log_q = guide.sample_and_log_prob(problem.program, far, jax.random.key(0), problem.inputs)
    assert np.isfinite(log_q)
    assert guide.named(problem, params)


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_gradients_are_those_of_finite_differences(member: Any):
    """Along a random direction: of log q at a fixed point, and of the draw and its log q where draws are a push."""
    problem, guide, params = bound(member)
    rng = np.random.default_rng(6)
    direction = {n: rng.standard_normal(np.shape(v)) for n, v in params.items()}
    weights = rng.standard_normal(problem.dim)
    with scope("float64"):
        point, _ = guide.sample_and_log_prob(problem.program, params, jax.random.key(7), problem.inputs)

        def density(at: Any) -> Any:
            return guide.log_prob(problem.program, at, point, problem.inputs)

        functions = [density] if guide.evaluable else []
        if isinstance(guide, guides.NoiseGuide):
            noise = rng.standard_normal(guide.noise_size(problem.program))

            def draw(at: Any) -> Any:
                z, log_q = guide.push(problem.program, at, jnp.asarray(noise), problem.inputs)
                flat = z.coordinates if isinstance(z, Flat) else jnp.stack([z[n] for n in problem.latents])
                return jnp.dot(weights, flat) + log_q

            functions.append(draw)
        for function in functions:
            run = jax.jit(lambda t, f=function: f(jax.tree.map(lambda v, d: v + t * d, params, direction)))
            slope = float(jax.jit(jax.grad(run))(0.0))
            # Two central differences leave an error of the order h^4, and rounding of 1e-16 |f| / h.
            wide, half = (float(run(h) - run(-h)) / (2 * h) for h in (2e-4, 1e-4))
            np.testing.assert_allclose(slope, (4 * half - wide) / 3, rtol=1e-6, atol=1e-6)
