"""Bridges between densities whose constants are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from taut.algorithms._bridge import bridge
from taut.algorithms._smc_evidence import bridged


def test_the_constant_of_a_normal_and_its_error():
    """Over 200 repetitions the estimate is unbiased and the stated error is the observed one."""
    rng = np.random.default_rng(0)
    log_z = 0.5 * np.log(2 * np.pi * 4)
    proposal: Any = stats.norm(1.0, 1.0)  # narrower than the posterior: importance weights of it have no variance

    def ratio(x: np.ndarray) -> np.ndarray:
        return -(x**2) / 8 - proposal.logpdf(x)

    found = [bridge(ratio(rng.normal(0, 2, (2, 400))), ratio(rng.normal(1, 1, 800))) for _ in range(200)]
    values, errors = np.array(found).T
    assert abs(values.mean() - log_z) < 4 * values.std() / np.sqrt(200) + 0.5 * values.var()
    assert errors.mean() == pytest.approx(values.std(), rel=4 / np.sqrt(2 * 200))


def test_equal_densities_have_no_error():
    found = bridge(np.full((3, 50), 1.25), np.full(70, 1.25))
    assert found.log_evidence == pytest.approx(1.25, abs=1e-12) and found.se < 1e-12


def test_no_overlap_is_said():
    assert not np.isfinite(bridge(np.full((1, 10), np.inf), np.zeros(10)).se)


def test_particles_are_bridged_to_the_gaussians_they_shape():
    """Two modes of unequal width, weights 0.3 and 0.7, and Z = e^2."""
    rng = np.random.default_rng(1)
    particles, d = 1000, 3
    groups = (rng.uniform(size=particles) < 0.7).astype(int)
    mean, sd = np.array([-6.0, 4.0]), np.array([0.5, 2.0])
    states = mean[groups][:, None] + sd[groups][:, None] * rng.standard_normal((4, particles, d))

    def log_p(x: np.ndarray) -> np.ndarray:
        law: Any = stats.norm
        parts = [np.log(w) + law(m, s).logpdf(x).sum(-1) for w, m, s in zip((0.3, 0.7), mean, sd, strict=True)]
        return 2.0 + np.logaddexp(*parts)

    found = bridged(states, log_p(states), groups, log_p, rng)
    assert abs(found.log_evidence - 2.0) < 4 * found.se and found.se < 0.05
