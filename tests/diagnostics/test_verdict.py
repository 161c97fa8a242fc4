"""The verdict on targets whose posterior is known: never trust what is wrong, trust what is right."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import digamma, polygamma

from taut.diagnostics import (
    CORRECTED,
    NOT_TRUSTED,
    TRUSTED,
    UNVERIFIED,
    Comparison,
    Evidence,
    Modes,
    Verdict,
    Weighing,
    compare,
    judge,
    weigh,
)

LEVELS = (TRUSTED, CORRECTED, NOT_TRUSTED, UNVERIFIED)


def gaussian(rng: np.random.Generator, cov: np.ndarray, sd: np.ndarray) -> tuple[Weighing, Comparison]:
    """Weigh q = N(0, diag(sd^2)) against p = N(0, cov)."""
    u = rng.normal(size=(16_000, len(sd)))
    z = u * sd
    precision = np.linalg.inv(cov)
    logs = -0.5 * np.einsum("ni,ij,nj->n", z, precision, z) + 0.5 * np.linalg.slogdet(precision)[1]
    logs = (logs + 0.5 * (u * u).sum(axis=1) + np.log(sd).sum()).reshape(4, -1)
    return weigh(logs), compare({"x": z}, logs)


def good(seed: int = 0) -> Evidence:
    weighing, moments = gaussian(np.random.default_rng(seed), np.eye(3), np.full(3, 0.97))
    return Evidence("converged", weighing, (0.01, 0.01), moments, Modes(found=1, reached=8, starts=8))


def failing(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_a_good_fit_is_trusted():
    verdict = judge(good())
    assert verdict.level == TRUSTED
    assert failing(verdict) == set()
    assert verdict.evidence_trusted
    assert verdict.reasons == ()
    # KL(N(0, .97^2) || N(0, 1)) = (.9409 - 1 - log .9409) / 2 = .00091 for each of three.
    assert verdict.headline.startswith("trusted: the posterior below is q itself; KL(q||p) about 0.00")


def test_an_exact_fit_is_trusted_although_its_weights_have_no_tail():
    weighing, moments = gaussian(np.random.default_rng(0), np.eye(3), np.ones(3))
    assert judge(Evidence("converged", weighing, (0.0, 0.0), moments, Modes(1, 8, 8))).level == TRUSTED


def test_a_plateau_is_judged_by_the_weights_alone():
    """Where noise hides what is left to gain, fresh draws decide; without them nothing vouches for q."""
    assert judge(dataclasses.replace(good(), status="plateaued")).level == TRUSTED
    assert judge(Evidence("plateaued")).level == NOT_TRUSTED


@pytest.mark.parametrize("status", ["budget", "diverged", "nonfinite", "interrupted", "surprise"])
def test_only_a_converged_run_is_believed(status: str):
    verdict = judge(dataclasses.replace(good(), status=status))
    assert verdict.level == NOT_TRUSTED
    assert failing(verdict) == {"converged"}
    assert not verdict.evidence_trusted
    assert len(verdict.reasons) == 1
    assert verdict.headline.startswith("not trusted: the run ")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"modes": Modes(found=2, reached=4, starts=8)}, "modes"),
        ({"modes": Modes(found=1, reached=1, starts=8)}, "starts"),
        ({"flat": ("a", "b")}, "flat"),
        ({"moments": None}, "moments"),
    ],
)
def test_facts_that_no_weight_can_mend(change: dict, name: str):
    verdict = judge(dataclasses.replace(good(), **change))
    assert verdict.level == NOT_TRUSTED
    assert failing(verdict) == {name}


def test_a_fit_that_learnt_its_draws_is_only_usable():
    verdict = judge(dataclasses.replace(good(), fit_minus_fresh=(0.4, 0.02)))
    assert verdict.level == CORRECTED
    assert verdict.reasons == (
        "The fitted ELBO exceeds the ELBO on fresh draws by 0.400 nats (limit 0.090): "
        "the fit has learnt its own draws.",
    )
    # A gap known only to +- 5 nats does not show agreement.
    assert judge(dataclasses.replace(good(), fit_minus_fresh=(0.0, 5.0))).level == CORRECTED


def test_no_weights_is_unverified():
    verdict = judge(Evidence("converged"))
    assert verdict.level == UNVERIFIED
    assert not verdict.evidence_trusted
    assert judge(Evidence("budget")).level == NOT_TRUSTED


def test_mean_field_on_a_correlated_gaussian():
    # rho = .9: the mean-field optimum has sd sqrt(1 - rho^2) = .436 and KL .8304. It must never pass.
    rho = 0.9
    sd = np.full(2, math.sqrt(1 - rho**2))
    assert sd[0] == pytest.approx(0.436, abs=1e-3)
    cov = np.array([[1.0, rho], [rho, 1.0]])
    rng = np.random.default_rng(1)
    for _ in range(25):
        weighing, moments = gaussian(rng, cov, sd)
        assert weighing.elbo == pytest.approx(-0.8304, abs=4 * weighing.elbo_se)
        verdict = judge(Evidence("converged", weighing, (0.0, 0.01), moments, Modes(1, 8, 8)))
        assert verdict.level == NOT_TRUSTED
        assert {"kl", "sds", "narrow"} <= failing(verdict)


def test_one_batch_shows_no_spread():
    fit = good()
    assert fit.weighing is not None
    verdict = judge(dataclasses.replace(fit, weighing=dataclasses.replace(fit.weighing, batches=1)))
    assert failing(verdict) == {"evidence", "evidence-reweighted"}
    assert verdict.level == NOT_TRUSTED


def test_a_wide_q_is_usable_when_reweighted():
    # q twice as wide as p in one direction: weights are bounded, and do mend it. KL = (4 - 1 - log 4) / 2 = .807.
    weighing, moments = gaussian(np.random.default_rng(2), np.eye(2), np.array([2.0, 1.0]))
    verdict = judge(Evidence("converged", weighing, (0.0, 0.01), moments, Modes(1, 8, 8)))
    assert weighing.kl == pytest.approx(0.8069, abs=4 * weighing.kl_se)
    assert verdict.level == CORRECTED
    assert {"kl", "sds"} <= failing(verdict)
    assert all(any(figure in text for figure in "0123456789") for text in verdict.reasons)


def test_a_wrong_mean_is_not_trusted():
    u = np.random.default_rng(3).normal(size=16_000)
    logs = (0.4 * u - 0.08).reshape(4, -1)  # p = N(.4, 1): KL .08 is within its limit, the mean is not
    verdict = judge(Evidence("converged", weigh(logs), (0.0, 0.01), compare({"mu": u}, logs), Modes(1, 8, 8)))
    assert failing(verdict) == {"means"}
    assert verdict.level == CORRECTED
    assert "mu" in verdict.reasons[0]


def test_draws_outside_the_support():
    fit = good()
    logs = np.zeros((4, 100))
    logs[0, :3] = -np.inf
    logs[1, 0] = np.nan
    verdict = judge(dataclasses.replace(fit, weighing=weigh(logs)))
    assert verdict.level == NOT_TRUSTED
    assert "4 of 400 draws of q have density zero or not finite (1 of them NaN or +inf)" in verdict.headline
    dead = judge(dataclasses.replace(fit, weighing=weigh(np.full((4, 100), -np.inf)), moments=None))
    assert dead.level == NOT_TRUSTED


def test_a_cauchy_q_has_no_elbo():
    z = np.random.default_rng(4).standard_cauchy(16_000)
    logs = (-0.5 * z**2 + np.log1p(z**2)).reshape(4, -1)
    verdict = judge(Evidence("converged", weigh(logs), None, compare({"x": z}, logs)))
    assert verdict.level == NOT_TRUSTED
    assert "elbo" in failing(verdict)


def test_never_trusted_when_wrong_across_log_gamma_targets():
    # p: z = log Gamma(a) in D coordinates, q its best Gaussian: m + s^2/2 = log a, s^2 = 1/a. Both moments are exact
    # for both, so is the truth of every verdict: the sd of q is off by log(sqrt(a psi'(a))).
    rng = np.random.default_rng(5)
    seen = set()
    for a in (0.3, 0.5, 1.0, 2.0, 5.0, 20.0, 200.0):
        for dim in (1, 5, 20):
            s = 1 / math.sqrt(a)
            m = math.log(a) - 0.5 * s * s
            off = max(abs(math.log(s / math.sqrt(polygamma(1, a)))), abs(m - digamma(a)) / math.sqrt(polygamma(1, a)))
            for _ in range(3):
                u = rng.normal(size=(16_000, dim))
                z = m + s * u
                logs = ((a * z - np.exp(z)).sum(axis=1) + 0.5 * (u * u).sum(axis=1)).reshape(4, -1)
                verdict = judge(Evidence("converged", weigh(logs), None, compare({"z": z}, logs)))
                assert verdict.level in LEVELS
                assert verdict.level != TRUSTED or off < 0.12, (a, dim)
                seen.add((a, verdict.level))
    assert (0.3, TRUSTED) not in seen
    assert (0.3, CORRECTED) not in seen
    assert (200.0, TRUSTED) in seen
    assert (200.0, NOT_TRUSTED) not in seen


def test_sentences_and_advice():
    weighing, moments = gaussian(np.random.default_rng(6), np.array([[1.0, 0.8], [0.8, 1.0]]), np.full(2, 0.6))
    verdict = judge(Evidence("budget", weighing, (3.0, 0.1), moments, Modes(2, 1, 8), flat=("b",), notes=("n.",)))
    names = [check.name for check in verdict.checks]
    assert len(names) == len(set(names))
    for check in verdict.checks:
        assert check.text.endswith(".") and "\n" not in check.text and "nan" not in check.text
    assert verdict.advice.endswith(".")
    assert "\n" not in verdict.headline
    assert verdict.notes == ("n.",)


def test_the_room_needs_numpy_only():
    # arviz and scipy.stats would cost most of a cold start.
    code = (
        "import sys, taut.diagnostics as d; d.judge(d.Evidence('converged', d.weigh([0.0, 1.0])));"
        "bad = {'scipy', 'arviz_stats', 'pandas', 'xarray', 'matplotlib'} & "
        "({n.split('.')[0] for n in sys.modules} - set(sys.argv[1].split(',')));"
        "print(sorted(bad))"
    )
    # What taut itself loads (JAX brings SciPy) is not this room's doing.
    base = "import sys, taut; print(','.join({n.split('.')[0] for n in sys.modules}))"
    before = subprocess.run([sys.executable, "-c", base], capture_output=True, text=True, check=True).stdout.strip()
    out = subprocess.run([sys.executable, "-c", code, before], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
