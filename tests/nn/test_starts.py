"""How wide a mean-field guide begins, with and without noise of its own for every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import taut
from taut import dist, nn


def model(x: Any, y: Any) -> None:
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Normal(x @ w, 1.0), obs=y)


@pytest.mark.parametrize("family", [taut.guides.MeanField, nn.MeanFieldNet])
def test_the_first_spread_is_the_users(family: Any):
    problem = taut.Problem(model, dict(x=np.eye(2), y=np.ones(2)))
    for scale in (0.1, 0.02):
        found = family(scale=scale).init(problem, 0)["log_scale"]
        np.testing.assert_allclose(np.exp(found), [scale, scale], rtol=1e-6)
    np.testing.assert_allclose(np.exp(family().init(problem, 0)["log_scale"]), 0.1, rtol=1e-6)


@pytest.mark.parametrize("family", [taut.guides.MeanField, nn.MeanFieldNet])
@pytest.mark.parametrize("scale", [0, -0.1, float("inf"), float("nan"), True, "small"])
def test_other_spreads_are_refused(family: Any, scale: Any):
    with pytest.raises(taut.TautError, match=rf"{family.__name__}\(scale=") as caught:
        family(scale=scale)
    assert caught.value.code == "bad-argument"
