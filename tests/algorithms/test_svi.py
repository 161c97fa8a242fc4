"""SVI: it solves without tuning, knows when it has, and says what broke."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import taut
from taut import dist, gradients, guides, objectives, testing
from taut._errors import TautError
from taut.algorithms import SVI, Progress, Run, Solution
from taut.algorithms._convergence import CONVERGED, DIVERGED, PLATEAUED, RUNNING, Stages, judge_stage, stage_bounds
from taut.algorithms._optimizer import optimizer_for
from taut.problem import Problem, compilations

positive = dist.constraints.positive


def fit(svi: SVI, problem: Problem, guide: Any, key: int = 0) -> tuple[Solution, list[Progress]]:
    run = Run()
    return run(svi, problem, guide, key), run.history


@pytest.mark.parametrize("key", [0, 1])
def test_the_conjugate_normal_needs_no_tuning(key: int):
    # PyMC issue 6271: defaults there end at 3.11. Exact: 8.0 and 0.4472.
    known = testing.conjugate_normal()
    solution, history = fit(SVI(), known.problem(), guides.MeanField(), key)
    assert solution.status == "converged"
    assert abs(solution.params["loc"][0] - 8.0) < 0.05
    assert np.exp(solution.params["log_scale"][0]) == pytest.approx(0.44721, rel=0.05)
    assert abs(history[-1].elbo - known.log_evidence) < 0.02


def test_coefficients_of_very_different_sizes():
    rng = np.random.default_rng(0)
    units = np.array([1.0, 1e-2, 1.0, 1e3])
    x = np.concatenate([np.ones((200, 1)), rng.standard_normal((200, 3))], axis=1) * units
    y = x @ np.array([50.0, 200.0, -3.0, 0.002]) + 0.5 * rng.standard_normal(200)

    def model(x: Any, y: Any) -> None:
        b = taut.sample("b", dist.Normal(0.0, 1e3).expand([4]).to_event(1))
        with taut.plate("rows", 200):
            taut.sample("y", dist.Normal(x @ b, 0.5), obs=y)

    precision = x.T @ x / 0.25 + np.eye(4) / 1e6
    exact, sd = np.linalg.solve(precision, x.T @ y / 0.25), 1 / np.sqrt(np.diag(precision))
    solution, _ = fit(SVI(), Problem(model, {"x": x, "y": y}), guides.MeanField())
    assert solution.status == "converged"
    assert np.all(np.abs(solution.params["loc"] - exact) < 0.1 * sd)
    np.testing.assert_allclose(np.exp(solution.params["log_scale"]), sd, rtol=0.05)


def test_a_slow_ridge_is_not_called_converged():
    # Calendar years against an intercept: a correlation of 0.9996, which first-order steps cannot cross in the budget.
    x = np.arange(1950.0, 2021.0)
    y = 3.0 + 0.02 * (x - 1985) + 0.3 * np.random.default_rng(0).standard_normal(71)

    def model(x: Any, y: Any) -> None:
        a, b = taut.sample("a", dist.Normal(0.0, 100.0)), taut.sample("b", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 71):
            taut.sample("y", dist.Normal(a + b * x, 0.3), obs=y)

    solution, history = fit(SVI(steps=3200), Problem(model, {"x": x, "y": y}), guides.MeanField())
    assert solution.status == "budget"
    assert history[-1].gradients == 3200
    assert "gained" in solution.notes[0]


def test_minibatches_of_a_large_normal_sample():
    n = 1000
    y = np.random.default_rng(3).normal(103.0, 1.0, n)

    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 100.0))
        with taut.plate("rows", n, subsample_size=100) as rows:
            taut.sample("y", dist.Normal(mu, 1.0), obs=y[rows])

    solution, history = fit(SVI(steps=6400), Problem(model, {"y": y}, subsample=True), guides.MeanField())
    sd = 1 / np.sqrt(n + 1e-4)
    # The rows' noise moves the average by some hundredths of its sd only after the last, longest stage.
    assert abs(solution.params["loc"][0] - y.sum() / (n + 1e-4)) < 0.2 * sd
    # The wrong scale factor gives sqrt(10) times as much.
    assert np.exp(solution.params["log_scale"][0]) == pytest.approx(sd, rel=0.05)
    assert solution.status in ("plateaued", "budget")
    exact = -0.5 * n * np.log(2 * np.pi) - 0.5 * ((y - y.mean()) ** 2).sum() - np.log(100 * np.sqrt(n)) - 0.5 * 1.03**2
    mean = np.mean([p.elbo for p in history[-4:]])
    se = np.sqrt(np.mean([p.se**2 for p in history[-4:]]) / 4)
    assert abs(mean - exact) < 5 * se + 0.1


def test_local_latents_follow_their_rows():
    n = 60
    y = np.random.default_rng(0).normal(2.0, 3.0, n)

    def model(y: Any) -> None:
        with taut.plate("rows", n, subsample_size=20) as rows:
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(z, 1.0), obs=y[rows])

    def guide() -> None:
        loc, scale = taut.param("loc", np.zeros(n)), taut.param("scale", np.full(n, 0.5), constraint=positive)
        with taut.plate("rows", n, subsample_size=20) as rows:
            taut.sample("z", dist.Normal(loc[rows], scale[rows]))

    problem = Problem(model, {"y": y}, subsample=True)
    solution, _ = fit(SVI(steps=6400), problem, guide)
    # Posterior of each z: N(y / 2, 1 / sqrt 2).
    np.testing.assert_allclose(solution.params["loc"], y / 2, atol=0.03)
    np.testing.assert_allclose(np.exp(solution.params["scale"]), np.sqrt(0.5), rtol=0.05)
    with pytest.raises(TautError) as refused:
        SVI().init(problem, guides.FullRank(), 0)
    assert (refused.value.code, refused.value.site) == ("bad-combination", "z")


def test_parameters_of_the_model_are_learned_with_the_guide():
    # y ~ N(mu, s), mu ~ N(0, 1): the marginal likelihood of s has its maximum where this root finder puts it.
    y = np.random.default_rng(1).normal(0.7, 2.0, 40)

    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        scale = taut.param("scale", 1.0, constraint=positive)
        with taut.plate("rows", 40):
            taut.sample("y", dist.Normal(mu, scale), obs=y)

    grid = np.linspace(1.0, 4.0, 3001)
    n, total, squares = 40, y.sum(), (y**2).sum()
    v = 1 / (1 + n / grid**2)
    log_z = -n * np.log(grid) - 0.5 * squares / grid**2 + 0.5 * np.log(v) + 0.5 * v * (total / grid**2) ** 2
    solution, _ = fit(SVI(), Problem(model, {"y": y}), guides.MeanField())
    assert np.exp(solution.model_params[0]) == pytest.approx(grid[log_z.argmax()], rel=0.01)


def test_the_chunk_does_not_change_the_result():
    known = testing.conjugate_regression()
    found = [fit(SVI(steps=900, chunk=c), known.problem(), guides.MeanField())[0] for c in (64, 900)]
    for name in found[0].params:
        assert np.array_equal(found[0].params[name], found[1].params[name])


def test_a_second_run_compiles_nothing_whatever_objects_it_is_made_of():
    def guide() -> None:
        taut.sample("x", dist.Normal(taut.param("m", 0.0), taut.param("s", 1.0, constraint=positive)))

    counts = []
    for _ in range(3):
        before = compilations()
        svi = SVI(objective=objectives.IWAE(2), optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 500)), steps=500)
        fit(svi, testing.conjugate_normal().problem(), lambda: guide())
        counts.append(compilations() - before)
    assert counts == [3, 0, 0]  # start, loop, comparison
    one, other = optax.adam(1e-2), optax.adam(2e-2)
    params = {"a": jnp.zeros(2)}
    assert optimizer_for(one, params) == optimizer_for(optax.adam(1e-2), params) != optimizer_for(other, params)


def test_optax_optimisers_walk_uphill():
    known = testing.conjugate_normal()
    svi = SVI(optimizer=optax.adam(optax.cosine_decay_schedule(0.3, 3000)), steps=3000)
    solution, _ = fit(svi, known.problem(), guides.MeanField())
    assert abs(solution.params["loc"][0] - 8.0) < 0.05


def test_a_run_that_breaks_names_step_site_and_parameter_and_keeps_the_last_finite_state():
    known = testing.eight_schools()
    solution, history = fit(SVI(optimizer=optax.sgd(1e6)), known.problem(), guides.MeanField())
    assert solution.status == "nonfinite"
    assert all(np.all(np.isfinite(v)) for v in solution.params.values())
    assert "step 1:" in solution.notes[0] and "'tau'" in solution.notes[0] and "log_scale of" in solution.notes[0]
    assert len(history) == 1


def test_an_impossible_start_is_an_error_that_names_the_site():
    def model() -> None:
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.factor("never", jnp.log(x - 1e6))

    with pytest.raises(TautError) as refused:
        fit(SVI(), Problem(model, {}), guides.MeanField())
    assert (refused.value.code, refused.value.site) == ("impossible-start", "never")


def test_wrong_pairs_are_refused():
    with pytest.raises(TautError) as refused:
        SVI(objective=objectives.IWAE(4), gradient=gradients.StickingTheLanding())
    assert refused.value.code == "bad-combination"
    assert isinstance(SVI(objective=objectives.IWAE(4)).estimator, gradients.DoublyReparam)
    assert isinstance(SVI().estimator, gradients.StickingTheLanding)

    def mixture() -> None:
        weights = taut.param("w", np.array([0.5, 0.5]), constraint=dist.constraints.simplex)
        taut.sample("x", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(jnp.array([-1.0, 1.0]), 1.0)))

    for guide in (mixture, guides.GaussianMixture(2)):
        with pytest.raises(TautError) as refused:
            fit(SVI(gradient=gradients.Pathwise()), testing.conjugate_normal().problem(), guide)
        assert refused.value.code == "bad-combination"
    wrongs: list[dict[str, Any]] = [{"steps": 0}, {"chunk": 1.5}, {"optimizer": 0.1}]
    for wrong in wrongs:
        with pytest.raises(TautError) as refused:
            fit(SVI(**wrong), testing.conjugate_normal().problem(), guides.MeanField())
        assert refused.value.code == "bad-argument"


def test_the_test_for_convergence_is_aware_of_noise():
    rng = np.random.default_rng(0)
    assert [stage_bounds(s, 5000) for s in (0, 399, 400, 1600, 4999)] == [
        (0, 400),
        (0, 400),
        (400, 800),
        (1600, 3200),
        (3200, 5000),
    ]
    # Started at the answer: nothing moves, and that is converged, not diverged.
    stages, better = Stages(), False
    for _ in range(3):
        stages, better = judge_stage(stages, 1e-5 * rng.standard_normal(200), 0.01)
    assert (stages.status, better) == (CONVERGED, True)
    # Noise that hides everything is a plateau, and only after several stages.
    stages, seen = Stages(), []
    for _ in range(5):
        noise = 50.0 * rng.standard_normal(100)
        stages, _ = judge_stage(stages, np.concatenate([noise, -noise]), 0.01)
        seen.append(stages.status)
    assert seen == [RUNNING] * 4 + [PLATEAUED]
    # A steady gain far below the noise of one estimate keeps going; a loss keeps the better average.
    stages = Stages(finished=6)
    stages, _ = judge_stage(stages, 0.5 + 2.0 * rng.standard_normal(400), 0.01)
    assert stages.status == RUNNING
    assert judge_stage(Stages(), -1.0 + 0.1 * rng.standard_normal(200), 0.01)[1] is False
    # A fit that ran away loses, though the squares of its losses overflow.
    stages = Stages()
    for _ in range(3):
        stages, better = judge_stage(stages, -1e200 * (1.0 + 0.1 * rng.standard_normal(200)), 0.01)
        assert not better
    assert stages.status == DIVERGED


def test_a_discrete_draw_keeps_the_weight_of_the_kl_term():
    """By default a draw by the score function has 16 particles: of the objective that was asked for, not of the ELBO.

    z ~ Bern(.3), y ~ N(2 z, 1) = 1.4: the best logit is that of the prior plus the likelihood's over beta.
    """

    def model(y: Any) -> None:
        z = taut.sample("z", dist.Bernoulli(0.3))
        taut.sample("y", dist.Normal(2.0 * z, 1.0), obs=y)

    def guide() -> None:
        taut.sample("z", dist.Bernoulli(logits=taut.param("logit", 0.0)))

    problem = Problem(model, dict(y=1.4), discrete=True)
    for beta in (1.0, 3.0):
        solution, _ = fit(SVI(objective=objectives.Tempered(beta), steps=1600), problem, guides.bind(guide, problem))
        # Near a maximum of curvature p (1 - p) beta an objective within .01 nats is a logit within .3, and the average
        # of 800 steps is nearer.
        assert abs(float(solution.params["logit"]) - (np.log(0.3 / 0.7) + 0.8 / beta)) < 0.05
