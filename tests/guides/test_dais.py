"""Annealed importance sampling as a guide: a bound that rises to the evidence, and weights whose mean it is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist, gradients, guides
from taut._errors import TautError
from taut._precision import scope
from taut.algorithms import SVI, FixedNoise
from taut.guides import with_model
from taut.problem import Problem, log_joint

COV = np.array([[1.0, 1.8], [1.8, 4.0]])  # correlation 0.9
PRECISION = np.linalg.inv(COV)
MEAN = np.array([0.5, -1.0])
LOG_Z = 0.5 * np.linalg.slogdet(2 * np.pi * COV)[1] + 3.0
# What a mean-field normal can reach: log Z - KL, with KL = -log(1 - r^2) / 2.
MEAN_FIELD = LOG_Z + 0.5 * np.log(1 - 0.9**2)


def gaussian() -> None:
    """A density of known mass: the prior is divided out again."""
    prior = dist.Normal(jnp.zeros(2), 10.0).to_event(1)
    z = taut.sample("z", prior)
    taut.factor("target", 3.0 - 0.5 * (z - MEAN) @ PRECISION @ (z - MEAN) - prior.log_prob(z))


def learned(y: Any) -> None:
    s = taut.param("s", 1.3, constraint=dist.constraints.positive)
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    b = taut.sample("b", dist.HalfNormal(1.0))
    with taut.plate("rows", 5):
        taut.sample("y", dist.Normal(mu * b, s), obs=y)


DATA = {"y": np.array([0.3, 1.2, 0.8, -0.4, 1.5])}


def test_the_bound_rises_towards_the_evidence_and_weighted_draws_are_the_posterior():
    elbos = []
    for steps in (1, 4):
        fit = taut.fit(gaussian, {}, guide=guides.DAIS(steps), algorithm=FixedNoise(), draws=8000)
        assert fit.log_weights is not None
        se = fit.numbers["ELBO"][1]
        assert se is not None and fit.elbo < LOG_Z + 5 * se
        elbos.append(fit.elbo)
    assert MEAN_FIELD - 0.05 < elbos[0] < elbos[1] - 0.5
    assert elbos[1] > LOG_Z - 0.1
    # E[w] = Z and self-normalised moments, by the paths' own weights.
    w = np.exp(fit.log_weights - LOG_Z)
    n = len(w)
    assert abs(w.mean() - 1) < 5 * w.std() / np.sqrt(n)
    z = fit.guide_draws.get("z", fit.values["z"])
    mean = (w[:, None] * z).sum(0) / w.sum()
    away = (z - MEAN)[:, :, None] * (z - MEAN)[:, None, :]
    assert np.all(np.abs(mean - MEAN) < 5 * 2.0 / np.sqrt(n) * np.sqrt((w**2).mean()) + 0.01)
    np.testing.assert_allclose((w[:, None, None] * away).sum(0) / w.sum(), COV, atol=5 * 4 * np.sqrt(2 / n) * 1.5)


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_are_unbiased_at_any_parameters(steps: int):
    # Not at an optimum: any step size, temperature and refreshment leaves E[w] = Z.
    problem = Problem(gaussian, {})
    guide = guides.DAIS(steps)
    rng = np.random.default_rng(steps)
    params = guide.from_gaussian(problem, MEAN, 1.5 * np.linalg.cholesky(COV))
    params = {name: v + 0.3 * rng.standard_normal(np.shape(v)) for name, v in params.items()}
    # A base wider than the density and short steps keep the weights' tails light enough for an honest error.
    params["log_scale"] = np.log(1.5 * np.sqrt(np.diag(COV)))
    params["log_step"] = params["log_step"] - 1.0
    point, log_q = guide.draws(problem, params, 40_000, rng)
    log_p, _ = problem.kernel()(point.coordinates, np.ones(2))
    w = np.exp(log_p - log_q - LOG_Z)
    se = w.std() / np.sqrt(len(w))
    assert abs(w.mean() - 1) < 5 * se and se < 0.05
    assert np.mean(np.log(w)) < 0


def test_gradients_follow_every_parameter_and_the_models_own():
    problem = Problem(learned, DATA)
    guide = guides.DAIS(3)
    rng = np.random.default_rng(0)
    params = {n: v + 0.1 * rng.standard_normal(np.shape(v)) for n, v in guide.init(problem, 0).items()}
    noise = rng.standard_normal(guide.noise_size(problem.program))

    def weight(params: Any, model: Any) -> Any:
        given = with_model(guide, params, model)
        point, log_q = guide.push(problem.program, given, noise, problem.inputs)
        whole = jnp.concatenate([point.coordinates, model])
        return log_joint(problem.program, whole, point.centredness, *problem.inputs) - log_q

    with scope("float64"):
        model = jnp.array([0.2])
        run = jax.jit(weight)
        slopes = jax.jit(jax.grad(weight, (0, 1)))(params, model)
        for name, value in params.items():
            direction = rng.standard_normal(np.shape(value))
            ends = [float(run({**params, name: value + h * direction}, model)) for h in (1e-5, -1e-5)]
            found = np.sum(np.asarray(slopes[0][name]) * direction)
            np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-7)
        ends = [float(run(params, model + h)) for h in (1e-5, -1e-5)]
        np.testing.assert_allclose(slopes[1][0], (ends[0] - ends[1]) / 2e-5, rtol=1e-5)


def test_the_models_parameters_are_learned_with_the_guide():
    # y ~ N(mu, s), mu ~ N(0, 1): the evidence is that of N(0, s^2 I + 1), with its maximum by a grid.
    y = np.random.default_rng(1).normal(0.7, 2.0, 20)

    def model(y: Any) -> None:
        s = taut.param("s", 1.0, constraint=dist.constraints.positive)
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 20):
            taut.sample("y", dist.Normal(mu, s), obs=y)

    grid = np.linspace(1.0, 4.0, 3001)
    v = 1 / (1 + 20 / grid**2)
    log_z = -20 * np.log(grid) - 0.5 * (y**2).sum() / grid**2 + 0.5 * np.log(v) + 0.5 * v * (y.sum() / grid**2) ** 2
    assert isinstance(SVI().pair(Problem(model, {"y": y}), guides.DAIS(2))[1], gradients.Pathwise)
    # The chosen algorithm is the deterministic one; one normal latent is represented exactly.
    fit = taut.fit(model, {"y": y}, guide=guides.DAIS(2), draws=2000)
    assert fit["s"].mean == pytest.approx(grid[log_z.argmax()], rel=0.002)
    assert fit.elbo == pytest.approx(log_z.max() - 10 * np.log(2 * np.pi), abs=1e-4)


def test_what_cannot_be_is_refused():
    problem = Problem(gaussian, {})
    guide = guides.DAIS(2)
    with scope("float64"):
        point, _ = guide.sample_and_log_prob(problem.program, guide.init(problem, 0), jax.random.key(0), problem.inputs)
    with pytest.raises(TautError) as refused:
        guide.log_prob(problem.program, guide.init(problem, 0), point, problem.inputs)
    assert refused.value.code == "bad-combination" and "sample_and_log_prob" in refused.value.remedy
    with pytest.raises(TautError) as refused:
        SVI(gradient=gradients.StickingTheLanding()).init(problem, guide, 0)
    assert refused.value.code == "bad-combination" and "Pathwise" in refused.value.remedy

    def batches(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 5, subsample_size=2) as rows:
            taut.sample("y", dist.Normal(mu, 1.0), obs=y[rows])

    with pytest.raises(TautError) as refused:
        guides.bind(guide, Problem(batches, DATA, subsample=True))
    assert refused.value.code == "bad-combination" and "subsample_size" in refused.value.remedy
    with pytest.raises(TautError) as refused:
        guides.DAIS(0)
    assert refused.value.code == "bad-argument"
