"""Noise of weights drawn row by row: moments in closed form, the same ELBO, less noise, and what is refused."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist, nn
from taut._precision import scope
from taut.algorithms import SVI, Run
from taut.gradients import StickingTheLanding
from taut.guides import MeanField
from taut.guides._net import layers
from taut.objectives import ELBO, IWAE

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3))
Y = np.sin(X @ np.array([1.0, -2.0, 0.5]))
MLP: Any = eqx.nn.MLP(3, 1, 4, 2, activation=jnp.tanh, key=jax.random.key(0))


def network(x: Any, y: Any = None) -> None:
    net = nn.bayesian("net", MLP)
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Normal(jax.vmap(net)(x)[:, 0], 0.5), obs=y)


def posterior(problem: taut.Problem, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"loc": rng.normal(size=problem.dim) * 0.5, "log_scale": np.log(rng.uniform(0.1, 0.4, problem.dim))}


@pytest.mark.parametrize("layer", [nn.local_linear, nn.flipout_linear])
def test_moments_of_pre_activations(layer: Any):
    rng = np.random.default_rng(2)
    x, loc, scale = rng.normal(size=(3, 5)), rng.normal(size=(2, 5)), rng.uniform(0.2, 1.0, (2, 5))
    bias, spread = rng.normal(size=2), rng.uniform(0.2, 1.0, 2)
    n = 40_000
    with scope("float64"):
        keys = jax.random.split(jax.random.key(0), n)
        a = np.asarray(jax.vmap(lambda k: layer(k, x, loc, scale, bias, spread))(keys)).reshape(n, 6)
    # The law of a row is that of drawing the weights; rows and units are uncorrelated.
    mean = (x @ loc.T + bias).ravel()
    variance = (x**2 @ (scale**2).T + spread**2).ravel()
    sd = np.sqrt(variance)
    assert np.all(np.abs(a.mean(axis=0) - mean) < 5 * sd / np.sqrt(n))
    # The se of a normal's sample variance is sqrt(2 / n) of it, 0.7 %; of a sample correlation 1 / sqrt(n), 0.5 %.
    np.testing.assert_allclose(a.var(axis=0), variance, rtol=0.04)
    assert np.all(np.abs(np.corrcoef(a.T) - np.eye(6)) < 0.025)
    # Rows of normals are normal: kurtosis 3, se sqrt(24 / n) = 0.024.
    assert np.all(np.abs((((a - mean) / sd) ** 4).mean(axis=0) - 3.0) < 0.13)


def test_all_layers_of_a_network_are_found():
    problem = taut.Problem(network, dict(x=X, y=Y))
    assert set(nn.MeanFieldNet().layers(problem.program)) == set(problem.latents)


def test_a_layer_and_its_bias_are_drawn_at_once():
    # Equinox turns what `vmap` makes before it adds the bias; written by hand nothing lies between.
    def by_hand(x: Any) -> None:
        w = taut.sample("w", dist.Normal(0.0, 1.0).expand([3, 2]).to_event(2))
        b = taut.sample("b", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(x @ w + b, 1.0).to_event(1), obs=np.zeros((12, 2)))

    def shared(x: Any) -> None:
        w = taut.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        b = taut.sample("b", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal((x @ w)[:, None] + b, 1.0).to_event(1), obs=np.zeros((12, 2)))

    def together(model: Any, data: dict[str, Any]) -> list[tuple[str, bool]]:
        program = taut.Problem(model, data).program
        return [(p.kind, p.onto >= 0) for p in layers(program)]

    assert together(network, dict(x=X, y=Y)) == [("dot", False), ("add", True)] * 3
    assert together(by_hand, dict(x=X)) == [("dot", False), ("add", True)]
    # One product for two units: its noise is theirs together, and the bias has its own.
    assert together(shared, dict(x=X)) == [("dot", False), ("add", False)]


@pytest.mark.parametrize("noise", [nn.LocalReparametrisation(), nn.Flipout()])
def test_the_elbo_keeps_its_mean_and_loses_noise(noise: Any):
    problem = taut.Problem(network, dict(x=X, y=Y), precision="float64")
    guide, plain, inputs = nn.MeanFieldNet(noise), MeanField(), problem.inputs
    program, n = problem.program, 6_000
    with scope("float64"):
        params = jax.tree.map(jnp.asarray, posterior(problem))

        def likelihood(params: Any, key: Any, by_rows: bool) -> Any:
            point, _ = (guide if by_rows else plain).sample_and_log_prob(program, params, key, inputs)
            if by_rows:
                return guide.row_densities(program, params, point, jnp.zeros(0), inputs)["y"]
            return jnp.sum(dist.Normal(_outputs(program, point), 0.5).log_prob(Y))

        def _outputs(program: Any, point: Any) -> Any:
            leaves = [point.coordinates[program.layout[name]].reshape(s.shape) for name, s in program.latents.items()]
            w1, b1, w2, b2, w3, b3 = leaves
            return (jnp.tanh(jnp.tanh(X @ w1.T + b1) @ w2.T + b2) @ w3.T + b3)[:, 0]

        keys = jax.random.split(jax.random.key(3), n)
        each = jax.jit(jax.vmap(jax.value_and_grad(likelihood), in_axes=(None, 0, None)), static_argnums=2)
        both = [each(params, keys, by_rows) for by_rows in (True, False)]
    (ours, our_slope), (plains, slope) = [jax.tree.map(np.asarray, found) for found in both]
    se = np.sqrt((ours.var() + plains.var()) / n)
    assert abs(ours.mean() - plains.mean()) < 4 * se
    assert ours.var() < 0.8 * plains.var()
    for name in params:
        noise_of_mean = np.sqrt((our_slope[name].var(axis=0) + slope[name].var(axis=0)) / n)
        assert np.all(np.abs(our_slope[name].mean(axis=0) - slope[name].mean(axis=0)) < 5 * noise_of_mean)
        assert our_slope[name].var(axis=0).sum() < 0.8 * slope[name].var(axis=0).sum()


def test_the_optimum_of_linear_regression_is_that_of_mean_field():
    def model(x: Any, y: Any) -> None:
        layer: Any = nn.bayesian("net", eqx.nn.Linear(3, 1, key=jax.random.key(0)), prior=dist.Normal(0.0, 1.0))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(jax.vmap(layer)(x)[:, 0], 0.5), obs=y)

    problem = taut.Problem(model, dict(x=X, y=Y))
    found = Run()(SVI(ELBO(kl="analytic"), steps=6400), problem, nn.MeanFieldNet(), 0)
    design = np.concatenate([X, np.ones((12, 1))], axis=1)
    precision = design.T @ design / 0.25 + np.eye(4)
    sd = 1 / np.sqrt(np.diag(precision))
    # The average of 3,200 noisy iterates stays within a tenth of q's own spread.
    np.testing.assert_allclose(np.exp(found.params["log_scale"]), sd, rtol=0.03)
    assert np.all(np.abs(found.params["loc"] - np.linalg.solve(precision, design.T @ Y / 0.25)) < 0.1 * sd)


def test_weights_that_are_used_twice_are_drawn_once():
    def tied(x: Any, y: Any = None) -> None:
        w = nn.bayesian("w", np.zeros((3, 3)), prior=dist.Normal(0.0, 1.0))
        v = nn.bayesian("v", np.zeros(3), prior=dist.Normal(0.0, 1.0))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(jnp.tanh(jnp.tanh(x @ w) @ w) @ v, 0.5), obs=y)

    assert nn.MeanFieldNet().layers(taut.Problem(tied, dict(x=X, y=Y)).program) == ("v",)


def test_rows_that_meet_are_refused():
    def normalised(x: Any, y: Any = None) -> None:
        w = nn.bayesian("w", np.zeros(3), prior=dist.Normal(0.0, 1.0))
        f = x @ w
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(f - jnp.mean(f), 0.5), obs=y)

    with pytest.raises(taut.TautError, match="depend on the products of other rows"):
        taut.fit(normalised, dict(x=X, y=Y), guide=nn.MeanFieldNet(), algorithm=SVI(steps=10))

    def no_layer(y: Any) -> None:
        m = taut.sample("m", dist.HalfNormal(1.0))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Normal(m, 0.5), obs=y)

    with pytest.raises(taut.TautError, match="in one product and nowhere else"):
        taut.fit(no_layer, dict(y=Y), guide=nn.MeanFieldNet(), algorithm=SVI(steps=10))


def test_logarithms_of_means_and_other_estimators_are_refused():
    for algorithm in (SVI(IWAE(particles=4)), SVI(gradient=StickingTheLanding())):
        with pytest.raises(taut.TautError, match=r"\[bad-combination\].*"):
            taut.fit(network, dict(x=X, y=Y), guide=nn.MeanFieldNet(), algorithm=algorithm)


def test_dropout_leaves_out_inputs_of_inner_layers():
    problem = taut.Problem(network, dict(x=X, y=Y), precision="float64")
    guide = nn.MCDropout(rate=0.25, start=nn.AtModule("net", MLP))
    assert [p.name for p in guide.dropped(problem.program)] == ["net$layers[1].weight", "net$layers[2].weight"]
    params = guide.init(problem, 0)
    layout = problem.layout
    np.testing.assert_allclose(params["loc"][layout["net$layers[1].weight"]], np.ravel(MLP.layers[1].weight))
    point, _ = guide.draws(problem, params, 4000, np.random.default_rng(0))
    drawn = point.coordinates[:, layout["net$layers[1].weight"]].reshape(-1, 4, 4)
    ratio = drawn / np.asarray(MLP.layers[1].weight, float)
    # A column is dropped whole, or divided by 3/4.
    assert np.all(np.isclose(ratio, 0.0) | np.isclose(ratio, 4 / 3)) and np.all(np.ptp(ratio, axis=1) < 1e-9)
    assert abs((ratio == 0.0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 16_000)
    assert np.ptp(point.coordinates[:, layout["net$layers[0].weight"]], axis=0).max() == 0.0
    # The likelihood under dropout is the same whether masks are drawn by row or by network.
    values = problem.constrain(point.coordinates)
    by_network = np.array([_likelihood({n: v[i] for n, v in values.items()}) for i in range(4000)])
    with scope("float64"):
        real = jax.tree.map(jnp.asarray, params)

        def one(key: Any) -> Any:
            found, _ = guide.sample_and_log_prob(problem.program, real, key, problem.inputs)
            return guide.row_densities(problem.program, real, found, jnp.zeros(0), problem.inputs)["y"]

        by_row = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(1), 4000)))
    assert abs(by_row.mean() - by_network.mean()) < 4 * np.sqrt((by_row.var() + by_network.var()) / 4000)


def _likelihood(values: dict[str, np.ndarray]) -> float:
    h = X
    for layer in range(3):
        h = h @ values[f"net$layers[{layer}].weight"].T + values[f"net$layers[{layer}].bias"]
        h = np.tanh(h) if layer < 2 else h
    return float(np.sum(-0.5 * ((Y - h[:, 0]) / 0.5) ** 2 - np.log(0.5) - 0.5 * np.log(2 * np.pi)))


def test_it_is_mean_field_but_for_the_noise():
    problem = taut.Problem(network, dict(x=X, y=Y), precision="float64")
    params = posterior(problem)
    ours, theirs = (
        guide.draws(problem, params, 50, np.random.default_rng(0)) for guide in (nn.MeanFieldNet(), MeanField())
    )
    np.testing.assert_array_equal(ours[0].coordinates, theirs[0].coordinates)
    np.testing.assert_array_equal(ours[1], theirs[1])
    with scope("float64"):
        real = jax.tree.map(jnp.asarray, params)
        point, log_q = nn.MeanFieldNet().sample_and_log_prob(problem.program, real, jax.random.key(0), problem.inputs)
        again = MeanField().log_prob(problem.program, real, point, problem.inputs)
    np.testing.assert_allclose(log_q, again, rtol=1e-12)
    assert hash(nn.MeanFieldNet()) == hash(nn.MeanFieldNet()) and nn.MeanFieldNet() != nn.MeanFieldNet(nn.Flipout())


def test_scales_with_a_prior_of_their_own_leave_the_layers():
    def hierarchical(x: Any, y: Any = None) -> None:
        sd = taut.sample("sd", dist.HalfNormal(1.0))
        w = nn.bayesian("w", np.zeros(3), prior=lambda path, shape: dist.Normal(0.5, sd))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    problem, guide = taut.Problem(hierarchical, dict(x=X, y=Y), precision="float64"), nn.MeanFieldNet()
    assert guide.layers(problem.program) == ("w",)
    params, inputs = posterior(problem), problem.inputs
    # Closed form: y - x m is normal with variance (x^2 s^2), so that E (y - f)^2 = (y - x m)^2 + x^2 s^2.
    part = problem.layout["w"]
    mean, sd = params["loc"][part], np.exp(params["log_scale"][part])
    squares = (Y - X @ mean) ** 2 + X**2 @ sd**2
    expected = float(np.sum(-0.5 * squares / 0.25 - np.log(0.5) - 0.5 * np.log(2 * np.pi)))
    with scope("float64"):
        real = jax.tree.map(jnp.asarray, params)

        def one(key: Any) -> Any:
            point, _ = guide.sample_and_log_prob(problem.program, real, key, inputs)
            return guide.row_densities(problem.program, real, point, jnp.zeros(0), inputs)["y"]

        found = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(0), 8000)))
    assert abs(found.mean() - expected) < 5 * found.std() / np.sqrt(8000)
