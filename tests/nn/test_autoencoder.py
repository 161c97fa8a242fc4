"""Autoencoders against linear Gaussian ones, whose evidence, posterior and bounds are closed forms."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import taut
from taut import dist, nn
from taut._precision import scope
from taut.algorithms import SVI, Solution, by_row, weights_of
from taut.fitting._params import params_of
from taut.gradients import DoublyReparam, Pathwise
from taut.guides import bind
from taut.nn._held_out import _Estimates, weighed
from taut.objectives import ELBO, IWAE

RNG = np.random.default_rng(0)
PIXELS, LATENTS, NOISE, STEP = 6, 2, 0.6, 0.7
# Orthogonal columns, so that the posterior falls apart into latents, as q does.
LOADINGS = np.linalg.qr(RNG.normal(size=(PIXELS, LATENTS)))[0] * np.array([1.5, 0.8])
OFFSET = RNG.normal(size=PIXELS)
DEEP, DEEP_OFFSET = np.array([[0.9], [0.0]]), RNG.normal(size=LATENTS)
GAUSSIAN = nn.GaussianLikelihood(scale=NOISE)


def linear(weight: np.ndarray, bias: np.ndarray, log_scale: Any = None) -> nn.Dense:
    """``weight @ row + bias``, and with it a log scale that is the same for every row."""
    out, into = weight.shape
    layer = nn.Dense(into, (), out, normal=log_scale is not None)
    if log_scale is not None:
        weight = np.concatenate([weight, np.zeros_like(weight)])
        bias = np.concatenate([bias, np.broadcast_to(log_scale, out)])
    return eqx.tree_at(lambda d: (d.weights[0], d.biases[0]), layer, (weight.T, bias))


def one_layer(wider: float = 1.0) -> nn.VAE:
    """The posterior for encoder, its standard deviations ``wider`` times as wide."""
    precision = 1 + np.diag(LOADINGS.T @ LOADINGS) / NOISE**2
    code = LOADINGS.T / NOISE**2 / precision[:, None]
    encoder = linear(code, -code @ OFFSET, np.log(wider) - 0.5 * np.log(precision))
    return nn.VAE(encoder, linear(LOADINGS, OFFSET), LATENTS, GAUSSIAN)


def two_layers(shift: float = 0.0) -> nn.VAE:
    """The posterior for both encoders, the upper one's locations off by ``shift``."""
    prior = DEEP @ DEEP.T + STEP**2 * np.eye(LATENTS)
    precision = 1 / np.diag(prior) + np.diag(LOADINGS.T @ LOADINGS) / NOISE**2
    code = LOADINGS.T / NOISE**2 / precision[:, None]
    at = DEEP_OFFSET / np.diag(prior) / precision - code @ OFFSET
    above = 1 + np.diag(DEEP.T @ DEEP) / STEP**2
    up = DEEP.T / STEP**2 / above[:, None]
    encoders = [linear(code, at, -0.5 * np.log(precision)), linear(up, shift - up @ DEEP_OFFSET, -0.5 * np.log(above))]
    decoders = [linear(LOADINGS, OFFSET), linear(DEEP, DEEP_OFFSET, np.log(STEP))]
    return nn.VAE(encoders, decoders, (LATENTS, 1), GAUSSIAN)


def evidence(layers: int) -> Any:
    """The distribution of rows."""
    within = np.eye(LATENTS) if layers == 1 else DEEP @ DEEP.T + STEP**2 * np.eye(LATENTS)
    mean = OFFSET if layers == 1 else LOADINGS @ DEEP_OFFSET + OFFSET
    cov: Any = LOADINGS @ within @ LOADINGS.T + NOISE**2 * np.eye(PIXELS)
    return multivariate_normal(mean, cov)


def rows_of(layers: int, n: int) -> np.ndarray:
    return evidence(layers).rvs(n, random_state=1)


def untrained(vae: nn.VAE, x: np.ndarray, precision: Any = "float64") -> Any:
    """What a fit of no steps would be: the modules' own weights."""
    problem = taut.Problem(vae.model, taut.data.Batches(dict(x=x), len(x), vae.plate), precision=precision)
    guide = bind(vae.guide, problem)
    (inits,) = problem.kernel().constants(("init",))
    model = np.concatenate([inits[name].ravel() for name in problem.params])
    solution = Solution(guide, guide.init(problem, 0), model, "budget")
    facts = {"precision": precision}
    return SimpleNamespace(problem=problem, solution=solution, params=params_of(problem, solution), facts=facts)


# -- held-out log-likelihoods ---------------------------------------------------------------------------------------


# What is compiled depends on the shapes alone: these share it.
TESTED = dict(samples=514, particles=4, size=50)


@pytest.mark.parametrize("layers, vae", [(1, one_layer()), (2, two_layers())])
def test_with_the_posterior_for_encoder_every_estimate_is_the_log_likelihood_of_its_row(layers: int, vae: nn.VAE):
    x = rows_of(layers, 123)
    exact = evidence(layers).logpdf(x)
    # 123 rows, 50 at a time, 514 draws in groups of 4: nothing is even.
    found = nn.held_out(untrained(vae, x), dict(x=x), **TESTED)
    for name, values in found.by_row.items():
        np.testing.assert_allclose(values, exact, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(found.effective, 514)
    value, se = found.log_likelihood
    assert value == pytest.approx(exact.mean(), abs=1e-9)
    assert se == pytest.approx(exact.std(ddof=1) / np.sqrt(123), rel=1e-6)


def test_bounds_of_another_encoder():
    x = rows_of(1, 400)
    exact, wider = evidence(1).logpdf(x), 1.4
    found = nn.held_out(untrained(one_layer(wider), x), dict(x=x), **TESTED)
    off = {name: values - exact for name, values in found.by_row.items()}

    def check(name: str, expected: float, bias: float = 0.0) -> None:
        se = off[name].std(ddof=1) / 20  # the Monte Carlo error of the mean over 400 rows
        assert abs(off[name].mean() - expected) < 5 * se + bias, name

    # KL of N(m, (w s)^2) from N(m, s^2), of two latents.
    check("elbo", -LATENTS * (0.5 * (wider**2 - 1) - np.log(wider)))
    # log w = 2 log(wider) - (wider^2 - 1) t, t half a chi-square of two degrees: a standard exponential. The bounds
    # of 4, 3 and 2 draws by Gauss-Laguerre.
    nodes, weights = np.polynomial.laguerre.laggauss(20)
    each = 2 * np.log(wider) - (wider**2 - 1) * nodes
    bound = {}
    for k in (4, 3, 2):
        grid = np.stack(np.meshgrid(*[each] * k)).reshape(k, -1)
        share = np.prod(np.stack(np.meshgrid(*[weights] * k)).reshape(k, -1), axis=0)
        bound[k] = float(share @ (np.logaddexp.reduce(grid, axis=0) - np.log(k)))
    check("iwae", bound[4])
    check("jvi1", 4 * bound[4] - 3 * bound[3])
    check("jvi2", 8 * bound[4] - 9 * bound[3] + 2 * bound[2])
    # The relative variance of the weights, over twice their number.
    spread = float(weights @ np.exp(2 * each) - 1)
    check("log_likelihood", -spread / 2 / 514, bias=spread**2 / 514)
    assert np.median(found.effective) == pytest.approx(514 / (1 + spread), rel=0.05)


def test_bounds_of_another_upper_encoder():
    x, shift = rows_of(2, 300), 0.3
    exact = evidence(2).logpdf(x)
    found = nn.held_out(untrained(two_layers(shift), x), dict(x=x), **TESTED)
    above = 1 + (DEEP.T @ DEEP).item() / STEP**2
    for name, expected in dict(elbo=-0.5 * shift**2 * above, log_likelihood=0.0).items():
        off = found.by_row[name] - exact
        assert abs(off.mean() - expected) < 5 * off.std(ddof=1) / np.sqrt(300) + 1e-3, name


def test_memory_is_that_of_a_group_whatever_the_samples():
    x = rows_of(1, 64)
    sizes = {}
    for size, particles in ((64, 16), (32, 64)):
        fit = untrained(one_layer(1.2), x[:size])
        problem, guide = fit.problem, fit.solution.guide
        apart: Any = by_row(problem, guide, IWAE(particles=particles))
        with scope("float64"):
            static = (problem.program, guide, apart, _Estimates(particles))
            moving = (dict(fit.solution.params), fit.solution.model_params, np.zeros(2, np.uint32))
            lowered = weighed.lower(*static, *moving, np.int32(5000), problem.inputs, {})
            memory: Any = lowered.compile().memory_analysis()
            sizes[size, particles] = memory.temp_size_in_bytes
    # The number of samples is an argument of what is compiled: no array can have that many rows. A log joint of this
    # model computes some 30 numbers, the jackknife of order 2 has as many terms as there are draws in a group.
    for (size, particles), found in sizes.items():
        assert found < 8 * size * particles * (40 + 1.5 * particles)


def test_held_out_of_a_users_own_model_and_of_amortised():
    def model(x: Any) -> None:
        with taut.plate("people", len(x)):
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("x", dist.Normal(z, 1.0), obs=x)

    x = np.random.default_rng(3).normal(0, 2**0.5, 50)
    guide = taut.guides.Amortised(
        "people", lambda p, x: (p["a"] * x, p["s"]), init=dict(a=0.5, s=0.5 * np.log(0.5)), takes="x"
    )
    problem = taut.Problem(model, dict(x=x))
    bound = guide.bind(problem)
    fit: Any = SimpleNamespace(problem=problem, solution=Solution(bound, bound.init(problem, 0), np.zeros(0), "budget"))
    new = np.linspace(-2, 2, 7)
    exact = -0.5 * new**2 / 2 - 0.5 * np.log(2 * np.pi * 2)
    found = nn.held_out(fit, dict(x=new), samples=64, size=3)
    np.testing.assert_allclose(found.by_row["log_likelihood"], exact, atol=1e-9)


def test_what_held_out_refuses():
    def shared(x: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", len(x)):
            z = taut.sample("z", dist.Normal(mu, 1.0))
            taut.sample("x", dist.Normal(z, 1.0), obs=x)

    def local(x: Any) -> None:
        with taut.plate("rows", len(x)):
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("x", dist.Normal(z, 1.0), obs=x)

    def of(model: Any, guide: Any) -> Any:
        problem = taut.Problem(model, dict(x=np.arange(3.0)))
        return SimpleNamespace(problem=problem, solution=Solution(guide, guide.init(problem, 0), np.zeros(0), ""))

    refused: tuple[tuple[Any, str], ...] = (
        (of(shared, taut.guides.MeanField()), "mu"),
        (of(local, taut.guides.MeanField()), "MeanField, whose parameters are those of the fit's own rows"),
        (SimpleNamespace(problem=None, solution=None), "loaded"),
    )
    fit: Any
    for fit, words in refused:
        with pytest.raises(taut.TautError) as caught:
            nn.held_out(fit, dict(x=np.arange(3.0)))
        assert words in str(caught.value)
    fit = untrained(one_layer(), rows_of(1, 4))
    for given in (dict(samples=16), dict(particles=0), dict(samples=True), dict(size=0)):
        with pytest.raises(taut.TautError, match="bad-argument"):
            nn.held_out(fit, dict(x=rows_of(1, 4)), **given)
    with pytest.raises(taut.TautError, match="plate 'images'"):
        nn.held_out(fit, taut.data.Batches(dict(x=rows_of(1, 4)), 2, "rows"))


# -- objectives and gradients ---------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(0, 1, 2))
def estimated(program: Any, guide: Any, objective: Any, params: Any, model: Any, inputs: Any, keys: Any) -> Any:
    def one(key: Any) -> Any:
        weights = weights_of(program, guide, key, inputs, objective)
        return objective.estimate(weights(params, params, model))

    return jax.vmap(one)(keys)


def estimates(vae: nn.VAE, x: np.ndarray, objective: Any, draws: int) -> np.ndarray:
    """Independent estimates of an objective over all rows."""
    fit = untrained(vae, x)
    problem, solution = fit.problem, fit.solution
    with scope("float64"):
        moving = (solution.params, solution.model_params, problem.inputs, jax.random.split(jax.random.key(0), draws))
        return np.asarray(estimated(problem.program, solution.guide, objective, *moving))


def test_estimators_a_and_b_agree_with_the_closed_form():
    x, wider = rows_of(1, 20), 1.4
    exact = evidence(1).logpdf(x).sum() - 20 * LATENTS * (0.5 * (wider**2 - 1) - np.log(wider))
    a, b = (estimates(one_layer(wider), x, ELBO(kl=kl), 4000) for kl in ("sampled", "analytic"))
    for found in (a, b):
        assert abs(found.mean() - exact) < 5 * found.std() / np.sqrt(4000)


def test_of_two_layers_the_upper_kl_is_closed_given_the_lower_draw():
    x, shift = rows_of(2, 20), 0.4
    above = 1 + (DEEP.T @ DEEP).item() / STEP**2
    exact = evidence(2).logpdf(x).sum() - 20 * 0.5 * shift**2 * above
    for kl in ("sampled", "analytic"):
        found = estimates(two_layers(shift), x, ELBO(kl=kl), 4000)
        assert abs(found.mean() - exact) < 5 * found.std() / np.sqrt(4000), kl


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def differentiated(
    program: Any, guide: Any, objective: Any, gradient: Any, params: Any, model: Any, inputs: Any, keys: Any
) -> Any:
    def one(key: Any) -> Any:
        weights = weights_of(program, guide, key, inputs, objective)

        def loss(params: Any, model: Any) -> Any:
            return gradient.surrogate(objective, weights, params, model)

        own, learned = jax.grad(loss, argnums=(0, 1))(params, model)
        return jnp.concatenate([own[name].ravel() for name in sorted(own)]), learned

    return jax.vmap(one)(keys)


def gradients(vae: nn.VAE, x: np.ndarray, gradient: Any, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of IWAE(4) in the guide's and in the model's parameters, ``float[draws, ...]`` each, flat."""
    fit = untrained(vae, x)
    problem, solution = fit.problem, fit.solution
    objective = by_row(problem, solution.guide, IWAE(4))
    with scope("float64"):
        params = {name: jnp.asarray(value) for name, value in solution.params.items()}
        moving = (params, jnp.asarray(solution.model_params), problem.inputs)
        keys = jax.random.split(jax.random.key(1), draws)
        own, model = differentiated(problem.program, solution.guide, objective, gradient, *moving, keys)
        return np.asarray(own), np.asarray(model)


def test_doubly_reparameterised_gradients_have_the_mean_of_pathwise_ones_through_two_layers():
    vae = nn.VAE.mlp(4, ((3,), (3,)), (2, 2), nn.GaussianLikelihood(scale=0.5), key=3)
    x = np.random.default_rng(5).normal(size=(3, 4))
    draws = 4000
    found = [gradients(vae, x, gradient, draws) for gradient in (Pathwise(), DoublyReparam())]
    for first, second in zip(*found, strict=True):
        difference = first.mean(0) - second.mean(0)
        # Each of some hundred numbers within five errors of a difference of two means.
        se = np.sqrt((first.var(0) + second.var(0)) / draws)
        assert np.all(np.abs(difference) < 5 * se + 1e-12)
    # And with less noise where it is for: in the encoders.
    assert found[1][0].var(0).sum() < found[0][0].var(0).sum()


def test_at_the_posterior_doubly_reparameterised_gradients_of_two_layers_are_zero_draw_by_draw():
    x = rows_of(2, 5)
    own, _ = gradients(two_layers(), x, DoublyReparam(), 20)
    elsewhere, _ = gradients(two_layers(0.3), x, DoublyReparam(), 20)
    # Paths through both layers cancel the density's: a density that were not held, or a path cut, would show.
    assert np.abs(own).max() < 1e-9 < 1e-2 < np.abs(elsewhere).max()


def test_a_linear_autoencoder_is_probabilistic_principal_components():
    """Its best ELBO is the largest log-likelihood of PPCA (Tipping, Bishop 1999): encoder and posterior are one."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(300, 4)) @ np.diag([2.0, 0.7, 0.5, 0.4]) @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    x = x - x.mean(0)
    values = np.linalg.eigvalsh(x.T @ x / 300)[::-1]
    rest = values[1:].mean()
    best = -0.5 * (np.log(values[0]) + 3 * np.log(rest) + 4 * np.log(2 * np.pi) + 4)
    vae = nn.VAE(nn.Dense(4, (), 1, normal=True), nn.Dense(1, (), 4), 1, nn.GaussianLikelihood())
    batches = taut.data.Batches(dict(x=x), 300, "images")
    svi = SVI(objective=ELBO(kl="analytic"), steps=3000)
    fit = taut.fit(vae.model, batches, guide=vae.guide, algorithm=svi, verify=False, progress=False)
    found = nn.held_out(fit, dict(x=x), samples=64)
    # The loss is quadratic about the optimum; 3,000 steps leave a hundredth of a nat a row.
    assert best - 0.01 < found.elbo.value <= found.log_likelihood.value <= best + 1e-3
    assert float(fit["x_scale"].mean) == pytest.approx(np.sqrt(rest), rel=0.02)


# -- codes and fresh rows -------------------------------------------------------------------------------------------


def test_samples_have_the_law_of_two_layers():
    vae, n = two_layers(), 20_000
    fit = untrained(vae, rows_of(2, 4))
    x = vae.sample(fit, n, key=2, drawn=True)
    law = evidence(2)
    sd = np.sqrt(np.diag(law.cov))
    assert np.all(np.abs(x.mean(0) - law.mean) < 5 * sd / np.sqrt(n))
    # Var of a covariance's entry is at most 2 s_i^2 s_j^2 / n.
    assert np.all(np.abs(np.cov(x.T) - law.cov) < 5 * np.sqrt(2 / n) * np.outer(sd, sd))
    means = vae.sample(fit, n, key=2)
    np.testing.assert_allclose(np.cov(means.T), law.cov - NOISE**2 * np.eye(PIXELS), atol=0.1)


def test_codes_and_reconstructions_are_the_posteriors_means():
    vae, x = two_layers(), rows_of(2, 9)
    fit = untrained(vae, x)
    within = DEEP @ DEEP.T + STEP**2 * np.eye(LATENTS)
    gain = within @ LOADINGS.T @ np.linalg.inv(evidence(2).cov)
    code = DEEP_OFFSET + (x - evidence(2).mean) @ gain.T
    np.testing.assert_allclose(vae.encode(fit, x), code, atol=1e-9)
    np.testing.assert_allclose(vae.reconstruct(fit, x), code @ LOADINGS.T + OFFSET, atol=1e-9)
    above = 1 + (DEEP.T @ DEEP).item() / STEP**2
    top = (code - DEEP_OFFSET) @ DEEP / STEP**2 / above
    np.testing.assert_allclose(vae.encode(fit, x, layer=2), top, atol=1e-9)
    np.testing.assert_allclose(vae.decode(fit, top, layer=2), (top @ DEEP.T + DEEP_OFFSET) @ LOADINGS.T + OFFSET)
    draws = np.stack([vae.encode(fit, x, key=k) for k in range(400)])
    spread = np.diag(within - gain @ LOADINGS @ within)
    assert np.allclose(draws.var(0).mean(0), spread, rtol=5 * np.sqrt(2 / 3600))


def test_active_units_are_variances_of_codes():
    vae, x = two_layers(), rows_of(2, 200)
    found = vae.active_units(untrained(vae, x), x)
    np.testing.assert_allclose(found.variances["z1"], vae.encode(untrained(vae, x), x).var(0), rtol=1e-9)
    # Averages over 32 draws of a row have a 32nd of the noise of one.
    assert found.count == {"z1": 2, "z2": 1}
    dead = eqx.tree_at(lambda d: d.weights[0], vae.encoders[1], np.zeros((LATENTS, 2)))
    blind = nn.VAE([vae.encoders[0], dead], list(vae.decoders), (LATENTS, 1), GAUSSIAN)
    assert blind.active_units(untrained(blind, x), x).count == {"z1": 2, "z2": 0}


def test_a_fit_of_something_else_is_refused():
    fit = untrained(one_layer(), rows_of(1, 4))
    with pytest.raises(taut.TautError, match="site-missing"):
        two_layers().encode(fit, rows_of(1, 4))
    with pytest.raises(taut.TautError, match="layer=2"):
        one_layer().encode(fit, rows_of(1, 4), layer=2)
    with pytest.raises(taut.TautError, match="codes of shape"):
        one_layer().decode(fit, np.zeros((3, 5)))
