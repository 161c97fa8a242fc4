"""Flows: a Gaussian at first, invertible always, kept only where they are better."""

from __future__ import annotations

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import taut
from taut import dist, guides
from taut._precision import scope
from taut.algorithms import FlowSVI, Run
from taut.guides import Flat, Flow, FullRank, _flow_layers
from taut.problem import Problem

KINDS = ("coupling", "autoregressive")


def gaussian(dim: int) -> Problem:
    def model(y: Any) -> None:
        theta = taut.sample("theta", dist.Normal(0.0, 1.0).expand([dim]).to_event(1))
        taut.sample("y", dist.Normal(jnp.sum(theta), 1.0), obs=y)

    return Problem(model, dict(y=2.0), precision="float64")


def banana(y: Any) -> None:
    a = taut.sample("a", dist.Normal(0.0, 1.0))
    taut.sample("b", dist.Normal(a**2, 0.5))
    taut.sample("y", dist.Normal(0.0, 1.0), obs=y)


@pytest.mark.parametrize(("kind", "dim"), [("coupling", 1), ("coupling", 5), ("autoregressive", 2)])
def test_a_fresh_flow_is_the_gaussian_it_began_as(kind: Any, dim: int):
    problem, rng = gaussian(dim), np.random.default_rng(0)
    factor = np.tril(rng.normal(size=(dim, dim)), -1) + np.diag(rng.uniform(0.5, 2.0, dim))
    flow, plain = Flow(kind), FullRank()
    loc = rng.normal(size=dim)
    params, expected = flow.from_gaussian(problem, loc, factor), FullRank.from_moments(loc, factor)

    def both(noise: Any) -> Any:
        point, log_q = flow.push(problem.program, params, noise)
        there, log_plain = plain.push(problem.program, expected, noise)
        again = flow.log_prob(problem.program, params, there)
        return point.coordinates, log_q, again, there.coordinates, log_plain

    with scope("float64"):
        z, log_q, again, there, log_plain = jax.jit(jax.vmap(both))(3.0 * rng.normal(size=(20, dim)))
    np.testing.assert_allclose(z, there, atol=1e-12)
    np.testing.assert_allclose(log_q, log_plain, atol=1e-10)
    np.testing.assert_allclose(again, log_plain, atol=1e-10)


def bent(problem: Problem, flow: Flow, seed: int = 0) -> dict[str, Any]:
    """Parameters far from the identity."""
    rng = np.random.default_rng(seed)
    return {n: v + 0.2 * rng.standard_normal(np.shape(v)) for n, v in flow.init(problem, 0).items()}


@pytest.mark.parametrize(
    "flow", [Flow(k, layers=2, transformer=t) for k in KINDS for t in ("affine", "spline")], ids=str
)  # type: ignore[arg-type]
@pytest.mark.parametrize("dim", [1, 3])
def test_a_bent_flow_is_inverted_and_its_density_is_that_of_its_draws(flow: Flow, dim: int):
    problem = gaussian(dim)
    params = bent(problem, flow)
    assert any(np.abs(v).max() > 0.3 for n, v in params.items() if n.startswith("flow."))

    def both(noise: Any) -> Any:
        def through(noise: Any) -> Any:
            return flow.push(problem.program, params, noise)[0].coordinates

        point, log_q = flow.push(problem.program, params, noise)
        again = flow.log_prob(problem.program, params, point)
        # The change of variables, by automatic differentiation of the whole map.
        _, log_det = jnp.linalg.slogdet(jax.jacfwd(through)(noise))
        return log_q, again, jnp.sum(-0.5 * noise**2 - 0.5 * jnp.log(2 * jnp.pi)) - log_det

    with scope("float64"):
        log_q, again, expected = jax.jit(jax.vmap(both))(np.random.default_rng(1).normal(size=(50, dim)))
    np.testing.assert_allclose(log_q, expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(log_q, again, rtol=1e-6, atol=1e-6)


def best_gaussian(log_p: Any) -> float:
    """The best ELBO of a normal in one dimension, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()

    def loss(x: Any) -> float:
        return -(weights @ log_p(x[0] + np.exp(x[1]) * nodes) + x[1] + 0.5 * np.log(2 * np.pi * np.e))

    return -float(optimize.minimize(loss, np.array([0.5, -0.5])).fun)


def test_one_skewed_dimension():
    # 2 phi(x) Phi(4 x), a skew normal: its integral is 1.
    def model(y: Any) -> None:
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.factor("skew", jax.scipy.stats.norm.logcdf(4.0 * x) + jnp.log(2.0))
        taut.sample("y", dist.Normal(0.0, 1.0), obs=y)

    anchor = float(stats.norm.logpdf(0.0))
    best = best_gaussian(lambda x: stats.skewnorm.logpdf(x, 4.0)) + anchor
    fit = taut.fit(model, dict(y=0.0), guide=Flow(), verify=False)
    assert str(fit.guide) == "Flow" and any("better than the Gaussian" in note for note in fit.verdict.notes)
    assert best < anchor - 0.03  # what is there to gain
    assert best + 0.7 * (anchor - best) < fit.elbo < anchor + 0.005
    exact = stats.skewnorm(4.0)
    np.testing.assert_allclose(fit["x"].mean, exact.mean(), atol=0.02)
    np.testing.assert_allclose(fit["x"].quantile([0.1, 0.9]), exact.ppf([0.1, 0.9]), atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_banana_is_bent_to(kind: Any):
    # log evidence -0.9189. With q = N(0, a) N(a, b) the ELBO is 1 + log 2 - a/2 - 4 a^2 - 2 b + log(ab)/2, less that.
    a = (-0.5 + np.sqrt(0.25 + 16.0)) / 16.0
    gauss = 1.0 + np.log(2.0) - a / 2 - 4 * a**2 - 0.5 + 0.5 * np.log(a * 0.25) - 0.5 * np.log(2 * np.pi)
    assert gauss == pytest.approx(-1.4795, abs=1e-4)
    problem = Problem(banana, dict(y=0.0), precision="float64")
    solution = Run()(FlowSVI(steps=12_800), problem, Flow(kind, layers=2, width=16), 0)
    assert isinstance(solution.guide, Flow)
    point, log_q = solution.guide.draws(problem, solution.params, 4000, np.random.default_rng(0))
    log_w = problem.kernel()(point.coordinates, np.ones(2))[0] - log_q
    # 0.02 is five standard errors of the mean of 4,000 log weights.
    assert gauss + 0.45 < log_w.mean() < -0.9189 + 0.02
    # The second has an sd of 1.5: 0.1 is four standard errors of 4,000 draws.
    np.testing.assert_allclose(point.coordinates.mean(axis=0), [0.0, 1.0], atol=0.1)


def test_a_flow_that_gains_nothing_is_not_kept():
    problem = gaussian(3)
    solution = Run()(FlowSVI(steps=800), problem, Flow(layers=1, width=8), 0)
    assert isinstance(solution.guide, FullRank) and "the Gaussian was kept" in solution.notes[-1]
    np.testing.assert_allclose(solution.params["loc"], 2.0 / 4.0, atol=1e-3)  # y / (D + 1) each


def test_draws_in_single_precision_and_from_inside_of_a_compilation():
    def model(y: Any) -> None:
        theta = taut.sample("theta", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        taut.sample("y", dist.Normal(jnp.sum(theta), 1.0), obs=y)

    problem = Problem(model, dict(y=2.0), precision="float32")
    flow = Flow(layers=1, width=7)  # a shape no other test has: nothing is prepared yet

    @jax.jit
    def inside(noise: Any) -> Any:
        return flow.push(
            problem.program, {**FullRank().init(problem, 0), **_flow_layers.layers_of(shape, 3).start}, noise
        )

    shape = _flow_layers.Shape("coupling", 1, "affine", 7, 1, 8)
    with scope("float32"):
        point, _ = inside(jnp.ones(3))
    assert point.coordinates.dtype == np.float32
    drawn, log_q = flow.draws(problem, flow.init(problem, 0), 10, np.random.default_rng(0))
    assert isinstance(drawn, Flat) and drawn.coordinates.shape == (10, 3) and np.all(np.isfinite(log_q))


def test_what_a_flow_refuses(monkeypatch: pytest.MonkeyPatch):
    for wrong in (dict(kind="planar"), dict(layers=0), dict(transformer="cubic"), dict(width=2.5)):
        with pytest.raises(taut.TautError) as caught:
            Flow(**wrong)  # type: ignore[arg-type]
        assert caught.value.code == "bad-argument" and caught.value.site in wrong
    with pytest.raises(taut.TautError) as caught:
        FlowSVI().init(gaussian(1), guides.MeanField(), 0)
    assert caught.value.code == "bad-combination"

    def absent(name: str) -> Any:
        raise ImportError("no flowjax", name="flowjax")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(taut.TautError) as caught:
        taut.fit(banana, dict(y=0.0), guide=Flow(layers=3, width=5))
    assert caught.value.code == "missing-extra" and caught.value.remedy == "pip install 'taut[flows]'"
