"""`fit.gradient_noise()` against variances that are known, and its advice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import taut
from taut import dist, gradients, guides, objectives, testing
from taut._errors import TautError
from taut.algorithms import SVI, Solution
from taut.fitting._gradient_noise import gradient_noise


def at(loc: Any, log_scale: Any) -> Solution:
    params = {"loc": np.asarray(loc, float), "log_scale": np.asarray(log_scale, float)}
    return Solution(guides.MeanField(), params, np.zeros(0), "converged")


def test_signal_and_noise_of_a_gaussian_target():
    # p = N(8, 1/5), q = N(7.5, 1/5), pathwise: dz/dm gives -5 (z - 8) = 2.5 - 5 s e; sd 5 s = sqrt 5.
    problem = testing.conjugate_normal().problem()
    run = SVI(gradient=gradients.Pathwise())
    found = gradient_noise(problem, at([7.5], [0.5 * math.log(0.2)]), run, estimates=4000)
    assert abs(found["loc"].mean - 2.5) < 5 * math.sqrt(5 / 4000)
    assert abs(found["loc"].sd / math.sqrt(5) - 1) < 0.06
    assert abs(found["loc"].snr - 2.5 / math.sqrt(5)) < 0.1
    assert found["loc"].seen
    # In log s: 1 - 5 s e (z - 8) = 1 - e^2 + 2.5 s e, of mean 0 and variance 2 + 1.25.
    assert not found["log_scale"].seen
    assert abs(found["log_scale"].sd / math.sqrt(3.25) - 1) < 0.1
    # The target is quadratic: the control variate leaves nothing.
    assert found.others["gradient=taut.gradients.QuadraticControl()"] < 1e-20
    assert "still moved" in str(found) and "QuadraticControl" in found.advice[-1]


def test_at_the_posterior_sticking_the_landing_has_no_noise():
    problem = testing.conjugate_normal().problem()
    found = gradient_noise(problem, at([8.0], [0.5 * math.log(0.2)]), SVI(gradient=gradients.Pathwise()))
    assert not any(p.seen for p in found.parameters.values())
    assert found.advice[0].startswith("at rest")
    assert found.others["gradient=taut.gradients.StickingTheLanding()"] < 1e-20


def test_it_is_a_method_of_a_fit_and_refuses_what_the_run_refuses():
    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(mu, 0.5), obs=y)

    fit = taut.fit(model, dict(y=1.0), guide=guides.MeanField())
    found = fit.gradient_noise(estimates=64)
    assert set(found.parameters) == {"loc", "log_scale"}
    with pytest.raises(TautError, match="no others|others"):
        fit.gradient_noise(SVI(gradient=gradients.ScoreFunction(), objective=objectives.ELBO(1)))
    with pytest.raises(TautError, match="no spread"):
        fit.gradient_noise(estimates=1)
