"""Blocks: dense inside, independent between, and names that must be the model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import taut
from taut import algorithms, dist, guides
from taut.problem import Problem


def three(x: Any, y: Any) -> None:
    a = taut.sample("a", dist.Normal(0.0, 1.0))
    b = taut.sample("b", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    c = taut.sample("c", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(x[:, 0] * a + x[:, 1] * b[0] + x[:, 2] * b[1] + x[:, 3] * c, 0.5), obs=y)


@pytest.fixture(scope="module")
def regression() -> tuple[Problem, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 4)) @ (np.eye(4) + 0.5), rng.standard_normal(10)
    precision = np.eye(4) + x.T @ x / 0.25
    mean = np.linalg.solve(precision, x.T @ y / 0.25)
    return Problem(three, {"x": x, "y": y}, precision="float64"), mean, precision


@pytest.mark.parametrize(
    ("blocks", "groups"),
    [
        (None, [[0], [1, 2], [3]]),
        ((("a", "c"),), [[0, 3], [1, 2]]),
        ((("c", "b"), ("a",)), [[3, 1, 2], [0]]),
        ((("a", "b", "c"),), [[0, 1, 2, 3]]),
    ],
)
def test_blocks_take_the_covariance_that_is_theirs(regression: Any, blocks: Any, groups: Any):
    problem, mean, precision = regression
    solution = algorithms.Run()(algorithms.FixedNoise(), problem, guides.BlockDense(blocks), 0)
    # The best Gaussian with independent blocks: each block's covariance is the inverse of its block of the precision.
    cov = np.zeros((4, 4))
    for group in groups:
        cov[np.ix_(group, group)] = np.linalg.inv(precision[np.ix_(group, group)])
    np.testing.assert_allclose(solution.params["loc"], mean, atol=1e-6)
    point, _ = solution.guide.draws(problem, solution.params, 16, np.random.default_rng(0))
    white = np.linalg.solve(np.linalg.cholesky(cov), (point.coordinates - mean).T)
    noise = taut._draws.pool(16, 4, np.random.default_rng(0))
    # A factor of that covariance, up to the order inside of the blocks.
    np.testing.assert_allclose((white**2).sum(0), (noise**2).sum(1), rtol=1e-5)
    named = solution.guide.named(problem, solution.params)
    scales = np.concatenate([np.ravel(named[n]["scale"]) for n in "abc"])
    np.testing.assert_allclose(scales, np.sqrt(np.diag(cov)), rtol=1e-6)


@pytest.mark.parametrize(
    ("blocks", "code"),
    [((("a", "d"),), "site-missing"), ((("a",), ("a", "b")), "bad-argument"), ("ab", "bad-argument")],
)
def test_blocks_of_other_names_are_refused(regression: Any, blocks: Any, code: str):
    with pytest.raises(taut.TautError) as refusal:
        guides.bind(guides.BlockDense(blocks), regression[0])
    assert refusal.value.code == code
