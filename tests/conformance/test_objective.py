"""Laws of every objective: exact at the posterior, the identity for one particle, a bound of the side it claims."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from taut import guides, objectives, testing
from taut._errors import TautError
from taut._precision import scope

MEMBERS: dict[str, Callable[[int], objectives.Objective]] = {
    "ELBO": lambda k: objectives.ELBO(particles=k),
    "IWAE": lambda k: objectives.IWAE(particles=k),
    "JVI": lambda k: objectives.JVI(particles=k, order=min(2, k - 1)),
    "DVI": lambda k: objectives.DVI(particles=k),
}
GAUSSIAN = [testing.conjugate_normal, testing.conjugate_regression, testing.correlated_gaussian]


@pytest.mark.parametrize("make", MEMBERS.values(), ids=MEMBERS)
@pytest.mark.parametrize("exact", GAUSSIAN, ids=lambda f: f.__name__)
def test_at_the_posterior_every_estimate_is_the_log_evidence(make, exact):
    known = exact()
    problem, guide = known.problem(), guides.FullRank()
    params = guide.from_moments(known.location, np.linalg.cholesky(known.covariance))
    point, log_q = guide.draws(problem, params, 6 * 4, np.random.default_rng(0))
    log_p, _ = problem.kernel()(point.coordinates, problem.centredness())
    with scope("float64"):
        found = [float(make(4).reduce(jnp.asarray(w))) for w in (log_p - log_q).reshape(6, 4)]
    np.testing.assert_allclose(found, known.log_evidence, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", MEMBERS.values(), ids=MEMBERS)
def test_one_particle_gives_its_log_weight(make):
    with scope("float64"):
        assert float(make(1).reduce(jnp.array([-853.25]))) == -853.25


@pytest.mark.parametrize("make", MEMBERS.values(), ids=MEMBERS)
def test_the_mean_lies_on_the_side_of_the_bound(make):
    # w = Gamma(1) weights with mean 1: log Z = 0.
    objective = make(8)
    with scope("float64"):
        log_w = np.log(np.random.default_rng(0).exponential(size=(8, 20_000)))
        estimates = np.asarray(objective.reduce(jnp.asarray(log_w)))
    mean, se = estimates.mean(), estimates.std() / math.sqrt(20_000)
    assert objective.bound in ("lower", "upper", None)
    if objective.bound == "lower":
        assert mean < -5 * se
    if objective.bound == "upper":
        assert mean > 5 * se


@pytest.mark.parametrize("particles, expected", [(1, -0.5772156649), (2, -0.2703628455), (16, -0.0315753939)])
def test_iwae_of_exponential_weights(particles: int, expected: float):
    # E log mean of K unit exponentials is digamma(K) - log K; its variance is trigamma(K).
    n = 40_000
    with scope("float64"):
        log_w = np.log(np.random.default_rng(1).exponential(size=(particles, n)))
        found = np.asarray(objectives.IWAE(particles).reduce(jnp.asarray(log_w)))
    assert abs(found.mean() - expected) < 5 * found.std() / math.sqrt(n)


def test_weights_far_from_zero_keep_their_digits():
    found = float(objectives.IWAE(2).reduce(jnp.array([-800.0, -801.0], jnp.float32)))
    np.testing.assert_allclose(found, -800.3799, atol=1e-3)  # -800 + log((1 + e^-1) / 2)
    found = float(objectives.IWAE(2).reduce(jnp.array([100.0, 99.0], jnp.float32)))
    np.testing.assert_allclose(found, 99.6201, atol=1e-3)


@pytest.mark.parametrize("make", MEMBERS.values(), ids=MEMBERS)
@pytest.mark.parametrize("particles", [0, -1, 2.0, True])
def test_particles_are_a_positive_whole_number(make, particles):
    with pytest.raises(TautError) as refused:
        make(particles)
    assert refused.value.code == "bad-argument"
