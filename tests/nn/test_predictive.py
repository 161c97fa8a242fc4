"""Entropies and information in closed form, calibration on made-up probabilities, pruning by hand."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

import taut
from taut import dist, nn
from taut.guides import MeanField

RNG = np.random.default_rng(0)


def entropy(p: Any) -> np.ndarray:
    p = np.asarray(p, float)
    return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0), axis=-1)


def test_entropies_in_closed_form():
    # Two networks that are sure and disagree; that agree on a coin; that agree on three classes.
    probs = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
    found = nn.uncertainty(probs=probs)
    np.testing.assert_allclose(found.entropy, [np.log(2), np.log(2)], rtol=1e-12)
    np.testing.assert_allclose(found.expected_entropy, [0.0, np.log(2)], atol=1e-12)
    np.testing.assert_allclose(found.mutual_information, [np.log(2), 0.0], atol=1e-12)
    probs = RNG.dirichlet(np.ones(4), size=(50, 7))
    found = nn.uncertainty(np.log(probs) + RNG.normal(size=(50, 7, 1)))
    np.testing.assert_allclose(found.mean, probs.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.entropy, entropy(probs.mean(axis=0)), rtol=1e-12)
    np.testing.assert_allclose(found.expected_entropy, entropy(probs).mean(axis=0), rtol=1e-12)
    # I(y; w) = mean KL from each network to the mean.
    kl = np.sum(probs * (np.log(probs) - np.log(probs.mean(axis=0))), axis=-1).mean(axis=0)
    np.testing.assert_allclose(found.mutual_information, kl, rtol=1e-9)


def test_two_classes_from_one_logit_and_extreme_logits():
    logits = np.array([[0.3, -800.0, 800.0], [-1.2, -800.0, -800.0]])
    found = nn.uncertainty(logits)
    p = 1 / (1 + np.exp(-logits[:, 0]))
    np.testing.assert_allclose(found.mean[0], [1 - p.mean(), p.mean()], rtol=1e-12)
    np.testing.assert_allclose(found.entropy[1:], [0.0, np.log(2)], atol=1e-12)
    np.testing.assert_allclose(found.mutual_information[1:], [0.0, np.log(2)], atol=1e-12)


def test_the_mean_is_inside_of_the_logarithm():
    values = RNG.normal(size=(6, 3)) - 900.0
    np.testing.assert_allclose(nn.log_predictive(values), np.log(np.mean(np.exp(values + 900.0), axis=0)) - 900.0)


def test_draws_of_labels_give_frequencies():
    labels = RNG.integers(0, 3, (1000, 4))
    np.testing.assert_allclose(nn.frequencies(labels, 3)[1], np.bincount(labels[:, 1], minlength=3) / 1000)


def test_calibration_of_constructed_probabilities():
    # 0.75 and 0.95 sure, right 60 and 95 of 100 times: ECE = (|0.60 - 0.75| + 0) / 2.
    p = np.repeat([[0.75, 0.25], [0.05, 0.95]], 100, axis=0)
    y = np.concatenate([np.repeat([0, 1], [60, 40]), np.repeat([1, 0], [95, 5])])
    found = nn.calibration(p, y, bins=10)
    assert found.ece == pytest.approx(0.075) and found.mce == pytest.approx(0.15)
    assert found.error == pytest.approx(0.225)
    assert found.count.tolist() == [0] * 7 + [100, 0, 100]
    np.testing.assert_allclose(found.accuracy[[7, 9]], [0.6, 0.95])
    np.testing.assert_allclose(found.confidence[[7, 9]], [0.75, 0.95])
    # scikit-learn's Brier score of two classes counts one of them.
    assert found.brier == pytest.approx(2 * brier_score_loss(y, p[:, 1]))
    assert found.log_likelihood == pytest.approx(-log_loss(y, p))
    assert nn.calibration(p[:, 1], y, bins=10).ece == pytest.approx(0.075)


def test_labels_drawn_from_the_probabilities_are_calibrated():
    p = RNG.dirichlet(np.ones(3), size=20_000)
    y = (RNG.random(20_000)[:, None] > np.cumsum(p, axis=1)).sum(axis=1)
    # Each of 15 bins is off by its noise, sqrt(acc (1 - acc) / n_b): summed, below sqrt(15 / 20,000) / 2 = 0.014.
    assert nn.calibration(p, y).ece < 0.014
    # Confidence to the power of 3 is too sure by far.
    assert nn.calibration(p**3 / np.sum(p**3, axis=1, keepdims=True), y).ece > 0.1


def test_what_is_no_probability_is_refused():
    for call in (
        lambda: nn.calibration([[0.5, 0.6]], [0]),
        lambda: nn.calibration([[0.5, 0.5]], [2]),
        lambda: nn.calibration([[0.5, 0.5]], [0, 1]),
        lambda: nn.calibration([[0.5, 0.5]], [0], bins=0),
        lambda: nn.uncertainty(probs=[[[1.2, -0.2]]]),
        lambda: nn.uncertainty(np.zeros(3)),
        lambda: nn.uncertainty(),
        lambda: nn.frequencies([[0, 3]], 3),
    ):
        with pytest.raises(taut.TautError, match=r"\[bad-argument\]"):
            call()


X = RNG.normal(size=(30, 3))
Y = X @ np.array([2.0, 0.0, -1.0]) + 0.3 * RNG.normal(size=30)
LINEAR: Any = eqx.nn.Linear(3, 1, key=jax.random.key(0))


def model(x: Any, y: Any = None) -> None:
    layer = nn.bayesian("net", LINEAR, prior=dist.Normal(0.0, 1.0))
    f = taut.deterministic("f", jax.vmap(layer)(x)[:, 0])
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Normal(f, 0.3), obs=y)


def test_pruning_takes_the_least_sure_weights():
    fit = taut.fit(model, dict(x=X, y=Y), guide=MeanField(), verify=False)
    ratios = nn.signal_to_noise(fit)
    expected = np.abs(fit["net$weight"].mean) / fit["net$weight"].sd
    np.testing.assert_allclose(ratios["net$weight"], expected, rtol=0.03)  # sds of 16,000 draws
    half = nn.prune(fit, 0.5)
    # Of three weights and a bias, the second weight and the bias are nothing.
    assert half.kept["net$weight"].tolist() == [[True, False, True]] and half.kept["net$bias"].tolist() == [False]
    assert half.fraction == 0.5
    new = RNG.normal(size=(5, 3))
    draws = half.draws(200)
    by_hand = new[:, [0, 2]] @ draws["net$weight"][:, 0][:, [0, 2]].T
    np.testing.assert_allclose(half.predict(dict(x=new), 200)["f"], by_hand.T, rtol=1e-9)
    whole = nn.prune(fit, 0.0).predict(dict(x=new), 200)["f"]
    np.testing.assert_allclose(whole, fit.predict(dict(x=new), 200)["f"], rtol=1e-12)
    assert np.all(nn.prune(fit, 1.0).predict(dict(x=new), 200)["f"] == 0.0)


def test_a_horseshoes_weights_are_pruned_whole():
    def sparse(x: Any, y: Any = None) -> None:
        w = nn.bayesian("net", {"w": np.zeros(3)}, prior=nn.Horseshoe(0.5))["w"]
        f = taut.deterministic("f", x @ w)
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(f, 0.3), obs=y)

    fit = taut.fit(sparse, dict(x=X, y=Y), guide=MeanField(), verify=False)
    assert list(nn.signal_to_noise(fit)) == ["net$['w']"]
    pruned = nn.prune(fit, 0.34)
    assert pruned.kept["net$['w']"].tolist() == [True, False, True]
    draws = pruned.draws(100)
    np.testing.assert_allclose(pruned.predict(dict(x=X), 100)["f"], draws["net$['w']"] @ X.T, rtol=1e-9)


def test_pruning_refuses_what_is_no_network():
    def plain(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(mu, 0.5), obs=y)

    fit = taut.fit(plain, dict(y=1.0), verify=False)
    with pytest.raises(taut.TautError, match=r"\[site-missing\]"):
        nn.prune(fit, 0.5)
    with pytest.raises(taut.TautError, match=r"\[bad-argument\]"):
        nn.prune(fit, 1.5)
    assert nn.prune(fit, 1.0, sites=("mu",)).draws(10)["mu"].tolist() == [0.0] * 10
