"""Mistakes in reading, predicting with and keeping a fit, cases 48 to 54."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist, guides
from taut._errors import TautError
from taut._files import atomic_write
from taut.algorithms import SVI, Auto

POSITIVE = dist.constraints.positive


def refused(code: str, make: Any) -> TautError:
    with pytest.raises(TautError) as caught:
        make()
    assert caught.value.code == code
    return caught.value


def normal(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 100.0))
    sigma = taut.sample("sigma", dist.LogNormal(0.0, 2.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, sigma), obs=y)


def test_case_48_the_spread_of_a_positive_site_is_in_its_own_space():
    y = np.random.default_rng(0).normal(42.0, 3.0, 10_000)
    found = {}
    for n in (2_500, 10_000):
        fit = taut.fit(normal, dict(y=y[:n]), verify=False)
        found[n] = float(fit["sigma"].sd), float(fit["mu"].sd)
        s = y[:n].std()
        # Bernstein and von Mises: sd of mu is s / sqrt n, of sigma s / sqrt(2 n), that is 0.030 and 0.0212 at 10,000.
        assert abs(found[n][0] / (s / np.sqrt(2 * n)) - 1) < 0.03
        assert abs(found[n][1] / (s / np.sqrt(n)) - 1) < 0.03
    for quarter, whole in zip(found[2_500], found[10_000], strict=True):
        assert abs(quarter / whole - 2.0) < 0.1
    # The excluded reading: exp of the scale on the log line.
    coordinate = taut.fit(normal, dict(y=y), verify=False).unconstrained["sigma"]
    assert coordinate.scale is not None and abs(float(coordinate.scale) - 0.00707) < 0.0003
    assert found[10_000][0] < 0.03 < np.exp(0.00707)


def test_case_49_raw_parameters_come_with_their_transform_and_their_meaning():
    """z ~ HalfNormal, whose coordinate is its logarithm: the centre of q there, and the median it stands for."""

    def model(y: Any) -> None:
        taut.sample("mu_product_sigma", dist.HalfNormal(0.5))
        taut.sample("both", dist.Normal(0.0, taut.param("spread", 2.0, constraint=POSITIVE)).expand([2]).to_event(1))
        taut.sample("y", dist.Normal(0.0, 1.0), obs=y)

    fit = taut.fit(model, dict(y=0.3), verify=False)
    entry = fit.unconstrained["mu_product_sigma"]
    assert entry.transform == "exp" and entry.scale is not None
    assert abs(float(np.exp(entry.loc)) - float(entry.value)) < 1e-12
    assert abs(float(entry.value) / float(fit["mu_product_sigma"].quantile(0.5)) - 1) < 0.05
    line = next(line for line in repr(fit.unconstrained).splitlines() if line.startswith("mu_product_sigma"))
    assert f"loc {float(entry.loc):.4g}" in line and "by exp" in line and f"{float(entry.value):.4g} (median)" in line
    assert fit.unconstrained["both"].loc.shape == (2,)
    spread = fit.unconstrained["spread"]
    assert spread.transform == "exp" and abs(float(np.exp(spread.loc)) - float(spread.value)) < 1e-12


def test_case_49_the_parameters_of_a_guide_written_by_hand():
    def model(y: Any) -> None:
        sigma = taut.sample("sigma", dist.LogNormal(0.0, 1.0))
        taut.sample("y", dist.Normal(0.0, sigma), obs=y)

    def guide() -> None:
        scale = taut.param("scale", 0.5, constraint=POSITIVE)
        taut.sample("sigma", dist.LogNormal(taut.param("loc", 0.0), scale))

    fit = taut.fit(model, dict(y=0.3), guide=guide, algorithm=SVI(steps=400))
    assert fit.unconstrained["scale"].transform == "exp"
    assert abs(float(np.exp(fit.unconstrained["scale"].loc)) - float(fit.unconstrained["scale"].value)) < 1e-12
    assert float(fit.unconstrained["loc"].value) == float(fit.unconstrained["loc"].loc)


def test_case_50_everything_goes_by_name():
    """x, y ~ Uniform(-10, 10) seen through noise: moments in the model's space, whatever else the model holds."""
    rng = np.random.default_rng(1)
    data = rng.multivariate_normal([2.0, -1.0], [[1.0, 0.6], [0.6, 2.0]], 40)
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])

    def model(rows: Any, extra: bool = False) -> None:
        if extra:
            taut.sample("first_of_all", dist.Gamma(2.0, 1.0).expand([3]).to_event(1))
        x = taut.sample("x", dist.Uniform(-10.0, 10.0))
        if extra:
            taut.sample("between", dist.Normal(0.0, 1.0))
        y = taut.sample("y", dist.Uniform(-10.0, 10.0))
        with taut.plate("rows", len(rows)):
            taut.sample("seen", dist.MultivariateNormal(jnp.stack([x, y]), covariance), obs=rows)

    small, large = (taut.fit(model, dict(rows=data, extra=extra)) for extra in (False, True))
    for fit in (small, large):
        # The flat prior is far wider than the likelihood: N(mean, covariance / n).
        np.testing.assert_allclose([float(fit["x"].mean), float(fit["y"].mean)], data.mean(axis=0), atol=0.02)
        np.testing.assert_allclose(fit.cov(["x", "y"]), covariance / 40, rtol=0.08, atol=0.001)
        assert fit.cov("x", "y").shape == () and abs(float(fit.cov("x", "y")) - 0.015) < 0.002
    assert set(large.sites) - set(small.sites) == {"first_of_all", "between"}
    for name in ("x", "y"):
        before, after = small.unconstrained[name], large.unconstrained[name]
        np.testing.assert_allclose(before.loc, after.loc, atol=0.01)
        assert before.scale is not None and after.scale is not None
        np.testing.assert_allclose(before.scale, after.scale, rtol=0.08)


def test_case_51_predicting_for_other_rows():
    y = np.random.default_rng(2).normal(1.0, 1.0, 30)

    def model(n: int, y: Any = None) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("people", n):
            skill = taut.sample("skill", dist.Normal(mu, 0.1))
            taut.sample("y", dist.Normal(skill, 1.0), obs=y)

    fit = taut.fit(model, dict(n=30, y=y))
    error = refused("plate-shape", lambda: fit.predict(dict(n=20)))
    assert error.site == "skill" and "'people'" in error.found and "(20,)" in error.found and "(30,)" in error.expected
    assert 'new_rows="prior"' in error.remedy
    new = fit.predict(dict(n=20), new_rows="prior")
    assert new["skill"].shape == (4000, 20) and new["y"].shape == (4000, 20)
    # New skills follow their prior given mu: its mean is that of mu.
    spread = np.sqrt(float(fit["mu"].sd) ** 2 + 0.01)
    assert abs(new["skill"].mean() - float(fit["mu"].mean)) < 5 * spread / np.sqrt(4000)
    assert fit.predict(dict(n=30))["y"].shape == (4000, 30)


_LOADER = """
import sys, numpy as np, taut
fit = taut.load(sys.argv[1])
np.savez(sys.argv[2], **fit.draws(500, key=7))
print(fit.status)
"""


def test_case_52_saved_here_loaded_there(tmp_path: Path):
    y = np.random.default_rng(3).normal(1.0, 2.0, 50)
    fit = taut.fit(normal, dict(y=y))
    path = fit.save(tmp_path / "fit.taut")
    command = [sys.executable, "-c", _LOADER, str(path), str(tmp_path / "draws.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fit.status
    with np.load(tmp_path / "draws.npz") as there:
        for name, values in fit.draws(500, key=7).items():
            assert np.array_equal(there[name], values), name
    newer = path.read_bytes().replace(rb"\"schema_version\": 1", rb"\"schema_version\": 9")
    atomic_write(tmp_path / "newer.taut", newer)
    error = refused("schema", lambda: taut.load(tmp_path / "newer.taut"))
    assert "version 9" in error.found and "version 1" in error.expected and "taut" in error.found


class Interrupted(SVI):
    """Presses Ctrl-C before a given step."""

    def step(self, problem: Any, guide: Any, state: Any, until: int | None = None) -> Any:
        if state.step >= 500:
            raise KeyboardInterrupt
        return SVI.step(self, problem, guide, state, until)


@pytest.mark.parametrize("through_a_file", [False, True])
def test_case_52_a_resumed_run_is_the_uninterrupted_one(through_a_file: bool, tmp_path: Path):
    y = np.random.default_rng(4).normal(1.0, 2.0, 320)

    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 10.0))
        sigma = taut.sample("sigma", dist.LogNormal(0.0, 2.0))
        with taut.plate("rows", 320, subsample_size=32) as rows:
            taut.sample("y", dist.Normal(mu, sigma), obs=y[rows])

    settings: dict[str, Any] = dict(steps=1000, chunk=100)
    chosen: dict[str, Any] = dict(guide=guides.MeanField(), verify=False)
    whole = taut.fit(model, dict(y=y), algorithm=SVI(**settings), **chosen)
    half = taut.fit(model, dict(y=y), algorithm=Interrupted(**settings), **chosen)
    assert half.status == "interrupted" and half.verdict.level == "not trusted"
    assert "interrupted" in str(half) and np.isfinite(half["mu"].mean)
    if through_a_file:
        half = taut.load(half.save(tmp_path / "half.taut"))
    rest = taut.fit(model, dict(y=y), algorithm=SVI(**settings), resume=half, **chosen)
    assert rest.status == whole.status
    for name, value in whole.params.items():
        assert np.array_equal(rest.params[name], value), name
    assert np.array_equal(rest["mu"].values, whole["mu"].values)
    error = refused(
        "bad-combination",
        lambda: taut.fit(model, dict(y=y), guide=guides.FullRank(), algorithm=SVI(), resume=half),
    )
    assert error.site == "resume" and "resume=fit" in error.remedy


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_case_52_ctrl_c_at_any_step_returns_a_fit(calls: int, monkeypatch: pytest.MonkeyPatch):
    step, made = Auto.step, [0]

    def press(self: Any, *arguments: Any) -> Any:
        if made[0] == calls:
            raise KeyboardInterrupt
        made[0] += 1
        return step(self, *arguments)

    monkeypatch.setattr(Auto, "step", press)
    fit = taut.fit(normal, dict(y=np.array([1.0, 2.0, 4.0])))
    assert fit.status == "interrupted" and fit.verdict.level == "not trusted"
    assert np.isfinite(fit["mu"].mean) and fit["mu"].sd > 0


def test_case_53_two_models_with_the_same_names():
    def low(y: Any) -> None:
        scale = taut.param("scale", 1.0, constraint=POSITIVE)
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(x, scale), obs=y)

    def high(y: Any) -> None:
        scale = taut.param("scale", 5.0, constraint=POSITIVE)
        x = taut.sample("x", dist.Normal(100.0, 1.0))
        taut.sample("y", dist.Normal(x, scale).expand([1]).to_event(1), obs=y)

    alone = taut.fit(low, dict(y=1.5))
    other = taut.fit(high, dict(y=np.array([103.0])))
    again = taut.fit(low, dict(y=1.5))
    assert np.array_equal(alone["x"].values, again["x"].values)
    assert np.array_equal(alone["scale"].values, again["scale"].values)
    # The best scale solves scale^2 = d^2 - 1 with d the distance of the data from the prior's mean.
    # An error of 0.05 in it costs less than 1e-3 nats.
    assert abs(float(alone["scale"].mean) - (1.5**2 - 1) ** 0.5) < 0.05
    assert abs(float(other["scale"].mean) - (3.0**2 - 1) ** 0.5) < 0.05


def test_case_54_the_loss_is_in_nats_per_observation_whatever_the_batch():
    n = 640
    y = np.random.default_rng(5).normal(2.0, 3.0, n)

    def model(y: Any, batch: int) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 10.0))
        sigma = taut.sample("sigma", dist.LogNormal(0.0, 2.0))
        with taut.plate("rows", n, subsample_size=batch) as rows:
            taut.sample("y", dist.Normal(mu, sigma), obs=y[rows])

    fits = {
        batch: taut.fit(
            model, dict(y=y, batch=batch), guide=guides.MeanField(), algorithm=SVI(steps=1600), verify=False
        )
        for batch in (32, n)
    }
    exact = -fits[n].log_evidence / n  # q is close: KL is below 0.01 nats of some 1,600
    for batch, fit in fits.items():
        curve = fit.loss
        assert curve.observations == n and np.all(np.diff(curve.gradients) > 0)
        assert curve.value[0] > curve.value[-1] and np.all(curve.se[1:] > 0)
        noise = np.sqrt(np.mean(curve.se[-3:] ** 2) / 3)
        assert abs(np.mean(curve.value[-3:]) - exact) < 4 * noise + 1e-3, batch
    # The band is as wide as the noise: batches of 32 have more of it.
    assert fits[32].loss.se[-1] > 5 * fits[n].loss.se[-1]
