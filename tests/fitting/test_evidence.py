"""`fit.evidence`: intervals against evidences in closed form and by quadrature, and open ones where nothing holds."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import betaln

import taut
from taut import diagnostics, dist, guides, testing
from taut._errors import TautError
from taut.diagnostics import EvidenceLine


def beta_bernoulli(y: Any) -> None:
    p = taut.sample("p", dist.Beta(2.0, 3.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Bernoulli(p), obs=y)


def rate(x: Any) -> None:
    z = taut.sample("z", dist.Gamma(1.0, 1.0))
    taut.sample("x", dist.Exponential(z), obs=x)


COINS = np.array([1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
EXACT: dict[str, tuple[Any, dict[str, Any], float]] = {
    **{e.name: (e.model, e.data, e.log_evidence) for e in (make() for make in testing.EXACT)},
    "Beta-Bernoulli": (beta_bernoulli, {"y": COINS}, float(betaln(6, 11) - betaln(2, 3))),
    # The integral of exp(-z) z exp(-z x): weights of a Gamma shape.
    "Gamma weights": (rate, {"x": 2.0}, -2 * math.log(3.0)),
}


@pytest.fixture(scope="module")
def fits() -> dict[str, taut.Fit]:
    return {name: taut.fit(model, data) for name, (model, data, _) in EXACT.items()}


@pytest.mark.parametrize("name", EXACT)
def test_the_interval_holds_the_exact_evidence(name: str, fits: dict[str, taut.Fit]):
    exact = EXACT[name][2]
    found = fits[name].evidence()
    # Ends are three standard errors out: the key is fixed, and over twenty-five keys none of these failed.
    assert exact in found
    assert found.width < 0.5
    assert abs(found.estimate - exact) < 4 * found.se + 1e-9
    assert [line.side for line in found.lines] == sorted(
        (line.side for line in found.lines), key=["below", "near", "above"].index
    )
    for line in found.lines:
        if line.holds and line.side == "below":
            assert line.value - 4 * line.se < exact + 1e-8
        if line.holds and line.side == "above":
            assert line.value + 4 * line.se > exact - 1e-8


def test_an_exact_q_leaves_nothing_to_doubt(fits: dict[str, taut.Fit]):
    for name in ("conjugate regression", "correlated Gaussian"):
        found = fits[name].evidence()
        assert found.width < 1e-6 and not found.warnings


@pytest.mark.parametrize(
    "method, line", [("bridge", "bridge to q"), ("annealing", "reverse annealing"), ("smc", "SMC")]
)
def test_methods_that_are_asked_for(method: Any, line: str, fits: dict[str, taut.Fit]):
    found = fits["eight schools"].evidence(method=method)
    exact = EXACT["eight schools"][2]
    assert exact in found
    assert abs(found[line].value - exact) < 4 * found[line].se + (0.1 if method == "annealing" else 0.0)
    assert found["annealing from q"].side == "below" and found["reverse annealing" if line[0] == "r" else "EUBO"]


@pytest.mark.parametrize("name", ["eight_schools", "neal_funnel", "correlated_gaussian"])
def test_a_poor_q_gives_a_wide_interval_or_a_warning_never_a_wrong_one(name: str):
    # Independent normals: the ELBO is 2.1, 1.9 and 0.8 nats short.
    exact = getattr(testing, name)()
    fit = taut.fit(exact.model, exact.data, guide=guides.MeanField(), verify=False)
    found = fit.evidence()
    assert exact.log_evidence in found
    assert any("k-hat" in text for text in found.warnings)
    assert not found["importance sampling"].holds and not found["CUBO"].holds
    weights = fit.evidence(method="weights")
    assert exact.log_evidence in weights
    assert math.isinf(weights.high) and any("from above" in text for text in weights.warnings)


def test_a_flat_posterior_has_no_end_from_above():
    def model(y: Any) -> None:
        flat = dist.ImproperUniform(dist.constraints.real, (), ())
        a, b = taut.sample("a", flat), taut.sample("b", flat)
        taut.sample("y", dist.Normal(a + b, 1.0), obs=y)

    fit = taut.fit(model, {"y": 1.0})
    found = fit.evidence()
    assert math.isinf(found.high)
    assert any("does not fall off" in text for text in found.warnings)


def test_modes_that_q_is_known_to_miss_leave_the_interval_open():
    # Two bumps, of which a Gaussian takes one: its weights are all but constant, and log 0.7 short of the evidence.
    def model(y: Any) -> None:
        m = taut.sample("m", dist.Normal(0.0, 10.0))
        bumps = jnp.logaddexp(math.log(0.7) - 2 * (m - 5) ** 2, math.log(0.3) - 2 * (m + 5) ** 2)
        taut.factor("bumps", bumps + 0 * y)

    # Each bump is the density of N(+-5, 1/2) times sqrt(2 pi) / 2.
    exact = 0.5 * math.log(2 * math.pi) - math.log(2) - 0.5 * math.log(2 * math.pi * 100.25) - 12.5 / 100.25
    found = taut.fit(model, {"y": 0.0}, guide=guides.FullRank()).evidence()
    assert found["IWAE"].value == pytest.approx(exact + math.log(0.7), abs=0.01)
    assert exact in found and math.isinf(found.high) and math.isnan(found.estimate)
    assert "modes" in found.warnings[0]
    mixture = taut.fit(model, {"y": 0.0}).evidence()
    assert exact in mixture and mixture.width < 0.1


def test_independent_rows_have_logarithms_of_their_own():
    # 50 rows of one latent each, q the prior: -88.4 at K = 5, row by row, where the logarithm of all rows gives -102.9.
    y = np.random.default_rng(0).normal(0.0, 2**0.5, 50)
    exact = float(np.sum(-0.25 * y**2 - 0.5 * math.log(4 * math.pi)))

    def model(y: Any) -> None:
        with taut.plate("rows", len(y)):
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(y: Any) -> None:
        with taut.plate("rows", len(y)):
            taut.sample("z", dist.Normal(taut.param("loc", 0.0), 1.0))

    # One step: the location stays where it begins, to a hundredth.
    algorithm = taut.algorithms.SVI(steps=1)
    fit = taut.fit(model, {"y": y}, guide=guide, algorithm=algorithm, verify=False, draws=8000)
    found = fit.evidence(particles=5)
    assert abs(found["IWAE"].value + 88.4) < 0.06 + 4 * found["IWAE"].se
    assert exact in found and any("50 independent rows" in text for text in found.notes)
    assert abs(found["JVI-2"].value - exact) < 1.0


def test_a_loaded_fit_does_what_its_weights_allow(fits: dict[str, taut.Fit], tmp_path: Any):
    for name in ("conjugate regression", "eight schools"):
        fits[name].save(tmp_path / "fit.taut")
        loaded = taut.load(tmp_path / "fit.taut")
        found = loaded.evidence()
        assert EXACT[name][2] in found
        with pytest.raises(TautError) as refused:
            loaded.evidence(method="bridge")
        assert refused.value.code == "no-model"
    # Eight schools rests on particles: their estimate was kept, their weights were not.
    assert found["SMC, when the fit was made"].value == fits["eight schools"].log_evidence
    assert math.isinf(found.high)


def test_more_particles_than_the_fit_has_draws_for(fits: dict[str, taut.Fit], tmp_path: Any):
    fit = fits["Beta-Bernoulli"]
    found = fit.evidence(particles=4000, method="weights")
    assert found["IWAE"].name == "IWAE, K = 4,000"
    assert abs(found["IWAE"].value - EXACT["Beta-Bernoulli"][2]) < 4 * found["IWAE"].se
    fit.save(tmp_path / "fit.taut")
    with pytest.raises(TautError, match="from 1 to 2,000"):
        taut.load(tmp_path / "fit.taut").evidence(particles=4000)


def test_what_is_refused(fits: dict[str, taut.Fit]):
    fit = fits["Beta-Bernoulli"]
    wrong: Any
    for wrong in ({"particles": 0}, {"particles": 2.0}, {"particles": True}, {"method": "magic"}):
        with pytest.raises(TautError) as refused:
            fit.evidence(**wrong)
        assert refused.value.code == "bad-argument"
    point = taut.fit(beta_bernoulli, {"y": COINS}, guide=guides.Delta(), algorithm=taut.algorithms.MAP())
    with pytest.raises(TautError) as refused:
        point.evidence()
    assert refused.value.code == "bad-combination"


def test_the_same_key_gives_the_same_interval(fits: dict[str, taut.Fit]):
    fit = fits["Gamma weights"]
    one, two, other = fit.evidence(), fit.evidence(), fit.evidence(key=1)
    assert (one.low, one.high, one.estimate) == (two.low, two.high, two.estimate)
    assert one.low != other.low


def test_what_print_shows(fits: dict[str, taut.Fit]):
    text = str(fits["eight schools"].evidence())
    lines = text.splitlines()
    assert lines[0].startswith("log evidence of model, nats: between -31.")
    assert lines[2].startswith("below  ELBO") and "random estimate" in text
    assert max(map(len, lines)) < 121


def test_bounds_that_contradict_each_other_are_not_believed():
    lines = [EvidenceLine("a", "below", 1.0, 0.01, True), EvidenceLine("b", "above", 0.0, 0.01, True)]
    found = diagnostics.interval(lines, slack=0.0)
    assert found.low < 0.0 < 1.0 < found.high
    assert "contradict" in found.warnings[0]


@pytest.mark.parametrize("variance, finite", [(0.9, True), (0.75, True), (0.3, False)])
def test_lines_of_a_narrow_gaussian(variance: float, finite: bool):
    # q = N(0, v), p = N(0, 1): k = 1 - v; E_q log w and E_p log w in closed form, E w^2 finite for v > 1/2.
    rng = np.random.default_rng(1)
    z = rng.normal(0.0, math.sqrt(variance), 64_000)
    log_w = -0.5 * z**2 + 0.5 * z**2 / variance + 0.5 * math.log(variance)
    pool = diagnostics.pooled(log_w, 1, rng)
    found = {line.name.split(",")[0]: line for line in diagnostics.from_weights(pool)}
    elbo = 0.5 * (1.0 - variance + math.log(variance))
    assert abs(found["ELBO"].value - elbo) < 4 * found["ELBO"].se
    assert found["importance sampling"].holds == finite
    eubo = 0.5 * (1.0 / variance - 1.0 + math.log(variance))
    if variance > 0.8:
        assert abs(found["EUBO"].value - eubo) < 4 * found["EUBO"].se
        square = 0.5 * math.log(variance) - 0.5 * math.log(2.0 - 1.0 / variance)
        assert found["CUBO-2"].holds and abs(found["CUBO-2"].value - square / 2) < 4 * found["CUBO-2"].se
    # Draws of the posterior need no moments of the weights.
    posterior = rng.normal(size=(2, 4096))
    at = -0.5 * posterior**2 + 0.5 * posterior**2 / variance + 0.5 * math.log(variance)
    line = diagnostics.from_posterior(at, pool, rng, True)
    assert abs(line.value - eubo) < 4 * line.se
