"""Priors of weights: densities against sums in high precision, and which leaf gets which."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import taut
from taut import dist, nn
from taut._precision import scope

MLP: Any = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
X = np.random.default_rng(0).normal(size=(6, 2))
Y = X @ np.array([1.0, -2.0])


def problem(prior: Any, module: Any = MLP) -> taut.Problem:
    def model(x: Any, y: Any) -> None:
        net = nn.bayesian("net", module, prior=prior)
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(jax.vmap(net)(x)[:, 0], 0.5), obs=y)

    return taut.Problem(model, dict(x=X, y=Y), precision="float64")


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_scale_mixture_keeps_its_tails(precision: Any):
    # log(0.5 N(20; 0, 1) + 0.5 N(20; 0, e^-12)): the second part is exp(-3e7), the sum of both in single precision 0.
    with scope(precision):
        prior = nn.ScaleMixture(0.5, 1.0, float(np.exp(-6)))
        assert abs(float(prior.log_prob(jnp.asarray(20.0))) - -201.612) < 5e-4
        slope = jax.grad(lambda w: prior.log_prob(w))(jnp.asarray(20.0))
        np.testing.assert_allclose(slope, -20.0, rtol=1e-6)


def test_the_scale_mixture_against_scipy():
    w = np.concatenate([[0.0], np.geomspace(1e-6, 1e3, 50), -np.geomspace(1e-6, 1e3, 50)])
    for pi, s1, s2 in [(0.5, 1.0, np.exp(-6)), (0.25, 2.0, 0.1), (1.0, 1.5, 0.1), (0.0, 1.5, 0.1)]:
        parts = np.stack([stats.norm.logpdf(w, 0, s1), stats.norm.logpdf(w, 0, s2)])
        expected: Any = logsumexp(parts, axis=0, b=np.array([[pi], [1 - pi]]))
        with scope("float64"):
            prior = nn.ScaleMixture(pi, s1, s2)
            np.testing.assert_allclose(prior.log_prob(w), expected, rtol=1e-12)
            assert np.all(np.isfinite(jax.vmap(jax.grad(prior.log_prob))(jnp.asarray(w))))


def test_draws_of_the_scale_mixture_have_its_moments():
    prior = nn.ScaleMixture(0.25, 2.0, 0.1)
    draws = np.asarray(prior.sample(jax.random.key(0), (40_000,)), float)
    variance = 0.25 * 4.0 + 0.75 * 0.01
    np.testing.assert_allclose(float(prior.variance), variance, rtol=1e-6)
    # E w^4 = 3 (0.25 * 16 + 0.75 * 1e-4): the variance of 40,000 squares has se sqrt((12 - 1) / 40,000) = 0.017.
    assert abs(draws.var() - variance) < 5 * 0.017
    # A share 0.75 has |w| < 0.3, and of the others the 12 % within 0.15 sd.
    assert abs((np.abs(draws) < 0.3).mean() - (0.75 * 0.9973 + 0.25 * 0.1192)) < 5 * np.sqrt(0.17 / 40_000)


def test_every_leaf_is_a_site_named_by_its_place():
    known = problem(dist.Normal(0.0, 2.0))
    shapes = {name: latent.shape for name, latent in known.latents.items()}
    assert shapes == {
        "net$layers[0].weight": (3, 2),
        "net$layers[0].bias": (3,),
        "net$layers[1].weight": (1, 3),
        "net$layers[1].bias": (1,),
    }
    rng = np.random.default_rng(1)
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    # By hand: every prior once, whatever the rows, and the network's likelihood.
    hidden = np.maximum(X @ values["net$layers[0].weight"].T + values["net$layers[0].bias"], 0.0)
    output = hidden @ values["net$layers[1].weight"][0] + values["net$layers[1].bias"][0]
    expected = stats.norm.logpdf(Y, output, 0.5).sum()
    expected += sum(stats.norm.logpdf(v, 0.0, 2.0).sum() for v in values.values())
    np.testing.assert_allclose(float(known.log_joint(values)), expected, rtol=1e-12)


def test_fan_in_counts_the_inputs():
    prior = nn.FanIn(gain=2.0, bias=0.3)
    assert prior("layers[0].weight", (5, 16)).scale == 2.0 / 4.0
    assert prior("conv.weight", (8, 3, 3, 3)).scale == pytest.approx(2.0 / np.sqrt(27))
    assert prior("layers[0].bias", (5,)).scale == 0.3 and prior("conv.bias", (8, 1, 1)).scale == 0.3


def test_a_mapping_gives_each_leaf_its_own():
    prior = {
        "layers[0].weight": dist.Laplace(0.0, 1.0),
        "layers[0].*": None,
        "*.bias": nn.Frozen(),
        "*": lambda path, shape: dist.Normal(0.0, float(len(shape))),
    }
    known = problem(prior)
    assert {n: latent.family for n, latent in known.latents.items()} == {
        "net$layers[0].weight": "Laplace",
        "net$layers[1].weight": "Normal",
    }
    assert list(known.params) == ["net$layers[0].bias"]
    values = {n: np.full(s.shape, 0.5) for n, s in (known.latents | known.params).items()}
    hidden = np.maximum(X @ np.full((2, 3), 0.5) + 0.5, 0.0)
    output = hidden @ np.full(3, 0.5) + float(MLP.layers[1].bias[0])
    expected = stats.norm.logpdf(Y, output, 0.5).sum() + 6 * stats.laplace.logpdf(0.5)
    expected += 3 * stats.norm.logpdf(0.5, 0.0, 2.0)
    np.testing.assert_allclose(float(known.log_joint(values)), expected, rtol=1e-6)  # the bias is a float32


@pytest.mark.parametrize("slab", [None, 2.0])
def test_the_horseshoe_is_its_three_scales(slab: Any):
    def model(x: Any, y: Any) -> None:
        w = nn.bayesian("w", np.zeros(2), prior=nn.Horseshoe(0.1, slab=slab))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    found = taut.Problem(model, dict(x=X, y=Y), precision="float64")
    assert list(found.latents) == ["w/z", "w/local", "w/global"]
    z, local, overall = np.array([0.7, -1.0]), np.array([2.0, 0.5]), 0.3
    shrunk = local if slab is None else local * slab / np.sqrt(slab**2 + (overall * local) ** 2)
    expected = stats.norm.logpdf(Y, X @ (z * shrunk * overall), 0.5).sum() + stats.norm.logpdf(z).sum()
    expected += stats.halfcauchy.logpdf(local).sum() + stats.halfcauchy.logpdf(overall, scale=0.1)
    values = {"w/z": z, "w/local": local, "w/global": overall}
    np.testing.assert_allclose(float(found.log_joint(values)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("prior", "code", "words"),
    [
        ({"layer[0].*": None, "*": nn.FanIn()}, "site-missing", "layers[0].bias"),
        ({"layers[0].*": None}, "bad-argument", "layers[1].weight"),
        (nn.FanIn, "bad-argument", "taut.nn.FanIn()"),
        (3.0, "bad-argument", "a distribution"),
        (dist.Normal(np.zeros(3), 1.0), "bad-argument", "(3, 2)"),
        (lambda path, shape: "Normal", "bad-argument", "Normal"),
    ],
)
def test_what_is_no_prior_is_refused(prior: Any, code: str, words: str):
    with pytest.raises(taut.TautError, match=f"\\[{code}\\]") as refusal, taut.handlers.seed(key=0):
        nn.bayesian("net", MLP, prior=prior)
    assert words in str(refusal.value)


def test_running_states_and_plates_are_refused():
    with pytest.raises(taut.TautError, match=r"\[side-effect\]"), taut.handlers.seed(key=0):
        nn.bayesian("net", eqx.nn.BatchNorm(3, "rows", mode="batch"))
    with pytest.raises(taut.TautError, match=r"\[plate-shape\]"), taut.handlers.seed(key=0), taut.plate("rows", 4):
        nn.bayesian("net", MLP)
    with pytest.raises(taut.TautError, match=r"\[bad-argument\]"), taut.handlers.seed(key=0):
        nn.bayesian("net", lambda x: x)
    with pytest.raises(taut.TautError, match=r"\[bad-argument\]"):
        nn.FanIn(gain=-1.0)


def test_a_layer_of_one_is_bayesian_linear_regression():
    # Conjugate: precision X'X / s^2 + 1 / t^2, mean by the normal equations, evidence of a normal vector.
    design = np.concatenate([X, np.ones((6, 1))], axis=1)

    def model(x: Any, y: Any) -> None:
        layer: Any = nn.bayesian("net", eqx.nn.Linear(2, 1, key=jax.random.key(0)), prior=dist.Normal(0.0, 2.0))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(jax.vmap(layer)(x)[:, 0], 0.5), obs=y)

    fit = taut.fit(model, dict(x=X, y=Y), verify=False)
    precision = design.T @ design / 0.25 + np.eye(3) / 4.0
    covariance = np.linalg.inv(precision)
    mean = covariance @ design.T @ Y / 0.25
    found = np.concatenate([fit["net$weight"].mean.ravel(), fit["net$bias"].mean])
    sd = np.concatenate([fit["net$weight"].sd.ravel(), fit["net$bias"].sd])
    whole: Any = 0.25 * np.eye(6) + 4.0 * design @ design.T
    evidence = stats.multivariate_normal(cov=whole).logpdf(Y)
    # 16,000 mirrored draws: means to 1e-6 of an sd, sds to 0.6 % (se of a sample sd).
    np.testing.assert_allclose(found, mean, atol=1e-3)
    np.testing.assert_allclose(sd, np.sqrt(np.diag(covariance)), rtol=0.03)
    assert abs(fit.log_evidence - evidence) < 1e-4
    narrow = taut.fit(model, dict(x=X, y=Y), guide=taut.guides.MeanField(), verify=False)
    scale = np.exp(narrow.params["log_scale"])
    np.testing.assert_allclose(scale, 1 / np.sqrt(np.diag(precision)), rtol=1e-3)
