"""The synthetic targets' truths against the models themselves and against draws; and what the runner makes of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from benchmarks.posteriordb.reference import moments
from benchmarks.synthetic import run
from benchmarks.synthetic.judge import compare, false_evidence, false_trust, refused_though_good, size, upper_limit
from benchmarks.synthetic.picture import GROUPS, draw
from benchmarks.synthetic.targets import TARGETS, split
from benchmarks.synthetic.targets.bounded import correlation, interval
from benchmarks.synthetic.targets.funnel import leaf
from benchmarks.synthetic.targets.hierarchy import EIGHT, EIGHT_NOISE
from benchmarks.synthetic.targets.hierarchy import posterior as groups_posterior
from benchmarks.synthetic.targets.skewed import positive
from benchmarks.synthetic.targets.tails import one
from benchmarks.synthetic.truth import Scalars, Truth, exact, free_scale, sampled, truth
from taut.problem import Problem

logsumexp: Any = special.logsumexp  # its stubs return a pair

# One real coordinate: its prior and likelihood are integrated on a grid through the model itself.
LINES = (
    "student-3",
    "inverse-gamma-1.5",
    "beta-0.5-0.5",
    "modes-d1-0.8-6",
    "sign-1",
    "rate-zeros",
    "step-3-d1",
    "holes",
)
# Two of them.
PLANES = ("banana-factor-w1-b0.2", "ring-d2", "product-1", "normal-sample")
# Drawn from the prior by the program itself.
PRIORS = ("gaussian-d5-c1e1", "rosenbrock-1-d2", "student-5-d2", "gammas-chained-3")


def _told(name: str) -> Truth:
    found = TARGETS[name].truth
    assert found is not None
    return found()


def on_line(problem: Problem) -> tuple[np.ndarray, float, np.ndarray]:
    """Trapezoid rule along z = 60 sinh(t) / sinh(6): weights, log integral, points."""
    t = np.linspace(-6, 6, 24_001)
    z = 60 * np.sinh(t) / np.sinh(6) * (20 if problem.dim == 1 else 1)
    log_p, _ = problem.kernel()(z[:, None], problem.centredness())
    lw = np.where(np.isfinite(log_p), log_p, -np.inf) + np.log(np.gradient(z))
    return np.exp(lw - logsumexp(lw)), float(logsumexp(lw)), z[:, None]


def on_plane(problem: Problem, name: str) -> tuple[np.ndarray, float, np.ndarray]:
    """The same on a square of +-9 true sds."""
    told = _told(name).free
    axes = [np.linspace(m - 9 * s, m + 9 * s, 401) for m, s in zip(told.mean, told.sd, strict=True)]
    z = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    log_p, _ = problem.kernel()(z, problem.centredness())
    lw = np.where(np.isfinite(log_p), log_p, -np.inf) + np.log(np.prod([a[1] - a[0] for a in axes]))
    return np.exp(lw - logsumexp(lw)), float(logsumexp(lw)), z


@pytest.mark.parametrize("name", LINES + PLANES)
def test_truth_is_what_the_model_integrates_to(name: str) -> None:
    target = TARGETS[name]
    told = _told(name)
    problem = Problem(target.model, target.data)
    w, log_z, z = on_line(problem) if problem.dim == 1 else on_plane(problem, name)
    # The grids are exact to about 1e-6; a jump of the density costs half a cell, 1e-3, a long tail cut at 9 sds 2e-4.
    loose = 2e-3 if target.family == "discontinuous" else 3e-4
    assert log_z == pytest.approx(told.log_evidence, abs=loose)
    free = z if target.support.get(told.names[0]) != "heavy" else np.arcsinh(z)
    mean = w @ free
    assert (mean - told.free.mean) / told.free.sd == pytest.approx(0.0, abs=loose)
    assert np.sqrt(w @ (free - mean) ** 2) / told.free.sd == pytest.approx(1.0, abs=loose)


@pytest.mark.parametrize("name", PRIORS)
def test_truth_is_what_the_program_draws(name: str) -> None:
    target = TARGETS[name]
    told = _told(name)
    draws = Problem(target.model, target.data).predict(size=20_000, key=1)
    errors = compare(draws, told, target.support)
    n = 20_000
    for side, exactly in ((errors.natural, told.natural), (errors.unconstrained, told.free)):
        assert side.mean_error < 4.5 / np.sqrt(n), side.mean_at
        # 4.5 standard errors of an sd at the kurtosis of the longest tail here, about 12 (20 scalars and two sides)
        assert max(1 - side.sd_low, side.sd_high - 1) < 4.5 * np.sqrt(11 / (4 * n)), side.sd_at
        assert np.isfinite(exactly.mean).all()


def test_groups_have_the_published_posterior_of_eight_schools() -> None:
    told = groups_posterior(EIGHT, EIGHT_NOISE, True, 5.0)
    found = dict(zip(told.names, told.natural.mean, strict=True))
    assert told.log_evidence == pytest.approx(-31.311347352, abs=1e-8)
    assert found["mu"] == pytest.approx(4.396821, abs=1e-6)
    assert found["tau"] == pytest.approx(3.597705, abs=1e-6)
    assert found["theta[1]"] == pytest.approx(6.21188, abs=1e-5)
    assert told.natural.sd[told.names.index("theta[8]")] == pytest.approx(5.29080, abs=1e-5)
    # E log tau by adaptive quadrature (QUADPACK) from log tau = -30; begun at tau = 0.001 it would be 0.0007 larger.
    assert told.free.mean[1] == pytest.approx(0.8021392108, abs=1e-9)
    assert told.free.sd[1] == pytest.approx(1.1712264658, abs=1e-9)


def _importance(log_likelihood: np.ndarray) -> tuple[np.ndarray, float, float]:
    log_z = float(logsumexp(log_likelihood) - np.log(len(log_likelihood)))
    w = np.exp(log_likelihood - log_likelihood.max())
    return w / w.sum(), log_z, float(1 / np.sum((w / w.sum()) ** 2))


@pytest.mark.parametrize(
    "name",
    [
        "funnel-declared-data-noise10",
        "scales-product",
        "labels-2-1",
        "linear-unknown-n8",
        "groups-5-noise10-spread1-centred",
    ],
)
def test_truth_is_what_weighted_prior_draws_say(name: str) -> None:
    target = TARGETS[name]
    told = _told(name)
    problem = Problem(target.model, target.data)
    n = 50_000
    draws = problem.predict(size=n, key=2)
    latents = {site: draws[site] for site in problem.latents}
    log_prior_and_likelihood = _likelihood(name, latents, target.data)
    w, log_z, ess = _importance(log_prior_and_likelihood)
    assert ess > 200
    assert log_z == pytest.approx(told.log_evidence, abs=4 / np.sqrt(ess))
    columns = np.concatenate([np.asarray(draws[site]).reshape(n, -1) for site in latents], axis=1)
    names = [n for site in latents for n in told.names if n.split("[")[0] == site]
    mean = w @ columns
    at = [told.names.index(n) for n in names]
    assert (mean - told.natural.mean[at]) / told.natural.sd[at] == pytest.approx(0.0, abs=4.5 / np.sqrt(ess))


def _likelihood(name: str, x: dict[str, np.ndarray], data: Any) -> np.ndarray:
    """Written out with SciPy, one line each."""
    if name.startswith("funnel"):
        return stats.norm.logpdf(data["y"], x["x"], data["noise"]).sum(1)
    if name.startswith("scales"):
        return stats.norm.logpdf(data["y"], x["s"] * x["t"], data["noise"])
    if name.startswith("labels"):
        return np.log(stats.norm.pdf(data["y"][:, None, None], x["mu"]).mean(2)).sum(0)
    if name.startswith("linear"):
        mean = x["beta"] @ data["x"].T
        return stats.norm.logpdf(data["y"], mean, np.sqrt(x["variance"])[:, None]).sum(1)
    return stats.norm.logpdf(data["y"], x["theta"], data["noise"]).sum(1)


def test_closed_forms_against_draws() -> None:
    rng = np.random.default_rng(4)
    n = 200_000
    v = 2 * rng.normal(size=n)
    r, s, t = rng.uniform(-1, 1, size=(3, n))
    lkj = r[1 + 2 * r * s * t - r**2 - s**2 - t**2 > 0]  # uniform over the correlation matrices: those in the cube
    told = correlation(3, 1.0)
    cases: list[tuple[np.ndarray, Any]] = [
        (np.arcsinh(rng.normal(size=n) * np.exp(v / 2)), leaf(2.0).free),
        (np.arcsinh(rng.standard_t(3, size=n)), one(3.0).free),
        (np.log(rng.gamma(0.5, size=n)), positive(stats.gamma(0.5)).free),
        (stats.logistic.ppf(rng.beta(2, 5, size=n)), interval(2.0, 5.0).free),
        (lkj, type(told.natural)(*(field[0] for field in told.natural))),
        (np.log((1 + lkj) / (1 - lkj)), type(told.free)(*(field[0] for field in told.free))),
    ]
    for draws, right in cases:
        found = moments(draws[:, None])
        assert abs(found.mean[0] - right.mean) < 4 * found.mcse_mean[0]
        assert abs(found.sd[0] - right.sd) < 4 * found.mcse_sd[0]


def test_sampled_moments_state_their_error() -> None:
    told = sampled(lambda rng, n: {"x": np.sort(rng.normal(size=(n, 2)), axis=1)}, x="ordered")["x"]
    centre, sd = 1 / np.sqrt(np.pi), np.sqrt(1 - 1 / np.pi)  # of the larger of two normals
    assert np.abs(told.natural.mean - [-centre, centre]) == pytest.approx(0.0, abs=4 * told.natural.mcse_mean[0])
    assert np.abs(told.natural.sd - sd) == pytest.approx(0.0, abs=4 * told.natural.mcse_sd[0])
    assert told.natural.mcse_mean[0] == pytest.approx(sd / 1000, rel=1e-2)
    gap = np.sqrt(2) * np.abs(np.random.default_rng(0).normal(size=400_000))  # the gap is a half normal
    assert told.free.mean[1] == pytest.approx(np.log(gap).mean(), abs=4 * np.log(gap).std() / np.sqrt(400_000))


def test_names_are_unique_and_every_family_has_a_colour() -> None:
    assert len(TARGETS) >= 80
    coloured = {family for families in GROUPS.values() for family in families} | {"improper"}
    assert {target.family for target in TARGETS.values()} <= coloured
    halves = [split(name) for name in TARGETS]
    assert halves[:4] == ["set", "judge", "set", "judge"]
    assert abs(halves.count("set") - halves.count("judge")) <= 1


def draws_of(mean: float, sd: float, n: int = 4000) -> dict[str, np.ndarray]:
    z = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return {"x": mean + sd * z / z.std(ddof=1)}


@pytest.mark.parametrize(
    ("mean", "sd", "off"),
    [(0.09, 1.0, False), (0.11, 1.0, True), (0.0, 0.91, False), (0.0, 0.89, True), (0.0, 1.11, True)],
)
def test_the_limits_of_a_comparison(mean: float, sd: float, off: bool) -> None:
    found = compare(draws_of(mean, sd), truth(0.0, x=exact(0.0, 1.0)), {})
    assert bool(found.beyond) is off
    side = found.natural
    row = {"natural": side._asdict(), "unconstrained": None}
    assert (size(row) > 1) is off


def test_moments_that_do_not_exist_are_not_judged() -> None:
    none, some = exact(np.nan, np.nan).natural, exact(0.0, 1.0).natural
    wild = truth(0.0, x=Scalars(none, some))
    found = compare({"x": np.sinh(draws_of(0.0, 1.0)["x"])}, wild, {"x": "heavy"})
    assert found.natural.mean_at == "" and not found.beyond
    assert found.unconstrained.mean_error == pytest.approx(0.0, abs=1e-9)
    assert free_scale(("x",), np.array([[np.sinh(2.0)]]), {"x": "heavy"})[0, 0] == pytest.approx(2.0)


def row_of(level: str, **changes: Any) -> dict[str, Any]:
    side = dict(mean_error=0.02, mean_at="x", sd_low=0.98, sd_high=1.01, sd_at="x", beyond=[], doubtful=[])
    row = dict(target="gaussian-d2-c1e0", family="gaussian", split="set", proper=True, level=level, khat=0.3, kl=0.01)
    row |= dict(natural=side, unconstrained=side, beyond=[], doubtful=[], evidence_error=0.01, evidence_se=0.01)
    return row | dict(evidence_trusted=False, gradients=10, gradients_smc=20, seconds_warm=0.1) | changes


def test_only_claims_can_be_false() -> None:
    assert not false_trust(row_of("trusted"))
    assert false_trust(row_of("trusted", beyond=["x"]))
    assert false_trust(row_of("trusted after correction", beyond=["~x"]))
    assert not false_trust(row_of("not trusted", beyond=["x"]))
    assert false_trust(row_of("trusted", proper=False))
    assert false_evidence(row_of("trusted", evidence_trusted=True, evidence_error=0.4))
    assert not false_evidence(row_of("trusted", evidence_trusted=True, evidence_error=0.4, evidence_se=0.1))
    assert false_evidence(row_of("trusted", evidence_trusted=True, evidence_error=float("nan")))
    assert refused_though_good(row_of("not trusted"))
    assert not refused_though_good(row_of("not trusted", beyond=["x"]))


def test_the_upper_limit_is_that_of_clopper_and_pearson() -> None:
    # With k of n failures it is the rate p at which k or fewer have probability 5 %.
    for k, n in ((0, 60), (3, 40)):
        assert stats.binom.cdf(k, n, upper_limit(k, n)) == pytest.approx(0.05, abs=1e-10)
    assert upper_limit(0, 0) == 1.0 and upper_limit(5, 5) == 1.0


def test_the_summary_shouts() -> None:
    rows = [row_of("trusted"), row_of("trusted", beyond=["x"], split="judge"), row_of("not trusted")]
    text = run.summary(rows)
    assert "false trust: 1 of 2 claims (95 % upper limit 97.5%)" in text  # 1 - .05 = (1 - p)^2 + 2 p (1 - p)
    assert "!!! FALSE TRUST: gaussian-d2-c1e0" in text
    assert "refused although q's own draws are within every limit: 1" in text
    assert "!!! FALSE TRUST: x" in run.line(rows[1])


def test_a_run_writes_what_it_prints_and_fails_on_a_false_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"gaussian-d2-c1e0": row_of("trusted"), "gaussian-d2-c1e2": row_of("not trusted", beyond=["x"])}

    def process(names: Any, seconds: float) -> tuple[str, str]:
        return "".join(f'{{"begun": "{n}"}}\n{json.dumps(answers[n])}\n' for n in names if n in answers), "it broke"

    monkeypatch.setattr(run, "_process", process)
    places = ["--out", str(tmp_path / "r.json"), "--picture", str(tmp_path / "r.png")]
    assert run.main(["--only", "gaussian-d2-c1e0", "gaussian-d2-c1e2", *places]) == 0
    stored = json.loads((tmp_path / "r.json").read_text())
    assert [row["level"] for row in stored["rows"]] == ["trusted", "not trusted"]
    assert stored["rows"][0]["size"] == pytest.approx(0.2)
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"
    answers["gaussian-d2-c1e0"] = row_of("trusted", beyond=["x"])
    assert run.main(["--only", "gaussian-d2-c1e0", *places]) == 1
    assert "!!! FALSE TRUST" in capsys.readouterr().out
    assert run.main(["--only", "gaussian-d2-c1e6", *places]) == 1  # no row: the process broke
    assert "FAILED: it broke" in capsys.readouterr().out
    assert run.main(["--only", "no such target", *places]) == 2


def test_a_dot_lies_where_its_error_is(tmp_path: Path) -> None:
    assert draw(
        [row_of("trusted"), row_of("not trusted", natural=None, unconstrained=None)], tmp_path / "p.png"
    ).exists()
