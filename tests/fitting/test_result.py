"""What a fit answers: marginals, covariances, draws, predictions, files, pages."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

import taut
from taut import dist


def model(x, y=None):
    slope = taut.sample("slope", dist.Normal(0.0, 1.0))
    scale = taut.sample("scale", dist.LogNormal(0.0, 1.0))
    mean = taut.deterministic("mean", slope * x)
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Normal(mean, scale), obs=y)


X = np.linspace(-2, 2, 80)
Y = 1.5 * X + 0.5 * np.random.default_rng(5).normal(size=80)


@pytest.fixture(scope="module")
def fit():
    return taut.fit(model, dict(x=X, y=Y))


def test_print_leads_with_the_verdict(fit):
    assert str(fit).startswith("[trusted]")
    for name in ("slope", "scale"):
        assert f"\n{name} " in str(fit)


def test_marginals_agree_with_the_draws(fit):
    values = fit["scale"].values
    np.testing.assert_allclose(fit["scale"].mean, values.mean(), rtol=1e-12)
    np.testing.assert_allclose(fit["scale"].sd, values.std(), rtol=1e-3)
    np.testing.assert_allclose(fit["scale"].quantile(0.9), np.quantile(values, 0.9), rtol=1e-3)
    assert fit["mean"].shape == (80,)


def test_covariances_in_the_models_space(fit):
    joint = fit.cov(["slope", "scale"])
    np.testing.assert_allclose(joint[0, 1], fit.cov("slope", "scale"))
    np.testing.assert_allclose(np.diag(joint), [fit["slope"].sd ** 2, fit["scale"].sd ** 2], rtol=1e-3)
    # mean = slope * x, so their correlation is the sign of x.
    np.testing.assert_allclose(fit.corr("slope", "mean"), np.sign(X), atol=1e-9)


def test_an_unknown_site_is_refused_with_a_suggestion(fit):
    with pytest.raises(taut.TautError, match="slope") as caught:
        fit["slop"]
    assert caught.value.code == "site-missing"
    assert caught.value.remedy == "fit['slope']"


def test_draws_are_reproducible_and_bounded(fit):
    first, again = fit.draws(100, key=3), fit.draws(100, key=3)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert fit.draws()["slope"].shape == (4000,)
    with pytest.raises(taut.TautError) as caught:
        fit.draws(10**6)
    assert caught.value.code == "too-many-draws"


def test_posterior_predictive_moments(fit):
    forward = fit.predict(dict(x=np.array([0.0, 1.0])), key=1)
    assert forward["y"].shape == (4000, 2)
    # Normal noise around the line: mean slope x, variance scale^2 + x^2 var(slope); standard error sd / sqrt(4000).
    expected_sd = np.sqrt(np.mean(fit["scale"].values ** 2) + np.array([0, 1]) * fit["slope"].sd ** 2)
    np.testing.assert_allclose(forward["y"].mean(0), [0, fit["slope"].mean], atol=4 * expected_sd.max() / np.sqrt(4000))
    np.testing.assert_allclose(forward["y"].std(0), expected_sd, rtol=4 / np.sqrt(2 * 4000))
    replicated = fit.predict()
    assert replicated["y"].shape == (4000, 80)


def test_a_saved_fit_is_the_same_fit_without_model_or_data(fit, tmp_path):
    path = fit.save(tmp_path / "line.taut")
    loaded = taut.load(path)
    assert str(loaded) == str(fit)
    assert all(np.array_equal(loaded.draws(50)[n], fit.draws(50)[n]) for n in fit.sites)
    np.testing.assert_array_equal(loaded.cov("slope", "scale"), fit.cov("slope", "scale"))
    with pytest.raises(taut.TautError) as caught:
        loaded.predict(dict(x=X))
    assert caught.value.code == "no-model"
    again = loaded.predict(dict(x=X[:3]), model=model, key=1)
    np.testing.assert_array_equal(again["mean"], fit.predict(dict(x=X[:3]), key=1)["mean"])


def test_a_saved_fit_loads_in_another_process_bit_for_bit(fit, tmp_path):
    path = fit.save(tmp_path / "line.taut")
    code = f"import taut, sys; sys.stdout.buffer.write(taut.load({str(path)!r}).draws(20)['slope'].tobytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == fit.draws(20)["slope"].tobytes()


def test_the_file_holds_no_data_and_no_pickle(fit, tmp_path):
    raw = fit.save(tmp_path / "line.taut").read_bytes()
    assert Y.tobytes() not in raw and Y[:5].tobytes() not in raw
    with pytest.raises(Exception):  # noqa: B017 - any refusal will do: it is not a pickle
        pickle.loads(raw)


def test_to_arviz_has_the_groups_and_the_numbers(fit):
    tree = fit.to_arviz()
    np.testing.assert_array_equal(tree["posterior"]["slope"].values[0], fit.draws()["slope"])
    np.testing.assert_array_equal(tree["observed_data"]["y"].values, Y)
    assert tree["posterior_predictive"]["y"].shape == (1, 4000, 80)


def test_the_report_is_one_page_that_names_verdict_and_sites(fit, tmp_path):
    page = fit.report(tmp_path / "line.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html")
    for word in ("trusted", "slope", "scale"):
        assert word in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "slope" in fit._repr_html_()
