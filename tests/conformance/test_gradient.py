"""Laws of every gradient estimator: its mean is the gradient of the expected objective, its value is the estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist, gradients, guides, objectives, testing
from taut._errors import TautError
from taut._precision import scope
from taut.algorithms._log_weights import LogWeights

MEMBERS: dict[str, gradients.GradientEstimator] = {
    "Pathwise": gradients.Pathwise(),
    "StickingTheLanding": gradients.StickingTheLanding(),
}


def hellinger(u: Any) -> Any:
    return (jnp.sqrt(u) - 1) ** 2


MEAN: list[objectives.Objective] = [objectives.ELBO(2)]
LOGARITHM: list[objectives.Objective] = [
    objectives.IWAE(2),
    objectives.IWAE(2, averaged_over=2),
    objectives.Renyi(0.5, 2),
    objectives.TVO(particles=2),
    objectives.FDivergence(hellinger, 2),
    objectives.JVI(2, 1),
]
OWN: list[objectives.Objective] = [
    objectives.CUBO(2, 2),
    objectives.ForwardKL(2),
    objectives.RWS(2),
    objectives.UpperTVO(particles=2),
]
# Which objectives each estimator is compared with exact gradients for. The machinery is generic, so one of each kind
# is enough for most; the two that differentiate every objective are compared for all.
LAWS: dict[str, tuple[gradients.GradientEstimator, Sequence[objectives.Objective]]] = {
    "Pathwise": (gradients.Pathwise(), MEAN + LOGARITHM[1:3]),
    "StickingTheLanding": (gradients.StickingTheLanding(), MEAN),
    "DoublyReparam": (gradients.DoublyReparam(), MEAN + LOGARITHM + OWN[1:]),
    "GeneralizedDoublyReparam": (gradients.GeneralizedDoublyReparam(), MEAN + LOGARITHM[:1]),
    "QuadraticControl": (gradients.QuadraticControl(), MEAN),
    "ScoreFunction": (gradients.ScoreFunction(), MEAN + LOGARITHM[:1]),
    "ScoreFunction everywhere": (gradients.ScoreFunction(everywhere=True), MEAN + LOGARITHM[1:2]),
    "VarGrad": (gradients.VarGrad(), MEAN),
    "VIMCO": (gradients.VIMCO(), LOGARITHM[:1]),
    "VIMCO arithmetic": (gradients.VIMCO("arithmetic", everywhere=True), LOGARITHM[2:3]),
    "Wake": (gradients.Wake(), OWN[::2]),
}


@pytest.mark.parametrize("gradient, kinds", LAWS.values(), ids=LAWS)
def test_the_public_laws_hold(gradient: Any, kinds: Any):
    # One home: taut.testing.check_gradient, which users run on estimators of their own; exact gradients by quadrature.
    testing.check_gradient(gradient, kinds)


@dataclass(frozen=True)
class Wrong(gradients.GradientEstimator):
    """An estimator with one fault."""

    fault: str
    pathwise: ClassVar[bool] = True

    def surrogate(self, objective: Any, log_weights: Any, guide: Any, model: Any) -> Any:
        held = jax.lax.stop_gradient(guide)
        if self.fault == "one draw":  # sticking the landing for a logarithm
            return objective.estimate(log_weights(guide, held, model))
        if self.fault == "value":
            return 2 * objective.estimate(log_weights(guide, guide, model))
        if self.fault == "model":
            return objective.estimate(log_weights(guide, guide, jax.lax.stop_gradient(model)))
        return objective.estimate(log_weights(held, guide, model))


@pytest.mark.parametrize(
    "fault, objective, said",
    [
        ("one draw", objectives.IWAE(2), "the guide's 'loc' is biased"),
        ("value", objectives.ELBO(2), "the surrogate's value is"),
        ("model", objectives.ELBO(2), "the model's 'theta' is biased"),
        ("still", objectives.ELBO(2), "is biased: mean"),
    ],
)
def test_a_wrong_estimator_is_told_its_fault(fault: str, objective: Any, said: str):
    with pytest.raises(testing.LawBroken) as broken:
        testing.check_gradient(Wrong(fault), [objective])
    assert said in str(broken.value)


def estimates(known: testing.Exact, gradient: Any, objective: Any, guide: Any, params: Any, n: int) -> tuple[Any, Any]:
    """Values and gradients of ``n`` independent surrogates."""
    problem = known.problem()

    def loss(params: Any, key: Any) -> Any:
        weights = LogWeights(problem.program, guide, key, problem.inputs, objective.particles)
        return gradient.surrogate(objective, weights, params, jnp.zeros(0))

    with scope("float64"):
        params = jax.tree.map(jnp.asarray, params)
        run = jax.jit(jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0)))
        return jax.tree.map(np.asarray, run(params, jax.random.split(jax.random.key(0), n)))


def fitted(known: testing.Exact, shift: float = 0.0) -> dict[str, Any]:
    """A full-rank guide at the posterior, or off it."""
    rng = np.random.default_rng(1)
    assert known.location is not None and known.covariance is not None
    params = guides.FullRank.from_moments(known.location, np.linalg.cholesky(known.covariance))
    return {n: v + shift * rng.standard_normal(np.shape(v)) for n, v in params.items()}


def exact_gradient(known: testing.Exact, params: Any) -> dict[str, Any]:
    """Of the ELBO of N(m, C C') on N(mu, S): -0.5 (m - mu)' P (m - mu) - 0.5 tr(P C C') + log det C + const."""
    with scope("float64"):
        precision = jnp.linalg.inv(jnp.asarray(known.covariance))

        def elbo(params: Any) -> Any:
            c = jnp.tril(params["lower"], -1) + jnp.diag(jnp.exp(params["log_diagonal"]))
            d = params["loc"] - known.location
            return -0.5 * d @ precision @ d - 0.5 * jnp.trace(precision @ c @ c.T) + params["log_diagonal"].sum()

        return jax.tree.map(np.asarray, jax.grad(elbo)(jax.tree.map(jnp.asarray, params)))


@pytest.mark.parametrize("particles", [1, 4])
@pytest.mark.parametrize("gradient", MEMBERS.values(), ids=MEMBERS)
@pytest.mark.parametrize("exact", [testing.conjugate_regression, testing.correlated_gaussian], ids=lambda f: f.__name__)
def test_the_mean_is_the_gradient_of_the_expected_elbo(exact: Any, gradient: Any, particles: int):
    known = exact()
    params, n = fitted(known, shift=0.3), 20_000
    _, found = estimates(known, gradient, objectives.ELBO(particles), guides.FullRank(), params, n)
    for name, expected in exact_gradient(known, params).items():
        g = np.asarray(found[name])
        se = g.std(axis=0) / np.sqrt(n) + 1e-9
        # 5 standard errors; parameters that do not count (the upper triangle) have gradient 0 exactly.
        assert np.all(np.abs(g.mean(axis=0) - np.asarray(expected)) < 5 * se), name


@pytest.mark.parametrize("gradient", MEMBERS.values(), ids=MEMBERS)
def test_the_value_is_the_estimate(gradient: Any):
    known = testing.conjugate_regression()
    params = fitted(known, shift=0.3)
    value, _ = estimates(known, gradient, objectives.ELBO(2), guides.FullRank(), params, 50)
    plain, _ = estimates(known, gradients.Pathwise(), objectives.ELBO(2), guides.FullRank(), params, 50)
    np.testing.assert_allclose(value, plain, rtol=1e-10)


def test_sticking_the_landing_is_zero_at_the_posterior():
    known = testing.conjugate_regression()
    _, found = estimates(known, gradients.StickingTheLanding(), objectives.ELBO(), guides.FullRank(), fitted(known), 20)
    for name, g in found.items():
        assert np.abs(g).max() < 1e-10, name


def test_pathwise_keeps_the_noise_of_the_score_at_the_posterior():
    # The score of N(m, S) in m has variance P; 20,000 draws give a variance to 1 %, and 5 % is 5 standard errors.
    known = testing.conjugate_regression()
    _, found = estimates(known, gradients.Pathwise(), objectives.ELBO(), guides.FullRank(), fitted(known), 20_000)
    assert known.covariance is not None
    expected = np.diag(np.linalg.inv(known.covariance))
    np.testing.assert_allclose(np.asarray(found["loc"]).var(axis=0), expected, rtol=0.05)


def test_pathwise_gradient_of_the_importance_weighted_bound():
    # Against finite differences of the same estimates: E of both is the gradient, and common keys cancel the noise.
    known, bound = testing.conjugate_normal(), objectives.IWAE(4)
    params = {"loc": np.array([7.5]), "log_scale": np.array([-0.6])}
    _, found = estimates(known, gradients.Pathwise(), bound, guides.MeanField(), params, 2000)
    for name in params:
        ends = []
        for sign in (1, -1):
            moved = {**params, name: params[name] + sign * 1e-5}
            value, _ = estimates(known, gradients.Pathwise(), bound, guides.MeanField(), moved, 2000)
            ends.append(float(np.mean(value)))
        np.testing.assert_allclose(np.mean(found[name]), (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-6)


def test_sticking_the_landing_refuses_what_it_would_bias():
    with pytest.raises(TautError) as refused:
        gradients.StickingTheLanding().valid_for(objectives.IWAE(4))
    assert refused.value.code == "bad-combination"
    gradients.StickingTheLanding().valid_for(objectives.IWAE(1))
    for gradient in MEMBERS.values():
        gradient.valid_for(objectives.ELBO(3))


@pytest.mark.parametrize("objective", [objectives.ELBO(3), objectives.IWAE(3)], ids=["ELBO", "IWAE"])
def test_the_score_function_is_unbiased_for_draws_that_do_not_follow_their_parameters(objective: Any):
    """z ~ Bern(.5), y ~ N(z, 1) = 2, guide Bern(p): every draw of K particles can be written down, and its gradient."""

    def model(y: Any) -> None:
        z = taut.sample("z", dist.Bernoulli(0.5))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide() -> None:
        p = taut.param("p", 0.3, constraint=dist.constraints.unit_interval)
        taut.sample("z", dist.Bernoulli(p))

    problem = taut.Problem(model, dict(y=2.0), discrete=True)
    bound = guides.bind(guide, problem)
    log_p = np.log(0.5) - 0.5 * (2.0 - np.arange(2.0)) ** 2 - 0.5 * np.log(2 * np.pi)
    draws = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3)

    def expected(u: Any) -> Any:
        log_q = jnp.stack([jax.nn.log_sigmoid(-u), jax.nn.log_sigmoid(u)])
        each = jax.vmap(lambda z: objective.reduce(jnp.asarray(log_p)[z] - log_q[z]))(draws)
        return jnp.sum(jnp.exp(jnp.sum(log_q[draws], axis=1)) * each)

    def loss(params: Any, key: Any) -> Any:
        weights = LogWeights(problem.program, bound, key, problem.inputs, 3)
        return gradients.ScoreFunction().surrogate(objective, weights, params, jnp.zeros(0))

    with scope("float64"):
        u = jnp.asarray(np.log(0.3 / 0.7))
        value, slope = (float(x) for x in jax.value_and_grad(expected)(u))
        run = jax.jit(jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0)))
        values, found = jax.tree.map(np.asarray, run({"p": u}, jax.random.split(jax.random.key(0), 40_000)))
    assert abs(values.mean() - value) < 4 * values.std() / 200
    assert abs(found["p"].mean() - slope) < 4 * found["p"].std() / 200


def test_the_score_function_needs_others_to_compare_with():
    with pytest.raises(TautError) as refused:
        gradients.ScoreFunction().valid_for(objectives.ELBO())
    assert refused.value.code == "bad-combination"
