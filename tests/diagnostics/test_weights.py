"""Evidence, ELBO, KL and the jackknife against closed forms, brute force and quadrature."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.special import digamma, exp1, logsumexp, polygamma

from taut._errors import TautError
from taut.diagnostics import jackknife, logmeanexp, weigh


def test_logmeanexp_is_stable():
    assert logmeanexp([-800.0, -801.0]) == pytest.approx(-800.380, abs=1e-3)
    assert logmeanexp([100.0, 99.0]) == pytest.approx(99.620, abs=1e-3)
    assert logmeanexp([-np.inf, -np.inf]) == -math.inf
    x = np.random.default_rng(0).normal(size=(3, 5, 7)) * 100
    np.testing.assert_allclose(logmeanexp(x, axis=1), np.asarray(logsumexp(x, axis=1)) - math.log(5), rtol=1e-13)


# Gamma(a) weights: q = Gamma(a, 1) and p = z q, so that log Z = log a and E log mean of K = digamma(K a) - log K.


@pytest.mark.parametrize(
    ("count", "bias", "variance"),
    [
        (1, -0.5772156649, 1.644934),
        (2, -0.2703628455, 0.644934),
        (5, -0.1033202440, 0.221323),
        (16, -0.0315753939, 0.0644938),
        (64, -0.0078328446, None),
    ],
)
def test_gamma_weights(count: int, bias: float, variance: float | None):
    reps = 200_000 if count < 64 else 60_000
    x = np.log(np.random.default_rng(count).gamma(1.0, size=(reps, count)))
    found = np.asarray(logmeanexp(x, axis=1))
    assert bias == pytest.approx(digamma(count) - math.log(count), abs=1e-9)
    exact = float(polygamma(1, count))
    assert variance is None or variance == pytest.approx(exact, abs=1e-6)
    se = math.sqrt(exact / reps)
    assert abs(found.mean() - bias) < 4.5 * se
    # Var of a sample variance: (kurtosis - 1) / n; log-gamma variables have kurtosis at most 5.4.
    assert abs(found.var() / exact - 1.0) < 4.5 * math.sqrt(4.4 / reps)


def _subset_coefficients(size: int, order: int) -> list[float]:
    return [(-1) ** j * (size - j) ** order / (math.factorial(order - j) * math.factorial(j)) for j in range(order + 1)]


def test_jackknife_expectation_for_gamma_weights():
    # With weights Gamma(1): E = sum_j c_j [digamma(K - j) - log(K - j)], at K = 16: +3.468e-4 and +4.94e-7.
    for order, value in ((1, 3.468e-4), (2, 4.94e-7)):
        c = _subset_coefficients(16, order)
        exact = sum(cj * (digamma(16 - j) - math.log(16 - j)) for j, cj in enumerate(c))
        assert exact == pytest.approx(value, rel=1e-3)
        x = np.log(np.random.default_rng(order).gamma(1.0, size=(30_000, 16)))
        found = np.asarray(jackknife(x, order))
        assert abs(found.mean() - exact) < 4.5 * found.std() / math.sqrt(len(found))


@pytest.mark.parametrize("size", [4, 7, 11])
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("scale", [0.5, 3.0, 30.0])
def test_jackknife_is_the_average_over_subsets(size: int, order: int, scale: float):
    x = np.random.default_rng(size + order).normal(size=size) * scale - 90.0
    brute = 0.0
    for j, c in enumerate(_subset_coefficients(size, order)):
        kept = itertools.combinations(range(size), size - j)
        brute += c * np.mean([float(np.asarray(logsumexp(x[list(s)]))) - math.log(size - j) for s in kept])
    # Brute force subtracts numbers of size K^2 |log w|, so it is the one that limits the agreement.
    assert jackknife(x, order) == pytest.approx(brute, abs=3e-13 * size**order * max(abs(brute), 1.0))


def test_jackknife_orders_on_inverse_gaussian_weights():
    # Weights IG(1, 1): the mean of K is IG(1, K) and E log of it is -e^x E1(x), x = 2 K.
    def bias(count: int) -> float:
        return -math.exp(2.0 * count) * float(exp1(2.0 * count))

    assert bias(1) == pytest.approx(-0.3613286169, abs=1e-10)
    assert bias(5) == pytest.approx(-0.0915633339, abs=1e-10)
    assert bias(16) == pytest.approx(-0.0303293714, abs=1e-10)
    rng = np.random.default_rng(3)
    x = np.log(rng.wald(1.0, 1.0, size=(60_000, 5)))
    for order in (0, 1, 2):
        exact = sum(c * bias(5 - j) for j, c in enumerate(_subset_coefficients(5, order)))
        found = np.asarray(jackknife(x, order))
        assert abs(found.mean() - exact) < 4.5 * found.std() / math.sqrt(len(found)), order

    # The order in K of what is left: slopes of log2 |bias| from 128 to 256, asymptotic series in place of E1, which
    # underflows there: -e^x E1(x) = -sum_n (-1)^n n! / x^(n + 1).
    def series(count: int) -> float:
        return -sum((-1) ** n * math.factorial(n) / (2.0 * count) ** (n + 1) for n in range(14))

    for order, slope in ((0, 0.997), (1, 1.994), (2, 2.992)):
        left = [sum(c * series(k - j) for j, c in enumerate(_subset_coefficients(k, order))) for k in (128, 256)]
        assert math.log2(abs(left[0] / left[1])) == pytest.approx(slope, abs=2e-3)


def test_jackknife_when_one_weight_holds_everything():
    # Two weights a >> b: JVI-1 = 2 L - (log a + log b) / 2 exactly, where 1 - w is zero in floating point.
    x = np.array([0.0, -1000.0])
    assert jackknife(x, 1) == pytest.approx(2 * -math.log(2.0) + 500.0, abs=1e-9)
    assert jackknife([-np.inf, -np.inf, -np.inf], 2) == -math.inf
    assert jackknife([0.0, -np.inf, -np.inf], 1) == math.inf
    assert jackknife([0.0, -np.inf, -np.inf], 2) == math.inf
    assert jackknife([0.0, -1.0, -np.inf], 2) == -math.inf
    assert np.asarray(jackknife(np.zeros((2, 3, 8)), 2)).shape == (2, 3)
    np.testing.assert_allclose(jackknife(np.zeros((2, 3, 8)), 2), 0.0, atol=1e-13)


def test_jackknife_survives_float32_input():
    x = np.random.default_rng(4).normal(size=256) - 90.0
    # Rounding log weights to float32 moves each by up to 4e-6; the averages keep that and do not multiply it by K^2.
    for order in (1, 2):
        assert abs(jackknife(x.astype(np.float32), order) - jackknife(x, order)) < 2e-5


@pytest.mark.parametrize("bad", [{"order": 4}, {"order": -1}, {"log_weights": [0.0, 1.0], "order": 2}])
def test_jackknife_refuses(bad: dict):
    with pytest.raises(TautError, match="bad-argument"):
        jackknife(**{"log_weights": np.zeros(8), **bad})


# z ~ N(0, 1), x | z ~ N(z, 1) = 2 and q the prior: log p(x) = -log(4 pi)/2 - 1.


def _prior_weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return -0.5 * math.log(2 * math.pi) - 0.5 * (2.0 - rng.normal(size=shape)) ** 2


@pytest.mark.parametrize(("count", "bound"), [(2, -2.759), (5, -2.424), (10, -2.336), (50, -2.278), (200, -2.269)])
def test_importance_weighted_bounds(count: int, bound: float):
    found = np.asarray(logmeanexp(_prior_weights(np.random.default_rng(count), 2_000_000 // count, count), axis=1))
    assert abs(found.mean() - bound) < 0.003 + 4.0 * found.std() / math.sqrt(len(found))
    assert found.mean() < -2.265512 + 4.0 * found.std() / math.sqrt(len(found))


def test_jackknife_overshoots_so_is_no_bound():
    x = _prior_weights(np.random.default_rng(8), 60_000, 8)
    for order, bias in ((0, -0.092), (1, 0.013), (2, -0.0025)):
        found = np.asarray(jackknife(x, order)) + 2.265512
        # The reference figures carry a standard error of .0011 of their own.
        assert abs(found.mean() - bias) < 4.0 * math.hypot(0.0011, found.std() / math.sqrt(len(found)))


def test_weigh_on_the_prior():
    # E log w = -log(2 pi)/2 - (4 + 1)/2 = -3.41894, log Z = -2.265512, sd log w = sd of (2 - z)^2 / 2 = sqrt(18)/2.
    w = weigh(_prior_weights(np.random.default_rng(0), 4, 50_000))
    assert abs(w.log_evidence + 2.265512) < 4 * w.log_evidence_se
    assert abs(w.elbo + 3.418939) < 4 * w.elbo_se
    assert abs(w.kl - (3.418939 - 2.265512)) < 4 * w.kl_se
    assert w.elbo_se == pytest.approx(math.sqrt(4.5) / math.sqrt(200_000), rel=0.02)
    # E w^2 / (E w)^2 = 4 pi e^2 / (2 pi) * exp(-4/3) / sqrt(3), all in closed form.
    ratio = 2.0 * math.exp(2.0) * math.exp(-4.0 / 3.0) / math.sqrt(3.0)
    assert w.ess / w.n == pytest.approx(1.0 / ratio, rel=0.02)
    assert w.log_evidence_se >= 0.98 * math.sqrt((ratio - 1.0) / w.n)
    assert (w.batches, w.n, len(w.khats), w.zeros, w.nans) == (4, 200_000, 4, 0, 0)
    assert w.khat == max(w.khats)
    assert w.evidence_spread == pytest.approx(max(w.batch_log_evidence) - min(w.batch_log_evidence))


def test_standard_errors_cover():
    # q = N(0, .8), p = N(0, 1): finite fourth moments. Over 400 repeats the z scores of all three have sd near 1; the
    # larger of two standard errors makes them a little smaller. Four standard errors of an sd over 400: .14.
    rng = np.random.default_rng(9)
    v = 0.8
    scores = []
    for _ in range(400):
        z = rng.normal(size=(4, 500)) * math.sqrt(v)
        w = weigh(-0.5 * z**2 + 0.5 * z**2 / v + 0.5 * math.log(v))
        kl = 0.5 * (v - 1.0 - math.log(v))
        scores.append([w.log_evidence / w.log_evidence_se, (w.elbo + kl) / w.elbo_se, (w.kl - kl) / w.kl_se])
    sd = np.std(scores, axis=0)
    assert np.all(sd > 0.75)
    assert np.all(sd < 1.15)


def test_weigh_never_returns_nan():
    inf = np.inf
    cases = {
        "all zero": np.full((4, 100), -inf),
        "one left": np.r_[3.0, np.full(399, -inf)].reshape(4, 100),
        "some zero": np.r_[np.full(10, -inf), np.zeros(390)].reshape(4, 100),
        "nan": np.r_[np.nan, np.zeros(399)].reshape(4, 100),
        "plus inf": np.r_[inf, np.zeros(399)].reshape(4, 100),
        "far apart": np.linspace(-1e6, 0, 400).reshape(4, 100),
        "tiny": np.full((4, 100), -1e300),
        "flat": np.zeros(100),
    }
    for name, x in cases.items():
        w = weigh(x)
        numbers = [v for v in vars(w).values() if isinstance(v, float)] + list(w.khats)
        assert not any(math.isnan(v) for v in numbers), name
    dead = weigh(cases["all zero"])
    assert (dead.log_evidence, dead.elbo, dead.kl, dead.ess, dead.zeros) == (-inf, -inf, inf, 0.0, 400)
    some = weigh(cases["some zero"])
    assert some.log_evidence == pytest.approx(math.log(0.975))
    assert (some.elbo, some.kl, some.zeros, some.nans) == (-inf, inf, 10, 0)
    assert some.ess == pytest.approx(390)
    assert (weigh(cases["nan"]).zeros, weigh(cases["nan"]).nans) == (1, 1)
    assert weigh(cases["plus inf"]).nans == 1


def test_weigh_is_shift_invariant():
    x = np.random.default_rng(6).normal(size=(4, 1000))
    near, far = weigh(x), weigh(x - 800.0)
    assert far.log_evidence == pytest.approx(near.log_evidence - 800.0, abs=1e-10)
    assert (far.kl, far.ess, far.khat) == pytest.approx((near.kl, near.ess, near.khat), rel=1e-9)


def test_weigh_refuses_other_shapes():
    for x in (np.zeros((2, 2, 2)), np.zeros(1), np.zeros((0, 3))):
        with pytest.raises(TautError, match="bad-argument"):
            weigh(x)
