"""The anchors are the models that they say they are: densities recomputed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

import taut
from benchmarks.evidence.anchors import ANCHORS, folder
from benchmarks.evidence.run import line, passes


def problem(name: str, data: Path | None = None) -> tuple[taut.Problem, dict]:
    values = ANCHORS[name].data(data or folder())
    return taut.Problem(ANCHORS[name].model, values), values


def test_seeds_is_the_binomial_model_with_a_gamma_precision():
    found, data = problem("seeds")
    assert found.dim == 26 and data["germinated"].sum() == 424 and data["total"].sum() == 831
    rng = np.random.default_rng(0)
    a, b, tau = rng.normal(size=4), rng.normal(size=21), 3.7
    logits = a[0] + a[1] * data["x1"] + a[2] * data["x2"] + a[3] * data["x1"] * data["x2"] + b
    expected = stats.norm.logpdf(a, 0, 10).sum() + stats.gamma.logpdf(tau, 0.01, scale=100)
    expected += stats.norm.logpdf(b, 0, tau**-0.5).sum()
    expected += stats.binom.logpmf(data["germinated"], data["total"], expit(logits)).sum()
    np.testing.assert_allclose(found.log_joint({"a": a, "tau": tau, "b": b}), expected, rtol=1e-10)


def test_the_cox_process_is_a_gaussian_prior_times_a_poisson_likelihood(tmp_path: Path):
    rng = np.random.default_rng(1)
    places = rng.uniform(size=(20, 2))
    rows = "\n".join(f'"{i + 1}",{x:.8f},{y:.8f}' for i, (x, y) in enumerate(places))
    (tmp_path / "pines.csv").write_text('"","data_x","data_y"\n' + rows + "\n", encoding="utf-8")
    found, data = problem("lgcp", tmp_path)
    assert found.dim == 1600 and data["counts"].sum() == 20
    # Neighbouring cells lie one fortieth of a side apart.
    covariance = data["factor"] @ data["factor"].T
    np.testing.assert_allclose(covariance[0, :2], [1.91, 1.91 * np.exp(-33 / 40)])
    noise = rng.normal(size=1600)
    f = np.log(20) - 1.91 / 2 + data["factor"] @ noise
    expected = stats.norm.logpdf(noise).sum() + data["counts"] @ f - np.exp(f).mean()
    np.testing.assert_allclose(found.log_joint({"noise": noise}), expected, rtol=1e-10)


def test_classification_sets_are_standardised_with_the_intercept_first(tmp_path: Path):
    x = np.column_stack([np.arange(5.0), np.full(5, 7.0)])
    np.savez(tmp_path / "sonar.npz", X=x, y=np.array([0, 1, 0, 1, 1]))
    made = ANCHORS["sonar"].data(tmp_path)["X"]
    np.testing.assert_allclose(made[:, 0], 1.0)
    np.testing.assert_allclose(made[:, 1], np.array([-2, -1, 0, 1, 2]) / np.sqrt(2))
    np.testing.assert_allclose(made[:, 2], 0.0)


@pytest.mark.parametrize(
    ("difference", "error", "known_to", "expected"),
    [(0.04, 0.001, 0.0, True), (0.2, 0.001, 0.0, False), (0.2, 0.08, 0.0, True), (0.2, None, 0.08, True)],
)
def test_what_passes(difference: float, error: float | None, known_to: float, expected: bool):
    assert passes(difference, error, known_to) is expected
    row = {"name": "x", "known": -1.0, "log_evidence": -1.0 + difference, "stated_error": error, "elbo": -2.0}
    row |= {"difference": difference, "passes": expected, "gradients": 1000, "gradients_smc": 0, "seconds": 1.0}
    row |= {"interval": [-1.1, -0.9], "interval_holds": True, "best_elbo": None}
    text = line({**row, "level": "trusted", "evidence_trusted": True})
    assert ("!! off" not in text) is expected and "1,000 + 0" in text
    assert "-1.100 to -0.900" in text
