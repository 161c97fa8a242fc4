"""SMC on targets whose answers are exact, and its moves on draws that are exact already.

Tolerances are four Monte Carlo standard errors. A run of P particles whose states are averaged over a round has an
error of at most ``sd / sqrt(P)`` in a mean and about ``sqrt((kurtosis - 1) / 4 P)`` in a log sd.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import polygamma, psi

import taut
from taut import dist
from taut.algorithms import SMCSettings, Solution, smc, widened
from taut.algorithms._smc_checks import Drift, Round, drift, funnel_index
from taut.algorithms._smc_moves import Cloud, Frames, hmc, next_temperature, resampled
from taut.algorithms._smc_target import Components, Target
from taut.guides import FullRank, GaussianMixture, MeanField

NONE = np.zeros(0)
SCHOOLS = dict(sigma=[15, 10, 16, 11, 9, 11, 10, 18], y=[28, 8, -3, 7, -1, 1, 18, 12])


def schools(sigma, y=None):
    mu = taut.sample("mu", dist.Normal(0, 5))
    tau = taut.sample("tau", dist.HalfCauchy(5))
    with taut.plate("school", len(sigma)):
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta, sigma), obs=y)


def funnel():
    v = taut.sample("v", dist.Normal(0.0, 3.0))
    with taut.plate("leaves", 9):
        taut.sample("x", dist.Normal(0.0, jnp.exp(v / 2)))


@pytest.mark.parametrize("guide", [FullRank(), MeanField()], ids=["full-rank", "mean-field"])
def test_a_gaussian_posterior_from_a_wrong_q(guide):
    d = 6
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(d, d))
    cov = factor @ factor.T + np.eye(d)
    y = 3.0 * rng.normal(size=d)

    def model(L, y):
        z = taut.sample("z", dist.Normal(0.0, 2.0).expand([d]).to_event(1))
        taut.sample("y", dist.MultivariateNormal(z, scale_tril=L), obs=y)

    problem = taut.Problem(model, dict(L=np.linalg.cholesky(cov), y=y))
    posterior = np.linalg.inv(np.linalg.inv(cov) + np.eye(d) / 4)
    mean, sd = posterior @ np.linalg.solve(cov, y), np.sqrt(np.diag(posterior))
    gaussian: Any = stats.multivariate_normal  # its stubs take no matrix
    log_z = gaussian.logpdf(y, np.zeros(d), cov + 4 * np.eye(d))
    if isinstance(guide, FullRank):
        params = FullRank.from_moments(mean + 0.7 * sd, 0.8 * np.diag(sd))
    else:
        params = {"loc": mean + 0.7 * sd, "log_scale": np.log(0.8 * sd)}
    result = smc(problem, guide, params, NONE, 1, SMCSettings(1024, 8))
    assert result.converged and not result.capped
    assert result.funnel_index == 0
    np.testing.assert_allclose((result.points.mean(0) - mean) / sd, 0, atol=4 / np.sqrt(1024))
    np.testing.assert_allclose(result.points.std(0) / sd, 1, atol=4 / np.sqrt(2 * 1024))
    correlation = np.corrcoef(result.points.T) - posterior / np.outer(sd, sd)
    np.testing.assert_allclose(correlation, 0, atol=4 / np.sqrt(1024))
    assert abs(result.log_evidence - log_z) < 0.1 + 4 * result.log_evidence_se
    assert result.gradients == problem.kernel().gradients


def test_a_declared_funnel_from_a_centred_q():
    """v ~ N(0, 9), x_i ~ N(0, e^v): the moves at centredness 0 see a Gaussian; v keeps its prior, log Z = 0."""
    problem = taut.Problem(funnel)
    params = FullRank.from_moments(np.zeros(10), np.eye(10))
    result = smc(problem, FullRank(1.0), params, NONE, 0, SMCSettings(1024, 16))
    v = result.points[:, 0]
    assert result.converged
    assert abs(v.mean()) / 3 < 4 / np.sqrt(1024)
    assert abs(np.log(v.std() / 3)) < 4 / np.sqrt(2 * 1024)
    x = result.points[:, 1:] * np.exp(-v / 2)[:, None]
    np.testing.assert_allclose(x.std(0), 1, atol=4 / np.sqrt(2 * 1024))


def test_two_modes_of_unequal_mass():
    """0.8 N(-3, I) + 0.2 N(4, I/4) in the plane; q gives each half, with other widths."""

    def model():
        x = taut.sample("x", dist.Normal(0.0, 5.0).expand([2]).to_event(1))
        left = jnp.log(0.8) + jnp.sum(dist.Normal(-3.0, 1.0).log_prob(x))
        right = jnp.log(0.2) + jnp.sum(dist.Normal(4.0, 0.5).log_prob(x))
        prior = jnp.sum(dist.Normal(0.0, 5.0).log_prob(x))
        taut.factor("modes", jnp.logaddexp(left, right) - prior)

    problem = taut.Problem(model)
    factors = np.stack([1.2 * np.eye(2), 0.4 * np.eye(2)])
    params = GaussianMixture.from_moments(np.ones(2), np.array([[-2.7, -3.0], [4.0, 4.1]]), factors)
    result = smc(problem, GaussianMixture(2), params, NONE, 0, SMCSettings(2048, 16))
    right = result.points.sum(1) > 1.0
    # Systematic resampling of 2,048 particles, half of them in each mode before the first weights.
    assert abs(right.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 2048)
    assert abs(result.log_evidence) < 0.1
    np.testing.assert_allclose(result.points[right].std(0), 0.5, rtol=4 / np.sqrt(2 * 0.2 * 2048))
    np.testing.assert_allclose(result.points[~right].mean(0), -3.0, atol=4 / np.sqrt(0.8 * 2048))


@pytest.mark.parametrize("centredness", [0.0, 0.4])
def test_eight_schools_against_quadrature(centredness):
    problem = taut.Problem(schools, SCHOOLS)
    fit = taut.fit(schools, SCHOOLS, guide=FullRank(centredness), verify=False)
    result = smc(problem, FullRank(centredness), fit.params, NONE, 0, SMCSettings(1024, 32))
    values = problem.constrain(result.points, result.centredness)
    log_tau = np.log(values["tau"])
    assert result.converged
    # Four standard errors of 1,024 independent draws; log tau has kurtosis about 4.5.
    assert abs(log_tau.mean() - 0.802820) / 1.166549 < 4 / np.sqrt(1024)
    assert abs(np.log(log_tau.std() / 1.166549)) < 4 * np.sqrt(3.5 / 4 / 1024)
    assert abs(values["mu"].mean() - 4.396821) / 3.317704 < 4 / np.sqrt(1024)
    theta = [6.21188, 4.94018, 3.92700, 4.75710, 3.61548, 4.04261, 6.29672, 4.85425]
    sds = np.array([5.59313, 4.67427, 5.26262, 4.78030, 4.65745, 4.82687, 5.07785, 5.29080])
    np.testing.assert_allclose((values["theta"].mean(0) - theta) / sds, 0, atol=4 / np.sqrt(1024))
    np.testing.assert_allclose(values["theta"].std(0) / sds, 1, atol=4 * np.sqrt(3 / 4 / 1024))
    assert abs(result.log_evidence + 31.311347) < 0.15


def test_an_exponential_tail():
    """tau ~ Gamma(1/2, 1): log tau falls off like exp(z / 2) on the left; mean psi(1/2), variance psi'(1/2)."""

    def model():
        taut.sample("tau", dist.Gamma(0.5, 1.0).expand([3]).to_event(1))

    problem = taut.Problem(model)
    fit = taut.fit(model, guide=FullRank(), verify=False)
    result = smc(problem, FullRank(), fit.params, NONE, 0, SMCSettings(1024, 32))
    z = result.points
    sd = np.sqrt(polygamma(1, 0.5))
    # kurtosis 3 + psi'''(1/2) / psi'(1/2)^2 = 7
    kurtosis = 3 + polygamma(3, 0.5) / sd**4
    assert result.converged
    np.testing.assert_allclose((z.mean(0) - psi(0.5)) / sd, 0, atol=4 / np.sqrt(1024))
    np.testing.assert_allclose(np.log(z.std(0) / sd), 0, atol=4 * np.sqrt((kurtosis - 1) / 4 / 1024))
    assert abs(result.log_evidence) < 0.15
    assert np.log(np.exp(fit.params["log_diagonal"]).max() / sd) < -0.2  # q was wrong


def logistic(z):
    log_p = (-z - 2 * np.logaddexp(0, -z)).sum(1)
    zero = np.zeros(len(z))
    return Cloud(z, log_p, -np.tanh(z / 2), zero, np.zeros_like(z))


@pytest.mark.parametrize(("step", "trajectory"), [(0.6, 1.57), (1.4, 1.4), (1.2, 4.7)])
def test_moves_leave_the_target_as_it_is(step, trajectory):
    """Exact logistic draws stay logistic under coarse moves in a skewed frame: Kolmogorov-Smirnov on 40,000."""
    rng = np.random.default_rng(3)
    z = rng.logistic(size=(40_000, 2))
    frames = Frames(np.array([[[2.0, 0.0], [1.5, 1.0]]]), np.zeros(len(z), int))
    cloud, acceptance = logistic(z), np.zeros(1)
    for _ in range(3):
        cloud, acceptance = hmc(logistic, cloud, 1.0, frames, step, trajectory, rng)
    assert 0.1 < acceptance.mean() < 0.995
    assert np.mean(np.all(cloud.z == z, axis=1)) < 0.4  # they did move
    for column in (*cloud.z.T,):
        assert stats.kstest(column, stats.logistic.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(cloud.z.T)[0, 1]) < 4 / np.sqrt(40_000)


def test_moves_at_a_temperature_leave_the_tempered_density():
    """p = N(0, 1), q = N(2, 1/4): p^b q^(1-b) is N(m, 1/k) with k = b + 4 (1 - b), m = 8 (1 - b) / k."""

    def evaluate(z):
        return Cloud(z, -0.5 * z[:, 0] ** 2, -z, -2 * (z[:, 0] - 2) ** 2, -4 * (z - 2))

    rng = np.random.default_rng(0)
    beta = 0.3
    k = beta + 4 * (1 - beta)
    m = 8 * (1 - beta) / k
    cloud = evaluate(m + rng.normal(size=(40_000, 1)) / np.sqrt(k))
    frames = Frames(np.ones((1, 1, 1)), np.zeros(40_000, int))
    cloud, _ = hmc(evaluate, cloud, beta, frames, 0.7, 1.57, rng)
    assert stats.kstest(cloud.z[:, 0], stats.norm(m, 1 / np.sqrt(k)).cdf).pvalue > 1e-3


def test_a_swap_of_coordinates_carries_the_density():
    """u' = l' m + s^(l' - l) (u - l m): log p'(u') = log p(u) - sum (l' - l) log s, and the way back is exact."""
    problem = taut.Problem(schools, SCHOOLS)
    params = FullRank.from_moments(np.zeros(10), np.eye(10))
    target = Target(problem, NONE, Components(FullRank(), params))
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 10))
    old, new = problem.centredness(0.7), problem.centredness(0.1)
    moved = target.swapped(z, old, new)
    tau = problem.constrain(z, old)["tau"]
    before, after = problem.kernel()(z, old)[0], problem.kernel()(moved, new)[0]
    np.testing.assert_allclose(after, before + 8 * 0.6 * np.log(tau), rtol=1e-9)
    np.testing.assert_allclose(target.swapped(moved, new, old), z, atol=1e-9)
    a, b = problem.constrain(z, old), problem.constrain(moved, new)
    np.testing.assert_allclose(a["theta"], b["theta"], atol=1e-9)


def test_log_q_and_its_gradient():
    rng = np.random.default_rng(0)
    means, factors = rng.normal(size=(2, 3)), np.tril(rng.normal(size=(2, 3, 3))) + 2 * np.eye(3)
    guide = GaussianMixture(2)
    q = Components(guide, GaussianMixture.from_moments(np.array([0.3, 0.7]), means, factors))
    z = rng.normal(size=(5, 3))
    value, gradient, nearest = q.density(z)
    parts = np.stack([stats.multivariate_normal(m, c @ c.T).logpdf(z) for m, c in zip(means, factors, strict=True)])
    parts += np.log([[0.3], [0.7]])
    np.testing.assert_allclose(value, np.logaddexp(*parts), rtol=1e-10)
    assert np.array_equal(nearest, parts.argmax(0))
    for i, e in enumerate(1e-6 * np.eye(3)):
        slope = (q.density(z + e)[0] - q.density(z - e)[0]) / 2e-6
        np.testing.assert_allclose(gradient[:, i], slope, atol=1e-6)


def test_temperatures_keep_their_share():
    """q = N(0, 1), p = N(m, 1): log p - log q is N(., m^2), and a step d keeps exp(-(d m)^2) of the draws."""
    m = 4.0
    log_ratio = m * stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    beta = next_temperature(0.0, log_ratio, 0.9)
    np.testing.assert_allclose(beta, np.sqrt(-np.log(0.9)) / m, rtol=0.01)
    assert next_temperature(1.0 - 1e-3, log_ratio, 0.9) == 1.0


def test_resampling_is_fair_and_tells_the_mean():
    rng = np.random.default_rng(0)
    weights = np.array([0.1, 0.0, 0.5, 2.4])
    counts, log_mean = np.zeros(4), 0.0
    for _ in range(4000):
        which, log_mean = resampled(np.log(np.maximum(weights, 1e-300)), rng)
        counts += np.bincount(which, minlength=4)
    np.testing.assert_allclose(counts / 4000, 4 * weights / weights.sum(), atol=4 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose(log_mean, np.log(weights.mean()))


def test_drift_is_seen_and_noise_is_not():
    rng = np.random.default_rng(0)

    def averages(x):
        return Round(x.mean(0), (x**2).mean(0))

    first, second = rng.normal(size=(8, 512, 3)), rng.normal(size=(8, 512, 3))
    assert drift(averages(first), averages(second), first[0]).settled()
    found = drift(averages(first), averages(second + [0.0, 0.2, 0.0]), first[0])
    assert not found.settled() and found.worst == 1
    np.testing.assert_allclose(found.moved[0, 1], 0.2, atol=4 * np.sqrt(2 / 8 / 512))
    # One state for each particle could not have shown a drift of 0.15 sd.
    assert not drift(averages(first[:1]), averages(second[:1]), first[0]).settled()


def test_a_drift_away_from_q_gets_less_allowance():
    """0.09 +- 0.025 of a variance is within 0.03 + 3.3 errors, but not within 0.03 + 1 where the gap still grows."""
    moved, se = np.array([[0.0], [0.09]]), np.array([[0.01], [0.025]])
    for gap, settled in ((0.0, True), (0.5, False), (-0.5, True)):
        assert Drift(moved, se, np.array([[0.0], [gap]])).settled() is settled


def test_the_funnel_index_counts_leaves():
    rng = np.random.default_rng(0)
    v = 3 * rng.normal(size=(4000, 1))
    leaves = np.exp(v / 2) * rng.normal(size=(4000, 5))
    assert funnel_index(np.concatenate([leaves, v], axis=1)) == 5
    assert funnel_index(rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6))) == 0


def test_the_limit_on_gradients_holds_and_is_told():
    problem = taut.Problem(funnel)
    params = FullRank.from_moments(np.zeros(10), np.eye(10))
    result = smc(problem, FullRank(1.0), params, NONE, 0, SMCSettings(256, 16, most_gradients=20_000))
    assert result.capped and not result.converged
    assert result.gradients <= 20_000


def test_the_same_key_gives_the_same_particles():
    problem = taut.Problem(schools, SCHOOLS)
    params = FullRank.from_moments(np.zeros(10), np.eye(10))
    runs = [smc(problem, FullRank(0.0), params, NONE, key, SMCSettings(256, 2)).points for key in (5, 5, 6)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][:256], runs[2][:256])


def test_a_mode_that_no_start_reached_is_found_from_far_outside():
    """0.95 N(-4, I) + 0.05 N(4, I / 4) in five dimensions: q on the first alone has constant weights there."""

    def model():
        x = taut.sample("x", dist.Normal(0.0, 20.0).expand([5]).to_event(1))
        centre = jnp.array([4.0, 0.0, 0.0, 0.0, 0.0])
        left = jnp.log(0.95) + jnp.sum(dist.Normal(-centre, 1.0).log_prob(x))
        right = jnp.log(0.05) + jnp.sum(dist.Normal(centre, 0.5).log_prob(x))
        taut.factor("modes", jnp.logaddexp(left, right) - jnp.sum(dist.Normal(0.0, 20.0).log_prob(x)))

    problem = taut.Problem(model)
    params = FullRank.from_moments(np.array([-4.0, 0, 0, 0, 0]), np.eye(5))
    narrow = Solution(FullRank(), params, NONE, "converged", modes=(1, 8, 8))
    wide = widened(problem, narrow, 0, cover=True)
    assert wide.guide == GaussianMixture(2)
    np.testing.assert_allclose(np.exp(wide.params["log_weight"]), [0.95, 0.05], atol=1e-3)
    np.testing.assert_allclose(wide.params["loc"], [[-4, 0, 0, 0, 0], [4, 0, 0, 0, 0]], atol=0.02)
    assert widened(problem, narrow, 0, cover=False).modes == (2, 8, 8)
    # A q that covers both has nothing to add.
    assert widened(problem, wide, 1, cover=True) is wide


def test_the_error_of_the_evidence_is_honest():
    """40 runs on log Gamma(1) in two dimensions, log Z = 0: errors in units of the stated ones are about one."""

    def model():
        z = taut.sample("z", dist.Normal(0.0, 50.0).expand([2]).to_event(1))
        taut.factor("f", jnp.sum(z - jnp.exp(z) - dist.Normal(0.0, 50.0).log_prob(z)))

    problem = taut.Problem(model)
    params = FullRank.from_moments(np.array([-0.5, -0.5]), np.eye(2))
    runs = [smc(problem, FullRank(), params, NONE, key, SMCSettings(512, 16)) for key in range(40)]
    z = np.array([run.log_evidence / run.log_evidence_se for run in runs if run.converged])
    assert len(z) > 30
    # A chi-squared of 40 degrees over 40 lies below 1.9 but for one in a thousand.
    assert 0.2 < np.mean(z**2) < 1.9
    assert abs(np.mean([run.log_evidence for run in runs])) < 0.03
