"""NUTS as a reference: right on a posterior in closed form, and it tells a good fit from a bad one."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

import taut
from taut import dist
from taut.guides import FullRank, MeanField

needs_blackjax = pytest.mark.skipif(importlib.util.find_spec("blackjax") is None, reason="needs blackjax")

# Two latents seen through their sum: precision I + 4 (1 1'; 1 1'), covariance I - 4/9 (1 1'; 1 1'), mean 4/9 y.
Y = 1.5


def model(y: float) -> None:
    a = taut.sample("a", dist.Normal(0.0, 1.0))
    b = taut.sample("b", dist.Normal(0.0, 1.0))
    taut.deterministic("both", a + b)
    taut.deterministic("constant", 3.0 + 0.0 * a)
    taut.sample("y", dist.Normal(a + b, 0.5), obs=y)


@needs_blackjax
def test_nuts_finds_the_closed_form_and_agrees_with_the_right_fit():
    fit = taut.fit(model, dict(y=Y), guide=FullRank(), verify=False)
    found = fit.check_against_nuts(1000, warmup=500, chains=2, key=3)
    assert found.names == ("a", "b", "both")  # what does not vary is left out
    mean, sd = np.array([4 / 9, 4 / 9, 8 / 9]) * Y, np.sqrt([5 / 9, 5 / 9, 2 / 9])
    # Errors are NUTS's own: four of them.
    assert np.all(np.abs(found.mean - mean) < 4 * found.mean_se)
    assert np.all(np.abs(found.sd - sd) < 4 * found.sd_se)
    np.testing.assert_allclose(found.mean_se, found.sd / np.sqrt(found.ess), rtol=0.5)
    assert np.all(found.ess > 200) and np.all(found.rhat < 1.02)
    # The fit is exact, so what is off is NUTS.
    np.testing.assert_allclose(found.shift, (mean - found.mean) / found.sd, atol=0.02)
    np.testing.assert_allclose(found.sd_ratio, sd / found.sd, rtol=0.02)
    assert found.agrees is True and found.verdict.startswith("NUTS agrees")
    assert found.values["both"].shape == (2, 1000)
    np.testing.assert_allclose(found.values["both"], found.values["a"] + found.values["b"], atol=1e-12)
    text = str(found)
    assert "sd ratio" in text and f"{found.gradients:,} gradients" in text
    assert found.gradients > 2 * 1500  # at least one for each step


@needs_blackjax
def test_nuts_differs_from_mean_field_on_a_correlated_posterior():
    fit = taut.fit(model, dict(y=Y), guide=MeanField(), verify=False)
    found = fit.check_against_nuts(1000, warmup=500, chains=2)
    # Mean field shows the sd given the other, 1 / sqrt(5), where the posterior's is sqrt(5 / 9): a ratio of .6.
    np.testing.assert_allclose(found.sd_ratio[:2], 0.6, atol=4 * found.sd_ratio_se[:2].max())
    assert found.agrees is False and found.verdict.startswith("NUTS differs: ")


@needs_blackjax
def test_chains_that_have_not_met_are_no_reference():
    fit = taut.fit(model, dict(y=Y), guide=FullRank(), verify=False)
    found = fit.check_against_nuts(20, warmup=20, chains=2)
    assert found.agrees is None and "no reference" in found.verdict


def test_without_blackjax_it_says_how_to_get_it(monkeypatch: Any):
    fit = taut.fit(model, dict(y=Y), guide=FullRank(), verify=False)
    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(taut.TautError, match="missing-extra") as caught:
        fit.check_against_nuts()
    assert caught.value.remedy == 'pip install "taut[nuts]"'


def test_a_loaded_fit_has_no_density(tmp_path: Any):
    fit = taut.fit(model, dict(y=Y), guide=FullRank(), verify=False)
    with pytest.raises(taut.TautError, match="no-model"):
        taut.load(fit.save(tmp_path / "fit.taut")).check_against_nuts()
