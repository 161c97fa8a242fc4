"""Errors against a reference: scales, redundancy, and what counts as a false trust."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.posteriordb.compare import compare, surer_moments, unconstrain
from benchmarks.posteriordb.models import POSTERIORS
from benchmarks.posteriordb.reference import Moments, Reference, moments
from benchmarks.posteriordb.run import false_trust, main, summary

NAMES = ("x[1]", "x[2]", "s")


def reference(draws: np.ndarray) -> Reference:
    return Reference(NAMES, moments(draws), draws)


def sites(draws: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": draws[:, :2], "s": draws[:, 2]}


@pytest.fixture
def draws() -> np.ndarray:
    z = np.random.default_rng(1).normal(size=(100_000, 3))
    return np.stack([2 * z[:, 0], 5 + z[:, 1], np.exp(z[:, 2])], axis=1)


def test_unconstrain_inverts_each_support() -> None:
    names = ("m[1]", "m[2]", "o[1]", "o[2]", "u", "i", "r")
    support = {"m": "positive_ordered", "o": "ordered", "u": "unit", "i": "interval(-2,6)"}
    free = np.array([[0.3, -1.0, -2.0, 0.5, 1.5, -0.7, 4.0]])
    logistic = 1 / (1 + np.exp(-free))
    first = np.exp(0.3)
    inside = [first, first + np.exp(-1.0), -2.0, -2.0 + np.exp(0.5), logistic[0, 4], -2 + 8 * logistic[0, 5], 4.0]
    np.testing.assert_allclose(unconstrain(names, np.array([inside]), support), free, rtol=1e-12)


def test_a_shift_and_a_stretch_are_measured_in_reference_sds(draws: np.ndarray) -> None:
    moved = draws.copy()
    moved[:, 0] += 0.6  # 0.3 sd
    moved[:, 1] = 5 + 1.25 * (moved[:, 1] - 5)
    found = compare(sites(moved), reference(draws), {"s": "positive"})
    told = reference(draws).moments
    assert found.natural.mean_error == pytest.approx(0.6 / told.sd[0], rel=1e-9)
    assert found.natural.mean_at == "x[1]" and found.natural.sd_at == "x[2]"
    assert found.natural.sd_high == pytest.approx(1.25, rel=1e-9)
    assert set(found.natural.beyond) == {"x[1]", "x[2]"}


def test_a_wrong_scale_parameter_shows_on_the_log_scale(draws: np.ndarray) -> None:
    squeezed = draws.copy()
    squeezed[:, 2] = np.exp(0.5 * np.log(squeezed[:, 2]))
    found = compare(sites(squeezed), reference(draws), {"s": "positive"})
    assert found.unconstrained.sd_low == pytest.approx(0.5, abs=0.01)  # the sd of 100,000 logs is known to 0.0022
    assert "~s" in found.beyond


def test_noise_of_the_reference_is_forgiven_and_nan_is_not(draws: np.ndarray) -> None:
    few = draws[:200]  # a reference of 200 draws: mean known to 0.07 sd
    exact = {"x": np.stack([draws[:, 0], draws[:, 1]], axis=1), "s": draws[:, 2]}
    assert compare(exact, reference(few), {"s": "positive"}).unconstrained.beyond == ()
    broken = sites(draws.copy())
    broken["s"][0] = np.nan
    assert "s" in compare(broken, reference(draws), {"s": "positive"}).beyond


def test_real_scalars_are_compared_with_the_told_moments_on_both_scales(draws: np.ndarray) -> None:
    told = Reference(NAMES, moments(draws), draws[:50])
    found = compare(sites(draws), told, {"s": "positive"})
    assert found.natural.mean_error < 1e-10
    assert found.unconstrained.mean_at == "s" and found.unconstrained.mean_error > 0.01


def test_told_moments_make_those_of_the_logs_surer() -> None:
    # x log-normal with log-sd 0.3: 400 repeats of 300 kept draws beside told moments that are exact. The error must be
    # a third (mean), half (sd) of plain ones at most, unbiased to 4 standard errors of 400 repeats, as stated to 15 %.
    z = 0.3 * np.random.default_rng(3).normal(size=(300, 400))
    mean, sd = np.exp(0.045), np.exp(0.045) * np.sqrt(np.exp(0.09) - 1)
    told = Moments(*(np.full(400, value) for value in (mean, sd, 1e-9, 1e-9)))
    found = surer_moments(z, np.exp(z), told)
    assert found.mean.std() < 0.3 / np.sqrt(300) / 3 and found.sd.std() < 0.3 / np.sqrt(600) / 2
    assert abs(found.mean.mean()) < 4 * found.mean.std() / 20 + 1e-4
    assert abs(found.sd.mean() - 0.3) < 4 * found.sd.std() / 20 + 1e-3
    assert np.mean(found.mcse_mean) == pytest.approx(found.mean.std(), rel=0.15)


def test_the_last_entry_of_a_simplex_is_left_out() -> None:
    p = np.random.default_rng(2).beta(3, 4, size=5000)
    simplex = np.stack([p, 1 - p], axis=1)
    told = Reference(("t[1]", "t[2]"), moments(simplex), simplex)
    shifted = np.stack([p, 1 - p + 10], axis=1)
    assert compare({"t": shifted}, told, {"t": "simplex"}).beyond == ()


def test_only_a_claim_can_be_false() -> None:
    row = {"posterior": "toy", "beyond": ["a"]}
    levels = ("trusted", "trusted after correction", "not trusted", "unverified", "failed")
    assert [false_trust({"level": level, **row}) for level in levels] == [True, True, False, False, False]
    assert "FALSE TRUST: toy" in summary([{"level": "trusted", **row}])


def test_nothing_to_run_is_one_line_and_status_2(tmp_path, capsys) -> None:
    assert main(["--posteriordb", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_thirty_six_posteriors_are_listed() -> None:
    assert len(POSTERIORS) == 36
