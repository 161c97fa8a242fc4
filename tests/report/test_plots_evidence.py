"""The picture of the evidence: its numbers are the jackknife's, and what it shows are those numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import digamma

import taut
from taut import dist, report
from taut._errors import TautError
from taut.diagnostics import evidence_curve


def gamma_curve(most: int = 64) -> Any:
    # Weights Gamma(1): log Z = 0 and E log mean of K = digamma(K) - log K.
    rng = np.random.default_rng(0)
    return evidence_curve(np.log(rng.gamma(1.0, size=40_000)), most, rng)


def test_the_curve_is_the_jackknife_against_k():
    curve = gamma_curve()
    assert curve.particles.tolist() == [1, 2, 4, 8, 16, 32, 64]
    bias = lambda k: float(digamma(k)) - math.log(k)  # noqa: E731
    for i, k in enumerate(curve.particles.tolist()):
        assert abs(curve.values[0, i] - bias(k)) < 4.5 * curve.se[0, i]
        if k > 1:
            exact = k * bias(k) - (k - 1) * bias(k - 1)
            assert abs(curve.values[1, i] - exact) < 4.5 * curve.se[1, i]
    # Fewer weights than the order asks for: no estimate.
    assert np.isnan(curve.values[1, 0]) and np.isnan(curve.values[2, :2]).all()
    # sd of log mean of 64 is 1/8, of 625 groups.
    assert curve.se[0, -1] == pytest.approx(0.125 / 25, rel=0.1)


def test_rows_are_summed_outside_of_the_logarithm():
    x = np.log(np.random.default_rng(1).gamma(1.0, size=(4000, 3)))
    curve = evidence_curve(x, 8, np.random.default_rng(2))
    assert curve.rows == 3
    assert abs(curve.values[0, -1] - 3 * (float(digamma(8)) - math.log(8))) < 4.5 * curve.se[0, -1]


def test_too_few_draws_are_refused():
    with pytest.raises(TautError) as refused:
        evidence_curve(np.zeros(10), 64, np.random.default_rng(0))
    assert refused.value.code == "bad-argument"


def test_the_picture_shows_the_numbers_with_units():
    curve = gamma_curve()
    figure = report.evidence(curve, "gamma", (0.25, 0.01))
    left, right = figure.axes
    shown = [line.get_ydata() for line in left.get_lines()]
    for order in range(3):
        kept = np.isfinite(curve.values[order])
        np.testing.assert_array_equal(shown[order], curve.values[order][kept])
    np.testing.assert_array_equal(shown[3], [0.25, 0.25])
    assert [label.get_text() for label in left.get_xticklabels()] == ["1", "2", "4", "8", "16", "32", "64"]
    assert [label.get_text() for label in right.get_xticklabels()] == ["8", "16", "32", "64"]
    assert left.get_ylabel() == "log evidence, nats" and left.get_xlabel() == "particles K"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["IWAE, a lower bound", "JVI-1", "JVI-2", "the fit's own, 0.250"]


def test_a_fit_is_drawn_on_white_and_its_own_estimate_only_where_it_is_trusted():
    def model(y: Any) -> None:
        p = taut.sample("p", dist.Beta(2.0, 3.0))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Bernoulli(p), obs=y)

    y = np.array([1, 0, 0, 1, 0])
    trusted, unverified = taut.fit(model, {"y": y}), taut.fit(model, {"y": y}, verify=False)
    assert trusted.verdict.evidence_trusted
    figure = taut.plots.evidence(trusted, most=64)
    assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    last = figure.axes[0].get_lines()[0].get_ydata()[-1]
    assert last == pytest.approx(trusted.log_evidence, abs=0.02)
    count = len(figure.axes[0].get_lines())
    assert count == len(taut.plots.evidence(unverified, most=64).axes[0].get_lines()) + (
        1 if not unverified.verdict.evidence_trusted else 0
    )
    for draw in (taut.plots.marginals, taut.plots.weights, taut.plots.loss, taut.plots.pairs):
        assert draw(trusted).get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    assert taut.plots.forest(trusted) is None
