"""What an autoencoder is given: likelihoods, grey pixels, modules of the user's own, first weights."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit

import taut
from taut import dist, nn
from taut._precision import scope
from taut.algorithms import SVI

RNG = np.random.default_rng(0)
WHITE = (RNG.random((60, 9)) < 0.4).astype(float)
VAE = nn.VAE.mlp(9, (5,), 2)
BERNOULLI: Any = dist.Bernoulli  # a distribution, where a likelihood is meant


def trained(vae: nn.VAE, batches: Any, steps: int = 12) -> taut.Fit:
    svi = SVI(steps=steps)
    return taut.fit(
        vae.model, batches, guide=vae.guide, algorithm=svi, precision="float32", verify=False, progress=False
    )


def batches(x: np.ndarray, **given: Any) -> taut.data.Batches:
    return taut.data.Batches(dict(x=x), 20, "images", **given)


# -- grey pixels ----------------------------------------------------------------------------------------------------


def later(value: float) -> np.ndarray:
    """Images of which one, in a later batch, is grey."""
    x = WHITE.copy()
    x[taut.data.Batches(dict(x=x), 20, "images").first().rows[0] - 1, 4] = value
    return x


@pytest.mark.parametrize("grey", [WHITE * 0.9, (WHITE * 250).astype(np.uint8), later(0.5), later(7.0)])
def test_grey_pixels_under_a_bernoulli_are_refused_with_three_remedies(grey: np.ndarray):
    with pytest.raises(taut.TautError) as caught:
        trained(VAE, batches(grey))
    error = caught.value
    assert error.code in ("soft-targets", "data-support") and error.site == "x"
    for way in ('transform=taut.data.Binarise("x")', 'likelihood="continuous-bernoulli"', "soft_targets=True"):
        assert way in error.remedy


def test_the_three_remedies():
    grey = 0.9 * WHITE + 0.05
    whole = (grey * 255).astype(np.uint8)
    for given in (grey, whole):
        taut.Problem(VAE.model, batches(given, transform=taut.data.Binarise("x")))
    taut.Problem(VAE.model, dict(x=taut.data.binarise(whole)))
    for likelihood, expected in (
        ("continuous-bernoulli", lambda l, x: np.sum(x * l - np.log(normaliser(l)))),
        (
            nn.BernoulliLikelihood(soft_targets=True),
            lambda l, x: np.sum(x * np.log(expit(l)) + (1 - x) * np.log(expit(-l))),
        ),
    ):
        vae = nn.VAE.mlp(9, (5,), 2, likelihood)
        problem = taut.Problem(vae.model, dict(x=grey))
        values: dict[str, Any] = {"z": np.zeros((60, 2))}
        (inits,) = problem.kernel().constants(("init",))
        # The decoder of zero latents and zero biases is zero, but for what we add to the last biases.
        values |= inits | {"decoder$biases[1]": np.linspace(-2, 2, 9)}
        with scope("float64"):
            found = float(problem.log_joint_by_site(values)["x"])
        assert found == pytest.approx(expected(np.linspace(-2, 2, 9), grey), rel=1e-6)


def test_soft_targets_beyond_one_are_refused_in_later_batches_too():
    vae = nn.VAE.mlp(9, (5,), 2, nn.BernoulliLikelihood(soft_targets=True))
    trained(vae, batches(later(0.5)))
    with pytest.raises(taut.TautError, match="data-support"):
        trained(vae, batches(later(2.0)))


def test_what_is_missing_in_a_later_batch_is_refused():
    with pytest.raises(taut.TautError, match="data-nonfinite"):
        trained(VAE, batches(later(np.nan)))


def test_rows_of_later_batches_are_checked_in_any_model():
    def model(y: Any) -> None:
        rate = taut.sample("rate", dist.LogNormal(0.0, 1.0))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Poisson(rate), obs=y)

    y = RNG.poisson(3.0, 50).astype(float)
    y[taut.data.Batches(dict(y=y), 16, "rows").first(last=True).rows[0]] = 2.5
    with pytest.raises(taut.TautError, match="data-support"):
        taut.fit(model, taut.data.Batches(dict(y=y), 16, "rows"), algorithm=SVI(steps=8), verify=False, progress=False)


# -- likelihoods ----------------------------------------------------------------------------------------------------


def normaliser(logits: Any) -> np.ndarray:
    r"""$\int_0^1 e^{l x} dx$ by quadrature."""
    return np.array([quad(lambda x, l=l: np.exp(l * x), 0, 1, epsabs=1e-13)[0] for l in np.ravel(logits)])


@pytest.mark.parametrize("precision, tolerance", [("float64", 1e-8), ("float32", 3e-6)])
def test_the_continuous_bernoullis_normaliser_near_one_half_and_far_from_it(precision: Any, tolerance: float):
    logits = np.array([-30.0, -3.0, -0.11, -0.099, -1e-3, -1e-6, 0.0, 1e-8, 1e-4, 0.0999, 0.1001, 0.7, 20.0])
    x = 0.3
    exact = x * logits - np.log(normaliser(logits))
    mean = np.array([quad(lambda t, l=l: t * np.exp(l * t), 0, 1, epsabs=1e-13)[0] for l in logits]) / normaliser(
        logits
    )
    with scope(precision):
        fn = lambda l: dist.ContinuousBernoulli(logits=l).log_prob(jnp.asarray(x))  # noqa: E731
        given = jnp.asarray(logits)
        found, slope = np.asarray(jax.vmap(fn)(given)), np.asarray(jax.vmap(jax.grad(fn))(given))
    np.testing.assert_allclose(found, exact, atol=tolerance, rtol=tolerance)
    # The slope of a log normaliser is the mean.
    np.testing.assert_allclose(slope, x - mean, atol=20 * tolerance)


def test_gaussian_scales():
    row = RNG.normal(size=(4, 6))
    decoder = nn.Dense(2, (), 12)
    decoder = eqx.tree_at(lambda d: d.biases[0], decoder, np.linspace(-1, 1, 12))
    vae = nn.VAE(nn.Dense(6, (), 2, normal=True), decoder, 2, nn.GaussianLikelihood(scale="decoder"))
    problem = taut.Problem(vae.model, dict(x=row))
    (inits,) = problem.kernel().constants(("init",))
    with scope("float64"):
        found = float(problem.log_joint_by_site({"z": np.zeros((4, 2)), **inits})["x"])
    loc, log_scale = np.linspace(-1, 1, 12).reshape(2, 6)
    exact = np.sum(-0.5 * ((row - loc) / np.exp(log_scale)) ** 2 - log_scale - 0.5 * np.log(2 * np.pi))
    assert found == pytest.approx(exact, rel=1e-6)
    learned = taut.Problem(nn.VAE.mlp(6, (3,), 2, "gaussian").model, dict(x=row))
    assert learned.params["x_scale"].support == "positive"
    scales: tuple[Any, ...] = (0.0, -1.0, "global", True, np.inf)
    for scale in scales:
        with pytest.raises(taut.TautError, match="bad-argument"):
            nn.GaussianLikelihood(scale=scale)


# -- modules --------------------------------------------------------------------------------------------------------


class Picture(eqx.Module):
    """A small convolutional encoder of images of 8 by 8."""

    conv: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __call__(self, image: Any) -> Any:
        return self.head(jnp.tanh(self.conv(image[None])).ravel())


def test_any_modules_and_images_of_any_shape():
    keys = jax.random.split(jax.random.key(0), 3)
    encoder = Picture(eqx.nn.Conv2d(1, 2, 3, stride=2, key=keys[0]), eqx.nn.Linear(18, 6, key=keys[1]))
    decoder = eqx.nn.MLP(3, 64, 8, 1, key=keys[2])
    vae = nn.VAE(encoder, decoder, 3, row=(8, 8))
    x = (RNG.random((40, 8, 8)) < 0.3).astype(float)
    fit = trained(vae, batches(x))
    assert fit.status in ("budget", "converged", "plateaued")
    assert "encoder$conv.weight" in fit.params and "decoder$layers[0].bias" in fit.params
    assert vae.reconstruct(fit, x[:5]).shape == (5, 8, 8) == vae.sample(fit, 5).shape
    # The same numbers by the modules themselves.
    learned = vae.fitted(fit)
    code = np.stack([np.asarray(learned.encoders[0](jnp.asarray(row, jnp.float32))) for row in x[:5]])[:, :3]
    np.testing.assert_allclose(vae.encode(fit, x[:5]), code, atol=1e-5)
    logits = np.stack([np.asarray(learned.decoders[0](jnp.asarray(row))) for row in code])
    np.testing.assert_allclose(vae.reconstruct(fit, x[:5]).reshape(5, 64), expit(logits), atol=1e-5)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: nn.VAE(nn.Dense(9, (), 3), nn.Dense(2, (), 9), 2), "two arrays of 2, or one of 4"),
        (lambda: nn.VAE(nn.Dense(9, (), 2, normal=True), nn.Dense(2, (), 8), 2), "8 outputs for a row of shape (9,)"),
        (lambda: nn.VAE([nn.Dense(9, (), 2, normal=True)], [nn.Dense(2, (), 9)], (2, 1)), "1 encoders, 1 decoders"),
        (
            lambda: nn.VAE(nn.Dense(9, (), 2, normal=True), nn.Dense(2, (), 9), 2, BERNOULLI),
            "likelihood=Bernoulli",
        ),
        (lambda: nn.VAE.mlp(9, ((5,), (4,), (3,)), (2, 2)), "one tuple of widths for each"),
        (lambda: nn.VAE.mlp(9, (5,), 2, mean=np.zeros(8)), "a mean row of 8 numbers"),
    ],
)
def test_what_does_not_fit_together_is_refused(make: Any, words: str):
    with pytest.raises(taut.TautError) as caught:
        vae = make()
        taut.Problem(vae.model, dict(x=WHITE))
        vae.guide(WHITE)
    assert words in str(caught.value)


def test_the_decoder_may_begin_at_the_mean_row():
    mean = WHITE.mean(0)
    vae = nn.VAE.mlp(9, (5,), 2, mean=mean)
    np.testing.assert_allclose(expit(np.asarray(vae.decoders[0](np.zeros(2)))), mean, atol=1e-6)
    assert np.ptp(np.asarray(VAE.decoders[0](np.zeros(2)))) == 0


def test_sizes_are_those_of_the_papers():
    one = nn.VAE.mlp(784)
    two = nn.VAE.mlp(784, ((200, 200), (100, 100)), (100, 50))

    def shapes(module: Any) -> list[Any]:
        return [w.shape for w in module.weights]

    assert shapes(one.encoders[0]) == [(784, 200), (200, 200), (200, 100)]
    assert shapes(one.decoders[0]) == [(50, 200), (200, 200), (200, 784)]
    assert shapes(two.encoders[1]) == [(100, 100), (100, 100), (100, 100)]
    assert shapes(two.decoders[1]) == [(50, 100), (100, 100), (100, 200)]
    # Glorot's uniform: variance 2 / (in + out); 160,000 weights tell it to 0.6 % at five errors.
    assert np.var(one.encoders[0].weights[0]) == pytest.approx(2 / 984, rel=0.02)


def test_a_fit_over_batches_holds_the_models_parameters_and_no_draws_of_rows():
    fit = trained(VAE, batches(WHITE, transform=taut.data.Binarise("x")))
    assert fit.sites == tuple(f"decoder${part}[{k}]" for part in ("weights", "biases") for k in (0, 1))
    for name in fit.sites:
        np.testing.assert_array_equal(fit[name].mean, fit.params[name].value)
    assert not any("draws are kept" in note for note in fit.verdict.notes)
