"""A mixture of Gaussians with learned weights finds the weights of a mixture."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import algorithms, dist, guides
from taut.problem import Problem

MEANS = np.array([[-3.0, 0.0], [3.0, 1.0]])
COVARIANCES = np.array([[[0.5, 0.0], [0.0, 0.5]], [[1.0, 0.5], [0.5, 2.0]]])


def bimodal() -> None:
    components = dist.MultivariateNormal(jnp.asarray(MEANS), covariance_matrix=jnp.asarray(COVARIANCES))
    taut.sample("z", dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.3, 0.7])), components))


@pytest.mark.parametrize("key", range(3))
def test_weights_of_a_bimodal_posterior_are_learned(key: int):
    problem = Problem(bimodal, {}, precision="float64")
    solution = algorithms.Run()(algorithms.SVI(), problem, guides.GaussianMixture(2), key)
    params = solution.params
    order = np.argsort(params["loc"][:, 0])
    weights = np.exp(params["log_weight"])
    weights /= weights.sum()
    # At the posterior every single gradient is zero: nothing is left of the noise of the draws.
    np.testing.assert_allclose(weights[order], [0.3, 0.7], atol=1e-4)
    np.testing.assert_allclose(params["loc"][order], MEANS, atol=1e-3)
    scale = np.asarray(guides.GaussianMixture(2).named(problem, params)["z"]["scale"])[order]
    np.testing.assert_allclose(scale**2, np.diagonal(COVARIANCES, axis1=1, axis2=2), rtol=1e-3)
