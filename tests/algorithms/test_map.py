"""MAP against modes known in closed form."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist
from taut.algorithms import MAP, Run


def poisson(y):
    rate = taut.sample("rate", dist.Gamma(3.0, 1.0))
    taut.sample("y", dist.Poisson(rate), obs=y)


def sum_only(y):
    a = taut.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
    b = taut.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))
    taut.sample("c", dist.Normal(0.0, 1.0))
    taut.sample("y", dist.Normal(a + b, 1.0), obs=y)


def solve(model, data, guide=None, **settings):
    problem, algorithm = taut.Problem(model, data), MAP(**settings)
    return problem, Run()(algorithm, problem, guide or algorithm.guide(problem), 0)


@pytest.mark.parametrize("y", [0, 5, 100])
def test_gamma_posterior_in_log_coordinates(y):
    """The posterior is Gamma(3 + y, 2); its density in log(rate) carries one more power of rate: mode (3 + y) / 2."""
    _, solution = solve(poisson, dict(y=y))
    assert solution.status == "converged"
    np.testing.assert_allclose(solution.params["loc"], np.log((3 + y) / 2), atol=1e-8)
    assert solution.modes == (1, 8, 8)


def test_parameters_are_maximised_with_the_latents():
    """y ~ N(z, 1), z ~ N(s, 1): the joint maximum has s = z = y."""

    def model(y):
        s = taut.param("s", 1.0, constraint=dist.constraints.positive)
        z = taut.sample("z", dist.Normal(s, 1.0))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)

    fit = taut.fit(model, dict(y=5.0), algorithm=MAP())
    np.testing.assert_allclose([fit["z"].mean, fit["s"].mean], 5.0, atol=1e-6)
    assert fit.verdict.level != "trusted"  # a point is no posterior


def test_the_higher_of_two_modes():
    """An equal-weight mixture of N(-3, 1) and N(3, .5): the narrow one is twice as high."""

    def model(y):
        x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))
        parts = [dist.Normal(-3.0, 1.0).log_prob(x), dist.Normal(3.0, 0.5).log_prob(x)]
        taut.factor("mixture", jnp.logaddexp(*parts) + 0.0 * y)

    _, solution = solve(model, dict(y=0.0))
    # The other component moves this mode by about 1e-8: density ratio e^-18 times a slope of 6.
    np.testing.assert_allclose(solution.params["loc"], 3.0, atol=1e-6)
    assert solution.modes is not None and solution.modes[0] == 2


def test_a_ridge_is_named():
    """Only a + b is known: the point is a maximum, and the verdict says along what it could slide."""
    fit = taut.fit(sum_only, dict(y=1.0), algorithm=MAP())
    assert fit.solution is not None and fit.solution.flat == ("a", "b")
    np.testing.assert_allclose(fit["a"].mean + fit["b"].mean, 1.0, atol=1e-6)
    np.testing.assert_allclose(fit["c"].mean, 0.0, atol=1e-6)
    assert fit.verdict.level == "not trusted"


def test_another_family_is_refused():
    with pytest.raises(taut.TautError, match="MAP with FullRank") as caught:
        taut.fit(poisson, dict(y=5), algorithm=MAP(), guide=taut.guides.FullRank())
    assert caught.value.code == "bad-combination"
