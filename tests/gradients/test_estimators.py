"""What the estimators are for: their variances against closed forms, and how signals scale with particles."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist, gradients, guides, objectives, testing
from taut._errors import TautError
from taut._precision import scope
from taut.algorithms import SVI, gradient_draws
from taut.gradients import Antithetic, Fixed, Fresh, Orthogonal, QuasiMonteCarlo


class Toy:
    """Log-weights of one normal latent: q = N(m, s^2), log p given; what an estimator is shown."""

    def __init__(self, key: Any, particles: int, log_p: Any):
        self.noise = jax.random.normal(key, (particles,))
        self.log_p = log_p

    def __call__(self, draw: Any, density: Any, model: Any) -> Any:
        z = draw["m"] + jnp.exp(draw["s"]) * self.noise
        u = (z - density["m"]) * jnp.exp(-density["s"])
        return self.log_p(z, model) + 0.5 * u**2 + density["s"] + 0.5 * math.log(2 * math.pi)

    def still(self, draw: Any) -> Any:
        raise AssertionError("every draw of this guide is smooth")


def slopes(estimator: Any, objective: Any, log_p: Any, mean: float, n: int, model: Any = None) -> Any:
    """Gradients in m, s and the model's parameters, of n independent estimates; s is log 1."""
    with scope("float64"):
        theta = jnp.zeros(0) if model is None else jnp.asarray(model)
        params = {"m": jnp.asarray(mean), "s": jnp.asarray(0.0)}

        def one(params: Any, theta: Any, key: Any) -> Any:
            return estimator.surrogate(objective, Toy(key, objective.draws, log_p), params, theta)

        run = jax.jit(jax.vmap(jax.grad(one, argnums=(0, 1)), in_axes=(None, None, 0)))
        return jax.tree.map(np.asarray, run(params, theta, jax.random.split(jax.random.key(1), n)))


def standard(z: Any, model: Any) -> Any:
    return -0.5 * z**2 - 0.5 * math.log(2 * math.pi)


def snr(g: np.ndarray) -> float:
    return float(abs(g.mean()) / g.std())


def test_the_signal_falls_with_particles_and_doubly_reparameterised_rises():
    # p = N(0, 1), q = N(0.5, 1): slopes -1/2 and +1/2 in K, and the numbers themselves from 20,000 and 4,000 estimates.
    plain, doubly = {}, {}
    for k in (1, 4, 16, 64, 256):
        n = 20_000 if k <= 16 else 4000
        plain[k] = snr(slopes(gradients.Pathwise(), objectives.IWAE(k), standard, 0.5, n)[0]["m"])
        doubly[k] = snr(slopes(gradients.DoublyReparam(), objectives.IWAE(k), standard, 0.5, n // 4)[0]["m"])
    expected = {1: 0.492, 4: 0.241, 16: 0.125, 64: 0.0666, 256: 0.0333}
    for k, value in expected.items():
        n = 20_000 if k <= 16 else 4000
        # The signal's own error is one part of the noise over root n; the reference has three digits.
        assert abs(plain[k] - value) < 4 / math.sqrt(n) + 0.01 * value, (k, plain[k])
    for k, value in {16: 9.7, 64: 16.9, 256: 32.2}.items():
        assert abs(doubly[k] / value - 1) < 0.15, (k, doubly[k])
    # The rise is clearer where K is large: sqrt(16) = 4 from 16 to 256, and here 3.3.
    assert 3.0 < doubly[256] / doubly[16] < 4.2
    assert 0.25 * 0.8 < plain[256] / plain[16] < 0.25 * 1.3


@pytest.mark.parametrize("particles", [2, 5, 10])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_variance_of_leave_one_out_is_two_over_k_minus_one(particles: int, mean: float):
    # f = z - log q + log q: log p is chosen such that log w = z, whose REINFORCE variance is (m^2 + 2) / K.
    def linear(z: Any, model: Any) -> Any:
        return z - 0.5 * (z - mean) ** 2 - 0.5 * math.log(2 * math.pi)

    n, objective = 60_000, objectives.ELBO(particles)
    found = slopes(gradients.ScoreFunction(everywhere=True), objective, linear, mean, n)[0]["m"]
    plain = slopes(gradients.ScoreFunction("none", everywhere=True), objective, linear, mean, n)[0]["m"]
    # Both means are dE[z]/dm - the score of log q, 1; sample variances are good to about 5 % here.
    assert abs(found.mean() - 1) < 5 * found.std() / math.sqrt(n)
    np.testing.assert_allclose(found.var(), 2 / (particles - 1), rtol=0.1)
    np.testing.assert_allclose(plain.var(), (mean**2 + 2) / particles, rtol=0.1)


def test_vargrad_is_leave_one_out_to_the_last_digit():
    target = lambda z, model: -jnp.cosh(z - 0.3)  # noqa: E731
    first = slopes(gradients.VarGrad(), objectives.ELBO(7), target, 0.4, 200)[0]
    second = slopes(gradients.ScoreFunction(everywhere=True), objectives.ELBO(7), target, 0.4, 200)[0]
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=1e-12)


def test_vimco_with_geometric_means_is_the_score_function_of_the_bound():
    first = slopes(gradients.VIMCO(everywhere=True), objectives.IWAE(6), standard, 0.4, 100)[0]
    second = slopes(gradients.ScoreFunction(everywhere=True), objectives.IWAE(6), standard, 0.4, 100)[0]
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "objective",
    [
        objectives.IWAE(8),
        objectives.Renyi(0.3, 8),
        objectives.TVO(particles=8),
        objectives.CUBO(2, 8),
        objectives.RWS(8),
        objectives.JVI(8, 1),
        objectives.ELBO(8),
    ],
    ids=lambda o: type(o).__name__,
)
def test_doubly_reparameterised_is_zero_at_the_posterior(objective: Any):
    found = slopes(gradients.DoublyReparam(), objective, standard, 0.0, 50)[0]
    assert max(np.abs(g).max() for g in found.values()) < 1e-12


@pytest.mark.parametrize(
    "objective, coefficient",
    [
        (objectives.IWAE(4), lambda w: w**2),
        (objectives.Renyi(0.5, 4), None),
        (objectives.ELBO(4), lambda w: np.full(4, 0.25)),
        (objectives.RWS(4), lambda w: w - w**2),
        (objectives.ForwardKL(4), lambda w: w**2 - w),
    ],
    ids=["IWAE", "Renyi", "ELBO", "RWS", "ForwardKL"],
)
def test_coefficients_of_the_papers(objective: Any, coefficient: Any):
    """w^2 for IWAE, a v + (1 - a) v^2 for Renyi, 1/K for the ELBO, w - w^2 for wake-phi."""
    from taut.gradients._doubly_reparam import path_weights

    x = np.array([0.3, -1.0, 0.8, -0.2])
    w = np.exp(x) / np.exp(x).sum()
    v = np.exp(x / 2) / np.exp(x / 2).sum()
    expected = 0.5 * v + 0.5 * v**2 if coefficient is None else coefficient(w)
    with scope("float64"):
        np.testing.assert_allclose(np.asarray(path_weights(objective, jnp.asarray(x))), expected, atol=1e-14)


def test_the_gradient_of_the_exact_upper_bound_is_reached_as_particles_grow():
    # p = N(0, 1), q = N(m, 1): CUBO_n = n (n - 1) m^2 / (2 n) = (n - 1) m^2 / 2, of slope (n - 1) m;
    # ForwardKL = m^2 / 2, of slope m. Normalising biases by O(1/K).
    for objective, slope in ((objectives.CUBO(2, 500), 0.5), (objectives.ForwardKL(500), 0.5)):
        for estimator in (gradients.Wake(), gradients.DoublyReparam()):
            g = slopes(estimator, objective, standard, 0.5, 400)[0]["m"]
            assert abs(g.mean() - slope) < 5 * g.std() / 20 + 0.01, (objective, estimator, g.mean())


def test_generalised_double_reparameterisation_of_a_learned_prior():
    r"""z ~ N(theta, 1), y ~ N(z, 1): with q near the posterior the prior's gradient loses nearly all of its noise."""

    def model(y: Any) -> None:
        theta = taut.param("theta", 0.0)
        z = taut.sample("z", dist.Normal(theta, 1.0))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)

    problem = taut.Problem(model, dict(y=2.0), precision="float64")
    # The posterior at theta = 0 is N(1, 1/2), and d log Z / d theta = (y - theta) / 2 = 1.
    params = {"loc": np.array([1.0]), "log_scale": np.array([0.5 * math.log(0.5)])}
    found = {}
    for estimator in (gradients.DoublyReparam(), gradients.GeneralizedDoublyReparam()):
        run = SVI(objective=objectives.IWAE(8), gradient=estimator)
        found[type(estimator).__name__] = gradient_draws(problem, guides.MeanField(), run, params, np.zeros(1), 4000)[
            "theta"
        ]
    plain, general = found["DoublyReparam"], found["GeneralizedDoublyReparam"]
    for g in (plain, general):
        assert abs(g.mean() - 1.0) < 5 * g.std() / math.sqrt(len(g)) + 1e-12
    # Var of the mean of z - theta over 8 draws is 1/16; the other has terms w~^2 dl/dz = 0 and likelihood paths alone.
    np.testing.assert_allclose(plain.var(), 1 / 16, rtol=0.15)
    assert general.var() <= plain.var() * 1.05


def test_learned_priors_that_cannot_be_converted_are_refused():
    def model(y: Any) -> None:
        rate = taut.param("rate", 1.0, constraint=dist.constraints.positive)
        z = taut.sample("z", dist.Gamma(2.0, rate))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)

    run = SVI(objective=objectives.IWAE(4), gradient=gradients.GeneralizedDoublyReparam())
    with pytest.raises(TautError, match="learned Gamma prior") as refused:
        run.init(taut.Problem(model, dict(y=1.0)), guides.MeanField(), 0)
    assert refused.value.site == "z"


# -- noise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "noise", [Fresh(), Antithetic(), Orthogonal(), QuasiMonteCarlo()], ids=lambda n: type(n).__name__
)
def test_every_draw_is_a_standard_normal(noise: Any):
    n, rows, dim = 4000, 5, 3
    with scope("float64"):
        x = np.asarray(jax.vmap(lambda k: noise.normals(k, rows, dim))(jax.random.split(jax.random.key(0), n)))
    assert x.shape == (n, rows, dim)
    for k in range(rows):
        draws = x[:, k]
        assert np.all(np.abs(draws.mean(0)) < 5 / math.sqrt(n))
        assert np.all(np.abs(draws.var(0) - 1) < 5 * math.sqrt(2 / n))
        assert np.all(np.abs((draws**4).mean(0) - 3) < 5 * math.sqrt(96 / n))


def test_dependent_noise_is_less_noise_and_fixed_noise_none():
    known = testing.conjugate_regression()
    problem = known.problem()
    assert known.covariance is not None
    params = {"loc": np.asarray(known.location) + 0.3, "log_scale": np.log(np.full(3, 0.2))}
    variance, mean = {}, {}
    for noise in (Fresh(), Antithetic(), Orthogonal(), QuasiMonteCarlo(), Fixed()):
        run = SVI(objective=objectives.ELBO(8), gradient=gradients.Pathwise(), noise=noise)
        g = gradient_draws(problem, guides.MeanField(), run, params, np.zeros(0), 600)["loc"]
        variance[type(noise)], mean[type(noise)] = g.var(axis=0).sum(), g.mean(axis=0)
        if not isinstance(noise, Fixed):
            # For a Gaussian target the exact gradient is -P (m - mu).
            exact = -np.linalg.inv(known.covariance) @ (params["loc"] - known.location)
            assert np.all(np.abs(mean[type(noise)] - exact) < 5 * g.std(axis=0) / math.sqrt(600) + 1e-8)
    # The gradient is linear in the noise here: pairs cancel exactly.
    assert variance[Antithetic] < 1e-20 and variance[Orthogonal] < 1e-20 and variance[Fixed] < 1e-20
    assert variance[QuasiMonteCarlo] < 0.5 * variance[Fresh]


def test_noise_is_refused_where_it_would_bias():
    for options in (
        dict(objective=objectives.IWAE(8), gradient=gradients.DoublyReparam(), noise=Antithetic()),
        dict(objective=objectives.ELBO(64), gradient=gradients.StickingTheLanding(), noise=Fixed()),
        dict(objective=objectives.ELBO(8), gradient=gradients.ScoreFunction(), noise=QuasiMonteCarlo()),
    ):
        with pytest.raises(TautError) as refused:
            SVI(**options)  # type: ignore[arg-type]
        assert refused.value.code == "bad-combination" and refused.value.site == "noise"
    assert isinstance(SVI(objective=objectives.IWAE(8), noise=Orthogonal()).estimator, gradients.Pathwise)
    problem = testing.conjugate_regression().problem()
    with pytest.raises(TautError, match="at least 4 draws"):
        SVI(objective=objectives.ELBO(3), noise=Fixed()).init(problem, guides.FullRank(), 0)
    with pytest.raises(TautError) as refused:
        SVI(objective=objectives.ELBO(8), gradient=gradients.Pathwise(), noise=Antithetic()).init(
            problem, guides.bind(_point, problem), 0
        )
    assert refused.value.site == "noise"


def _point() -> None:
    theta = taut.param("at", jnp.zeros(3))
    taut.sample("theta", dist.Normal(theta, 1.0).to_event(1))


# -- the control variate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", [guides.MeanField(), guides.FullRank()], ids=lambda g: type(g).__name__)
def test_a_quadratic_control_takes_all_noise_of_a_gaussian_target(guide: Any):
    known = testing.conjugate_regression()
    problem = known.problem()
    assert known.covariance is not None
    start = guides.FullRank.from_moments(np.asarray(known.location) + 0.3, 0.3 * np.eye(3))
    if isinstance(guide, guides.MeanField):
        start = {"loc": start["loc"], "log_scale": start["log_diagonal"]}
    found = {}
    for estimator in (gradients.Pathwise(), gradients.QuadraticControl()):
        run = SVI(objective=objectives.ELBO(1), gradient=estimator)
        found[type(estimator)] = gradient_draws(problem, guide, run, start, np.zeros(0), 128)
    exact = -np.linalg.inv(known.covariance) @ (start["loc"] - known.location)
    for g in found[gradients.QuadraticControl].values():
        assert g.var(axis=0).max() < 1e-18
    np.testing.assert_allclose(found[gradients.QuadraticControl]["loc"][0], exact, rtol=1e-9)
    assert found[gradients.Pathwise]["loc"].var(axis=0).min() > 1.0


def test_implicit_gradients_of_gamma_beta_and_dirichlet_draws():
    # d E[log z] / d alpha is trigamma for a Gamma; E[log z] = psi(a) - psi(a + b) for Beta and Dirichlet.
    from scipy.special import polygamma

    n = 5000
    with scope("float64"):
        keys = jax.random.split(jax.random.key(0), n)

        def slopes_of(make: Any, at: Any, part: Any = lambda z: z) -> np.ndarray:
            one = jax.vmap(jax.grad(lambda a, k: jnp.log(part(make(a).rsample(k)))), in_axes=(None, 0))
            return np.asarray(jax.jit(one)(at, keys))

        gamma = slopes_of(lambda a: dist.Gamma(a, 2.0), jnp.asarray(1.7))
        beta = slopes_of(lambda a: dist.Beta(a, 2.5), jnp.asarray(1.7))
        dirichlet = slopes_of(lambda a: dist.Dirichlet(a), jnp.array([0.8, 1.7, 2.0]), lambda z: z[0])
    for found, expected in (
        (gamma, polygamma(1, 1.7)),
        (beta, polygamma(1, 1.7) - polygamma(1, 4.2)),
        (dirichlet[:, 0], polygamma(1, 0.8) - polygamma(1, 4.5)),
        (dirichlet[:, 1], -polygamma(1, 4.5)),
    ):
        assert abs(found.mean() - float(expected)) < 5 * found.std() / math.sqrt(n)


# -- row by row ----------------------------------------------------------------------------------------------------

ROWS = np.array([0.3, -1.2, 2.0, 0.8])


def rows_model(y: Any) -> None:
    theta = taut.param("theta", 0.4)
    with taut.plate("rows", len(y)):
        z = taut.sample("z", dist.Normal(theta, 1.0))
        taut.sample("y", dist.Normal(z + jnp.sin(z), 0.8), obs=y)


PAIRS = {
    "DoublyReparam": (gradients.Pathwise(), gradients.DoublyReparam(), objectives.IWAE(4)),
    "GeneralizedDoublyReparam": (gradients.Pathwise(), gradients.GeneralizedDoublyReparam(), objectives.IWAE(4)),
    "ScoreFunction": (gradients.DoublyReparam(), gradients.ScoreFunction(everywhere=True), objectives.IWAE(4)),
    "VIMCO": (gradients.DoublyReparam(), gradients.VIMCO(everywhere=True), objectives.Renyi(0.5, 4)),
    "Wake": (gradients.DoublyReparam(), gradients.Wake(), objectives.RWS(4)),
    "averages": (gradients.Pathwise(), gradients.DoublyReparam(), objectives.IWAE(2, averaged_over=2)),
}


@pytest.mark.parametrize("reference, estimator, objective", PAIRS.values(), ids=PAIRS)
def test_row_by_row_two_estimators_have_one_mean(reference: Any, estimator: Any, objective: Any):
    problem = taut.Problem(rows_model, dict(y=ROWS), precision="float64")
    params = {"loc": np.array([0.1, -0.5, 0.9, 0.4]), "log_scale": np.full(4, -0.4)}
    found = []
    for gradient in (reference, estimator):
        run = SVI(objective=objective, gradient=gradient)
        assert "by row of plate 'rows'" in str(run.pair(problem, guides.MeanField())[0])
        found.append(gradient_draws(problem, guides.MeanField(), run, params, np.array([0.4]), 8000))
    for name in found[0]:
        plain, other = found[0][name], found[1][name]
        se = np.sqrt((plain.var(axis=0) + other.var(axis=0)) / 8000)
        assert np.all(np.abs(plain.mean(axis=0) - other.mean(axis=0)) < 5 * se), name
