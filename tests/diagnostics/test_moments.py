"""Weighted moments against closed forms, NumPy, and their own stated errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taut._errors import TautError
from taut.diagnostics import compare, cov, mean, normalised, quantile, sd


def test_equal_weights_are_numpy():
    x = np.random.default_rng(0).normal(size=(500, 2, 3))
    np.testing.assert_allclose(mean(x), x.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(sd(x), x.std(axis=0), atol=1e-14)
    q = [0.0, 0.1, 0.5, 1.0]
    np.testing.assert_allclose(quantile(x, q), np.quantile(x, q, axis=0), atol=1e-14)
    # The weighted path with equal weights meets the same definition.
    np.testing.assert_allclose(quantile(x, q, np.zeros(500)), np.quantile(x, q, axis=0), atol=1e-12)
    pair = cov(x[:, 0], x[:, 1])
    both = np.concatenate([x[:, 0], x[:, 1]], axis=1)
    np.testing.assert_allclose(pair, np.cov(both.T, ddof=0)[:3, 3:], atol=1e-14)
    assert cov(x, x[:, 0, 0]).shape == (2, 3)


def test_integer_weights_repeat_draws():
    x = np.array([[1.0, 5.0], [2.0, -1.0], [4.0, 0.5]])
    times = np.array([1, 3, 2])
    logs = np.log(times) - 800.0
    repeated = np.repeat(x, times, axis=0)
    np.testing.assert_allclose(mean(x, logs), repeated.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(sd(x, logs), repeated.std(axis=0), atol=1e-14)
    np.testing.assert_allclose(cov(x, x, logs), np.cov(repeated.T, ddof=0), atol=1e-14)


def test_zero_weights_are_absent():
    x = np.array([1.0, 2.0, 4.0, 1e9])
    logs = np.array([0.0, 0.0, 0.0, -np.inf])
    assert float(mean(x, logs)) == pytest.approx(7 / 3)
    assert float(quantile(x, 1.0, logs)) == 4.0
    assert float(quantile(x, 0.5, logs)) == 2.0


def test_weighted_quantiles_of_an_exponential_tilt():
    # q = N(0, 1) tilted by exp(.5 z) is N(.5, 1). Standard error of a quantile: sqrt(p (1 - p) / ESS) / density.
    z = np.random.default_rng(1).normal(size=200_000)
    ess = 200_000 * math.exp(-0.25)
    for p, z_p in ((0.1, -1.2815516), (0.5, 0.0), (0.9, 1.2815516)):
        density = math.exp(-0.5 * z_p**2) / math.sqrt(2 * math.pi)
        # The weights are uneven across quantiles by at most a factor of two at these p.
        error = 4.0 * 1.5 * math.sqrt(p * (1 - p) / ess) / density
        assert abs(float(quantile(z, p, 0.5 * z)) - (0.5 + z_p)) < error


def test_compare_finds_a_shift_and_a_scale():
    # q = N(0, 1), p = N(m, s^2): shift m / s and log sd ratio -log s, each within four of its own errors.
    z = np.random.default_rng(2).normal(size=(16_000, 3))
    target = np.array([[0.3, 0.8], [0.0, 0.9], [-0.2, 0.7]])
    for column, (m, s) in enumerate(target):
        x = z[:, column]
        c = compare({"a": 5.0 + 2.0 * x}, (-0.5 * ((x - m) / s) ** 2 + 0.5 * x**2).reshape(4, -1))
        assert abs(c.mean_shift[0] - m / s) < 4 * c.mean_shift_se[0]
        assert abs(c.log_sd_ratio[0] + math.log(s)) < 4 * c.log_sd_ratio_se[0]
        assert c.mean_se[0] < 0.02
        assert 0.0 < c.mean_spread[0] < 0.1
        assert 0.0 < c.log_sd_spread[0] < 0.1


def test_compare_errors_are_the_scatter():
    # Over 400 repeats the stated errors match the scatter; four standard errors of a ratio of sds: 14 %. The shift's
    # error leaves out that of the sd it is divided by, worth up to shift / 2 in relative terms.
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(400):
        z = rng.normal(size=2000)
        c = compare({"z": z}, 0.2 * z - 0.2 * z**2)
        rows.append([c.mean_shift[0], c.mean_shift_se[0], c.log_sd_ratio[0], c.log_sd_ratio_se[0]])
    found = np.array(rows)
    assert abs(found[:, 1].mean() / found[:, 0].std() - 1) < 0.20
    assert abs(found[:, 3].mean() / found[:, 2].std() - 1) < 0.16


def test_equal_weights_move_nothing():
    x = np.random.default_rng(4).standard_t(3, size=(4000, 2))
    c = compare({"x": x}, np.full((4, 1000), -31.0))
    for field in (c.mean_shift, c.mean_shift_se, c.log_sd_ratio, c.log_sd_ratio_se, c.mean_spread, c.log_sd_spread):
        # Errors are square roots of differences that cancel to rounding, hence 1e-7 and not 1e-15.
        np.testing.assert_allclose(field, 0.0, atol=1e-6)


def test_names_and_worst():
    z = np.random.default_rng(5).normal(size=(4000, 2, 2))
    c = compare({"tau": z[:, 0, 0], "corr": z}, (0.4 * z[:, 1, 0] - 0.3 * z[:, 0, 1] ** 2).reshape(4, 1000))
    assert c.names == ("tau", "corr[0,0]", "corr[0,1]", "corr[1,0]", "corr[1,1]")
    assert c.names[c.worst_mean] == "corr[1,0]"
    assert c.names[c.worst_sd] == "corr[0,1]"


def test_compare_survives_degenerate_weights():
    x = np.random.default_rng(6).normal(size=400)
    logs = np.full((4, 100), -np.inf)
    logs[0, 3] = 0.0
    c = compare({"x": x, "fixed": np.ones(400)}, logs)
    assert c.mean_shift[0] == math.inf
    assert c.log_sd_ratio[0] == math.inf
    assert (c.mean_shift[1], c.log_sd_ratio[1], c.mean_spread[1]) == (0.0, 0.0, 0.0)
    assert c.worst_mean == 0


def test_normalised_refuses():
    assert normalised(None, 4).tolist() == [0.25] * 4
    for logs, draws in (([0.0, 0.0], 3), ([-np.inf, -np.inf], 2), ([np.nan, np.nan], 2)):
        with pytest.raises(TautError, match="bad-argument"):
            normalised(logs, draws)
    with pytest.raises(TautError, match="bad-argument"):
        mean(3.0)
