"""The pictures show the numbers they claim to show."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from taut.report import Content, History, SiteDraws, forest, marginals, objective, pairs, weights


def titles(figure: Any) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes]


def note(figure: Any) -> str:
    return figure.get_supxlabel()


def test_marginals_hold_the_share_of_draws_in_each_bin(hierarchy: Content):
    figure: Any = marginals(hierarchy)
    assert titles(figure)[:3] == ["mu", "tau", "theta[0]"]
    tau = np.asarray(hierarchy.sites["tau"].values)
    lw = np.asarray(hierarchy.log_weights)
    w = np.exp(lw - np.logaddexp.reduce(lw))
    guide, reweighted = (patch.get_data() for patch in figure.axes[1].patches)
    low, high = guide.edges[:-1], guide.edges[1:]
    for shown, mass in ((guide, np.full(len(w), 1 / len(w))), (reweighted, w)):
        inside = [(mass * (tau >= a) * (tau < b)).sum() for a, b in zip(low, high, strict=True)]
        np.testing.assert_allclose(shown.values[:-1], inside[:-1], atol=1e-12)  # the last bin is closed
    interval = figure.axes[1].lines[0].get_xdata()
    np.testing.assert_array_equal(interval, np.quantile(tau, [0.05, 0.95], weights=w, method="inverted_cdf"))


def test_marginals_say_what_they_leave_out(hierarchy: Content, awkward: Content):
    assert note(marginals(hierarchy)) == "24 of 101 scalars shown"
    assert "constant or not finite: constant, broken" in note(marginals(awkward))


def test_the_most_correlated_pair_is_found():
    r = np.random.default_rng(0)
    x = r.normal(size=(4000, 10))
    x[:, 7] = -0.8 * x[:, 2] + 0.6 * x[:, 7]
    figure: Any = pairs(Content("a", "unverified", "b", sites={"x": SiteDraws("latent", x)}))
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("x[2]", "x[7]")
    assert titles(figure) == [f"r = −{abs(np.corrcoef(x[:, 2], x[:, 7])[0, 1]):.2f}"]  # the others are below 0.2


def test_weights_show_ess_and_the_sorted_weights(hierarchy: Content):
    figure: Any = weights(hierarchy)
    lw = np.asarray(hierarchy.log_weights)
    w = np.exp(lw - np.logaddexp.reduce(lw))
    assert titles(figure)[0] == f"k-hat 0.21,  effective draws {1 / (w**2).sum():,.0f} of 2,000"
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), np.sort(w)[::-1] * len(w), rtol=1e-10)


def test_weights_of_no_use_are_counted(awkward: Content):
    assert note(weights(awkward)) == "30 draws have no weight (4 NaN or +inf)"
    nothing: Any = weights(dataclasses.replace(awkward, log_weights=np.full(600, -np.inf)))
    assert nothing.texts[0].get_text() == "no log weight is finite"


def test_the_objective_keeps_its_band_and_its_end(hierarchy: Content):
    history = hierarchy.history
    assert history is not None
    figure: Any = objective(hierarchy)
    assert titles(figure) == ["ELBO, nats", "the last half"]
    whole = figure.axes[0]
    np.testing.assert_array_equal(whole.lines[0].get_xydata(), np.stack([history.steps, history.elbo], axis=1))
    band = whole.collections[0].get_paths()[0].vertices
    at_last = band[np.isclose(band[:, 0], history.steps[-1]), 1]
    np.testing.assert_allclose([at_last.min(), at_last.max()], history.elbo[-1] + np.array([-0.12, 0.12]))
    assert figure.axes[1].lines[0].get_xdata()[0] == history.steps[30]


def test_long_histories_are_smoothed_by_a_running_mean():
    """The line's noise is the noise of one value over the root of the window; 4 sds of that, far from the ends."""
    r = np.random.default_rng(0)
    steps = np.arange(2000)
    elbo = -5 + r.normal(size=2000)
    figure: Any = objective(Content("a", "unverified", "b", history=History(steps, elbo, np.ones(2000))))
    line = figure.axes[0].lines[1].get_ydata()
    assert np.std(line) == pytest.approx(1 / np.sqrt(40), rel=0.25)
    assert line[1000] == pytest.approx(elbo[980:1020].mean(), abs=1e-9)
    assert "running mean of 40 values" in note(figure)


def test_values_that_are_not_finite_are_counted(awkward: Content):
    assert "1 of 3 values are not finite" in note(objective(awkward))


def test_forest_draws_the_interval_of_each_element(hierarchy: Content):
    figure: Any = forest(dataclasses.replace(hierarchy, covers="q", log_weights=None))
    assert figure is not None
    assert titles(figure) == ["z  (90)", "y_hat  (20 x 3)"]
    segments = np.array([s[:, 1] for s in figure.axes[0].collections[0].get_segments()])
    z = np.asarray(hierarchy.sites["z"].values)
    np.testing.assert_allclose(segments, np.quantile(z, [0.05, 0.95], axis=0, method="inverted_cdf").T)
    assert forest(dataclasses.replace(hierarchy, sites={"mu": hierarchy.sites["mu"]})) is None
