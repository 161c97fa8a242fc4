"""Mistakes in the answer, cases 41 to 47: the answer is right, or the result says what is wrong with it."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import taut
from taut import dist, gradients, guides, objectives
from taut._errors import TautError
from taut.algorithms import MAP, SVI, FlowSVI, Laplace
from taut.diagnostics import TRUSTED

POSITIVE = dist.constraints.positive


def refused(code: str, make: Any) -> TautError:
    with pytest.raises(TautError) as caught:
        make()
    assert caught.value.code == code
    return caught.value


def conjugate(y: Any) -> None:
    x = taut.sample("x", dist.Normal(0.0, 1.0))
    taut.sample("y", dist.Normal(x, 0.5), obs=y)


def test_case_41_defaults_solve_the_conjugate_model():
    fit = taut.fit(conjugate, dict(y=10.0))
    # N(8, 1/5); 16,000 draws know the mean to 0.0035 and the sd to 0.6 %.
    assert abs(float(fit["x"].mean) - 8.0) < 0.05
    assert abs(float(fit["x"].sd) / 0.2**0.5 - 1.0) < 0.05
    assert abs(fit.elbo + 41.0305) < 0.01 and fit.verdict.level == TRUSTED


@pytest.mark.parametrize("optimizer", [None, optax.adam(1e-3)], ids=["default", "adam"])
def test_case_41_a_run_without_enough_steps_is_never_bare(optimizer: Any):
    fit = taut.fit(conjugate, dict(y=10.0), guide=guides.MeanField(), algorithm=SVI(optimizer=optimizer, steps=50))
    assert fit.status == "budget" and fit.verdict.level != TRUSTED
    assert "budget" in str(fit).split("16,000")[0]


def correlated() -> None:
    taut.sample("pair", dist.MultivariateNormal(jnp.zeros(2), jnp.array([[1.0, 0.9], [0.9, 1.0]])))


@pytest.mark.parametrize("verify", [True, False])
def test_case_42_mean_field_on_a_correlated_posterior(verify: bool):
    fit = taut.fit(correlated, guide=guides.MeanField(), verify=verify)
    q = fit.guide_draws.get("pair", fit.values["pair"])
    assert np.all(np.abs(q.std(axis=0) / (1 - 0.9**2) ** 0.5 - 1) < 0.05)  # sqrt(1 - rho^2) = 0.436
    assert fit.verdict.level != TRUSTED
    (note,) = [note for note in fit.verdict.notes if "correlate" in note]
    assert "pair[0]" in note and "pair[1]" in note and "FullRank()" in note and "LowRank()" in note
    if verify:
        # The draws that the verdict covers are the posterior's: sd 1, correlation 0.9.
        assert np.all(np.abs(fit["pair"].sd - 1.0) < 0.06) and abs(fit.corr("pair")[0, 1] - 0.9) < 0.02
    better = taut.fit(correlated, guide=guides.FullRank())
    assert better.verdict.level == TRUSTED and abs(better.corr("pair")[0, 1] - 0.9) < 0.02
    assert not [note for note in better.verdict.notes if "correlate" in note]


def test_case_42_the_pair_is_named_across_sites():
    def model(y: Any) -> None:
        a = taut.sample("a", dist.Normal(0.0, 1.0))
        b = taut.sample("b", dist.Normal(0.0, 1.0))
        taut.sample("c", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(a + b, 0.5), obs=y)

    fit = taut.fit(model, dict(y=1.0), guide=guides.MeanField())
    (note,) = [note for note in fit.verdict.notes if "correlate" in note]
    # Precision [[5, 4], [4, 5]]: the correlation is -0.8.
    assert note.startswith("a and b correlate at -0.8")


def test_case_43_a_guide_with_heavier_tails_than_the_target():
    def model() -> None:
        taut.sample("x", dist.Normal(0.0, 1.0))

    def guide() -> None:
        taut.sample("x", dist.Cauchy(taut.param("loc", 0.0), taut.param("scale", 1.0, constraint=POSITIVE)))

    fit = taut.fit(model, guide=guide, algorithm=SVI(steps=400))
    (note,) = [note for note in fit.verdict.notes if "no finite mean" in note]
    assert "its average over 160, 1,600, 16,000 draws" in note and "dist.Normal" in note
    assert np.isnan(fit.elbo) and "ELBO -" not in str(fit) and fit.verdict.level != TRUSTED


def test_case_44_a_discrete_site_of_the_guide():
    def model(y: Any) -> None:
        z = taut.sample("coin", dist.Bernoulli(0.5))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide() -> None:
        taut.sample("coin", dist.Bernoulli(taut.param("p", 0.5, constraint=dist.constraints.unit_interval)))

    exact = 1 / (1 + np.exp(-1.5))  # log odds (2 - 1/2), that is 0.8176
    fit = taut.fit(model, dict(y=2.0), guide=guide)
    assert abs(float(fit.unconstrained["p"].value) - exact) < 0.005
    assert abs(float(fit["coin"].mean) - exact) < 4 * 0.386 / np.sqrt(16_000) + 0.005
    log_z = np.log(0.5 * np.exp(-2.0) + 0.5 * np.exp(-0.5)) - 0.5 * np.log(2 * np.pi)
    assert abs(fit.log_evidence - log_z) < 0.002 and fit.facts["gradient"] == "ScoreFunction"
    # Without a guide it is summed out, and its posterior is exact.
    summed = taut.fit(model, dict(y=2.0))
    assert summed.verdict.level == TRUSTED and abs(summed.log_evidence - log_z) < 1e-12
    assert abs(summed.probabilities("coin")[1] - exact) < 1e-12 and summed.most_probable("coin") == 1
    assert abs(float(summed["coin"].mean) - exact) < 4 * 0.386 / np.sqrt(16_000)
    # Never "p stays where it was": with a gradient that cannot move it, a refusal.
    pathwise = SVI(gradient=gradients.Pathwise())
    error = refused("bad-combination", lambda: taut.fit(model, dict(y=2.0), guide=guide, algorithm=pathwise))
    assert error.site == "coin" and "ScoreFunction()" in error.remedy and "ELBO(particles=16)" in error.remedy


def test_case_44_discrete_rows_beside_a_continuous_latent():
    """A mixture with its memberships as sites; q factorises, so its optimum is that of coordinate ascent."""
    y = np.array([-2.1, -1.8, -2.4, 2.2, 1.7, 2.0])

    def model(y: Any) -> None:
        shift = taut.sample("shift", dist.Normal(0.0, 1.0))
        with taut.plate("rows", len(y)):
            side = taut.sample("side", dist.Bernoulli(0.5))
            taut.sample("y", dist.Normal(shift + 2.0 * (2 * side - 1), 1.0), obs=y)

    def guide(y: Any) -> None:
        taut.sample("shift", dist.Normal(taut.param("m", 0.5), taut.param("s", 0.5, constraint=POSITIVE)))
        logits = taut.param("logits", jnp.zeros(len(y)))
        with taut.plate("rows", len(y)):
            taut.sample("side", dist.Bernoulli(logits=logits))

    m, s2, p = 0.0, 1 / (1 + len(y)), np.zeros(6)
    for _ in range(50):
        p = 1 / (1 + np.exp(-4.0 * (y - m)))
        m = s2 * np.sum(y - 2.0 * (2 * p - 1))
    fit = taut.fit(model, dict(y=y), guide=guide)
    assert abs(float(fit["shift"].mean) - m) < 0.05 * s2**0.5 + 4 * s2**0.5 / np.sqrt(16_000)
    assert abs(float(fit["shift"].sd) / s2**0.5 - 1) < 0.06
    assert np.all(np.abs(fit["side"].mean - p) < 0.02)


def test_case_44_a_mixture_guide_learns_its_weights():
    """x ~ N(0.4, 1) seen through |x|: two modes of unequal mass, whose masses are known by quadrature."""

    def model(y: Any) -> None:
        x = taut.sample("x", dist.Normal(0.4, 1.0))
        taut.sample("y", dist.Normal(jnp.abs(x), 0.3), obs=y)

    def guide() -> None:
        weights = taut.param("weights", jnp.array([0.5, 0.5]), constraint=dist.constraints.simplex)
        loc = taut.param("loc", jnp.array([-1.0, 1.0]))
        scale = taut.param("scale", jnp.array([0.5, 0.5]), constraint=POSITIVE)
        taut.sample("x", dist.MixtureSameFamily(dist.Categorical(probs=weights), dist.Normal(loc, scale)))

    grid = np.linspace(-8, 8, 40_001)
    density = np.exp(-0.5 * (grid - 0.4) ** 2 - 0.5 * ((2.0 - np.abs(grid)) / 0.3) ** 2)
    left = density[grid < 0].sum() / density.sum()
    fit = taut.fit(model, dict(y=2.0), guide=guide)
    assert abs(float(fit.unconstrained["weights"].value[0]) - left) < 0.01
    mean = (grid * density).sum() / density.sum()
    assert abs(float(fit["x"].mean) - mean) < 0.05


@pytest.mark.parametrize("algorithm", [Laplace(), MAP(), None], ids=["laplace", "map", "auto"])
def test_case_45_a_flat_direction(algorithm: Any):
    def model(y: Any) -> None:
        a = taut.sample("height", dist.ImproperUniform(dist.constraints.real, (), ()))
        b = taut.sample("depth", dist.ImproperUniform(dist.constraints.real, (), ()))
        taut.sample("firm", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(a + b, 1.0), obs=y)

    if isinstance(algorithm, Laplace):
        error = refused("flat-direction", lambda: taut.fit(model, dict(y=2.0), algorithm=algorithm))
        assert "height" in error.found and "depth" in error.found and "firm" not in error.found
        assert "proper prior" in error.remedy
        return
    fit = taut.fit(model, dict(y=2.0), algorithm=algorithm)
    assert fit.verdict.level == "not trusted"
    assert "height, depth" in fit.verdict.headline and "firm" not in fit.verdict.headline


def test_case_46_one_latent_works_with_every_family():
    for guide in (guides.MeanField(), guides.FullRank(), guides.LowRank()):
        fit = taut.fit(conjugate, dict(y=10.0), guide=guide)
        assert abs(fit.elbo + 41.0305) < 0.02 and abs(float(fit["x"].mean) - 8.0) < 0.05


@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
def test_case_46_a_flow_in_one_dimension_begins_at_the_gaussian_and_ends_no_worse(kind: Any):
    algorithm, guide = FlowSVI(steps=800), guides.Flow(kind)
    problem = taut.Problem(conjugate, dict(y=10.0))
    state = algorithm.init(problem, guide, 0)
    while state.flow is None:
        state, _ = algorithm.step(problem, guide, state)
    # Before its first step the flow is the posterior N(8, 1/5), so that every log weight is the log evidence.
    fresh = {name: np.asarray(value) for name, value in state.flow.learned.guide.items()}
    point, log_q = guide.draws(problem, fresh, 100, np.random.default_rng(0))
    assert isinstance(point, guides.Flat)
    log_p, _ = problem.kernel()(point.coordinates, np.ones(1))
    np.testing.assert_allclose(log_p - log_q, -41.0305, atol=1e-3)
    fit = taut.fit(conjugate, dict(y=10.0), guide=guide, algorithm=algorithm)
    assert abs(fit.elbo + 41.0305) < 1e-3 and abs(float(fit["x"].mean) - 8.0) < 0.01


def batch_norm(inference: bool) -> Any:
    layer, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(1, axis_name="rows", mode="batch")
    return (eqx.nn.inference_mode(layer) if inference else layer), state


@pytest.mark.parametrize("inference", [False, True])
def test_case_47_batch_norm(inference: bool):
    layer, state = batch_norm(inference)

    def helper(x: Any) -> Any:
        out, _ = jax.vmap(layer, axis_name="rows", in_axes=(0, None), out_axes=(0, None))(x, state)
        return out

    def model(x: Any, y: Any) -> None:
        slope = taut.sample("slope", dist.Normal(0.0, 1.0))
        mean = helper((slope * x)[:, None])[:, 0]
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Normal(mean, 1.0), obs=y)

    data = dict(x=np.array([0.0, 1.0, 3.0]), y=np.array([0.1, 1.2, 2.9]))
    algorithm = SVI(objective=objectives.ELBO(4), steps=100)
    if inference:
        taut.Problem(model, data)
        return
    error = refused("side-effect", lambda: taut.fit(model, data, guide=guides.MeanField(), algorithm=algorithm))
    assert "BatchNorm" in error.found and "inference_mode" in error.remedy


def test_case_47_a_running_state_of_ones_own():
    state = {"mean": 0.0, "steps": [1.0]}

    def helper(x: Any) -> Any:
        state["mean"] = 0.9 * state["mean"] + 0.1 * x
        return x - state["mean"]

    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(helper(mu), 1.0), obs=y)

    error = refused("side-effect", lambda: taut.Problem(model, dict(y=1.0)))
    assert error.site == "state['mean']" and "taut.deterministic" in error.remedy


def test_case_47_a_state_inside_of_an_encoder():
    layer, state = batch_norm(False)

    def model(y: Any) -> None:
        with taut.plate("rows", len(y)):
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(z, 1.0), obs=y)

    def encoder(y: Any) -> None:
        out, _ = jax.vmap(layer, axis_name="rows", in_axes=(0, None), out_axes=(0, None))(y[:, None], state)
        with taut.plate("rows", len(y)):
            taut.sample("z", dist.Normal(taut.param("slope", 0.5) * out[:, 0], 0.7))

    algorithm = SVI(objective=objectives.ELBO(4), steps=100)
    error = refused(
        "side-effect",
        lambda: taut.fit(model, dict(y=np.array([0.1, 1.2, 2.9])), guide=encoder, algorithm=algorithm),
    )
    assert error.site == "layer" and "BatchNorm" in error.found


def test_case_47_notes_that_a_model_takes_are_left_alone():
    seen: list[Any] = []

    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        seen.append(mu)
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)

    taut.Problem(model, dict(y=1.0))
    taut.Problem(model, dict(y=2.0))
