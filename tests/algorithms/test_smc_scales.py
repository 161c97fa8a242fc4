"""Coordinates that undo funnels: exact changes of variables, found from draws or from the density alone."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist
from taut.algorithms import SMCSettings, smc
from taut.algorithms._smc_leaves import density_map
from taut.algorithms._smc_moves import Cloud
from taut.algorithms._smc_scales import ScaleMap, funnel_strength, scale_maps
from taut.guides import FullRank


def hierarchy(n: int, leaves: int = 5, steepness: float = 0.5) -> np.ndarray:
    """Draws of v, mu and leaves about mu with scale exp(steepness v)."""
    rng = np.random.default_rng(0)
    v, mu = rng.normal(size=(n, 1)), rng.normal(size=(n, 1))
    return np.concatenate([v, mu, mu + rng.normal(size=(n, leaves)) * np.exp(steepness * v)], axis=1)


@pytest.fixture(scope="module")
def learnt() -> ScaleMap:
    return scale_maps(hierarchy(4000), least=0.25)[0]


def test_draws_show_drivers_leaves_and_slopes(learnt: ScaleMap):
    assert learnt.drivers.tolist() == [0]
    assert learnt.leaves.tolist() == [2, 3, 4, 5, 6]  # the mean of the leaves, too, is narrow given them, and is none
    # A slope of the log scale has the error sqrt(1 / 2n): Fisher's information of log sigma is 2 for each draw.
    np.testing.assert_allclose(learnt.steepness, 0.5, atol=4 / np.sqrt(2 * 4000))
    np.testing.assert_allclose(learnt.slope @ [0.0, 1.0], 1.0, atol=0.05)


def test_strength_is_the_precision_that_leaves_give():
    """Five leaves of slope a tell a standard driver with precision 2 * 5 * a^2; a Gaussian tells nothing of scales."""
    z = np.delete(hierarchy(40_000, steepness=0.3), 1, axis=1)
    z[:, 1:] -= hierarchy(40_000, steepness=0.3)[:, 1:2]
    found = funnel_strength(z)
    assert found[0] == pytest.approx(2 * 5 * 0.09, rel=0.1)  # each slope is known to sqrt(1.23 / n), 2 %
    rng = np.random.default_rng(1)
    assert funnel_strength(rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6))).max() < 0.02
    assert scale_maps(rng.normal(size=(4000, 6)), least=0.25) == ()


def test_the_change_of_coordinates_is_exact(learnt: ScaleMap):
    rng = np.random.default_rng(0)
    z = hierarchy(4)
    u = learnt.apart(z)
    np.testing.assert_allclose(learnt.back(u), z, rtol=1e-12, atol=1e-12)
    matrix = rng.normal(size=(7, 7))
    matrix = matrix @ matrix.T

    def cloud(z: np.ndarray) -> Cloud:
        log_p, slope = -0.5 * np.einsum("pi,ij,pj->p", z, matrix, z) - 0.1 * (z**4).sum(1), -z @ matrix - 0.4 * z**3
        return Cloud(z, log_p, slope, 0.5 * log_p, 0.5 * slope)

    def pulled(u: np.ndarray) -> Cloud:
        return learnt.pulled(cloud(learnt.back(u)), u)

    here = pulled(u)
    h = 1e-5
    for i in range(7):
        step = h * np.eye(7)[i]
        np.testing.assert_allclose(
            (pulled(u + step).log_p - pulled(u - step).log_p) / (2 * h), here.grad_p[:, i], rtol=1e-6
        )
        np.testing.assert_allclose(
            (pulled(u + step).log_q - pulled(u - step).log_q) / (2 * h), here.grad_q[:, i], rtol=1e-6
        )
    steps = h * np.eye(7)
    jacobian = np.stack([(learnt.back(u[:1] + s) - learnt.back(u[:1] - s))[0] / (2 * h) for s in steps])
    assert np.linalg.slogdet(jacobian)[1] == pytest.approx(float(here.log_p[0] - cloud(z).log_p[0]), abs=1e-8)
    again = learnt.pushed(here)
    for found, exact in zip(again, cloud(z), strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-10)


def test_the_density_alone_tells_a_hierarchy():
    """Any points will do: here they know nothing of the funnel, and data pull the leaves away from its neck."""
    y = np.array([2.0, -1.0, 0.5, 3.0])

    def evaluate(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v, mu, x = z[:, :1], z[:, 1:2], z[:, 2:]
        r = (x - mu) * np.exp(-2 * v)
        log_p = (-0.5 * r * (x - mu) - v - 0.5 * (x - y) ** 2).sum(1) - 0.5 * (v**2 + mu**2)[:, 0]
        dv = (r * (x - mu) - 1).sum(1, keepdims=True) - v
        return log_p, np.concatenate([dv, r.sum(1, keepdims=True) - mu, -r - (x - y)], axis=1)

    rng = np.random.default_rng(0)
    z = np.concatenate([0.3 * rng.normal(size=(500, 2)), 0.5 * y + 0.5 * rng.normal(size=(500, 4))], axis=1)
    found = density_map(evaluate, z, rng)
    assert found is not None and found.drivers.tolist() == [0] and found.leaves.tolist() == [2, 3, 4, 5]
    np.testing.assert_allclose(found.steepness, 1.0, atol=0.01)  # the grid of slopes
    np.testing.assert_allclose(found.slope, [[0.0, 1.0]] * 4, atol=0.02)
    np.testing.assert_allclose(found.centre[2:], z[:, 1].mean(), atol=0.02)  # mu itself: no constant is added to it

    def gaussian(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return -0.5 * (z**2).sum(1), -z

    assert density_map(gaussian, z, rng) is None


def test_a_funnel_without_a_declared_site_is_entered_to_its_neck():
    """Neal's funnel through a factor, from a q that sees none of it: v is N(0, 3) and the evidence 1."""

    def hidden():
        v = taut.sample("v", dist.Normal(0.0, 3.0))
        x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (), (9,)))
        taut.factor("leaves", dist.Normal(0.0, jnp.exp(v / 2)).log_prob(x).sum())

    problem = taut.Problem(hidden)
    params = FullRank.from_moments(np.zeros(10), 0.5 * np.eye(10))
    result = smc(problem, FullRank(1.0), params, np.zeros(0), 0, SMCSettings(1024, 16))
    assert result.converged
    v = result.points[:, 0]
    assert abs(v.mean()) < 4 * 3 / np.sqrt(1024)
    assert abs(np.log(v.std() / 3)) < 4 / np.sqrt(2 * 1024)
    assert abs(result.log_evidence) < 4 * result.log_evidence_se < 0.1
