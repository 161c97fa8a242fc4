"""Bare log densities: against closed forms, in every way to write one down, and with the refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import taut
from taut import TautError, dist

special: Any = scipy.special
stats: Any = scipy.stats


def by_name(x, y):
    return -0.5 * (x - 1.0) ** 2 + 2.0 * jnp.log(y) - 3.0 * y


def as_mapping(z):
    return by_name(z["x"], z["y"])


def with_data(y, x, centre, sign=1):
    return -0.5 * (x - centre) ** 2 + 2.0 * jnp.log(y) - sign * 3.0 * y


LIKE = {"x": 0.0, "y": 0.0}
POSITIVE = {"y": dist.constraints.positive}


@pytest.mark.parametrize(
    ("logp", "data"),
    [(by_name, {}), (as_mapping, {}), (lambda **z: as_mapping(z), {}), (with_data, {"centre": 1.0})],
    ids=["by_name", "as_mapping", "open_ended", "with_data"],
)
def test_however_a_density_is_written_it_is_the_log_joint(logp: Callable[..., Any], data: dict[str, Any]):
    problem = taut.Problem(taut.density(logp, LIKE, POSITIVE), data)
    assert float(problem.log_joint({"x": 0.2, "y": 0.7})) == pytest.approx(-0.32 + 2 * np.log(0.7) - 2.1)
    # On the real line y is exp(u), and the slope of exp is part of the density.
    assert float(problem.log_joint(np.array([0.2, -0.5]))) == pytest.approx(-0.32 - 1.0 - 3 * np.exp(-0.5) - 0.5)


def test_the_fit_is_the_density_and_the_evidence_its_integral():
    fit = taut.fit(taut.density(with_data, LIKE, POSITIVE), dict(centre=1.0))
    assert fit.verdict.level != "not trusted"
    assert fit.title == "with_data"
    # A normal and a Gamma(3, 3): 4.5 standard errors of 16,000 draws.
    exact = {"x": (1.0, 1.0), "y": (1.0, 3**-0.5)}
    for name, (mean, sd) in exact.items():
        assert (fit[name].mean - mean) / sd == pytest.approx(0.0, abs=0.036)
        assert fit[name].sd / sd == pytest.approx(1.0, abs=0.04)
    integral = 0.5 * np.log(2 * np.pi) + special.gammaln(3) - 3 * np.log(3)
    assert fit.log_evidence == pytest.approx(integral, abs=5 * (fit.numbers["log evidence"][1] or 0) + 1e-6)


def test_supports_with_event_dimensions():
    """A Dirichlet without its constant, and an interval."""
    alpha = np.array([1.5, 2.0, 3.5])

    def logp(z):
        return jnp.sum((alpha - 1) * jnp.log(z["share"])) + jnp.sum(jnp.log(z["u"]))

    support = {"share": dist.constraints.simplex, "u": dist.constraints.interval(0.0, 2.0)}
    model = taut.density(logp, like={"share": np.ones(3) / 3, "u": np.zeros(2)}, support=support)
    problem = taut.Problem(model)
    shapes = {n: (v.shape, v.coordinate_shape, v.support) for n, v in problem.latents.items()}
    assert shapes == {"share": ((3,), (2,), "simplex"), "u": ((2,), (2,), "interval(0, 2)")}
    fit = taut.fit(model)
    # The normalising constant of the Dirichlet, and of two triangles on [0, 2] of area 2.
    integral = special.gammaln(alpha).sum() - special.gammaln(alpha.sum()) + 2 * np.log(2.0)
    assert fit.log_evidence == pytest.approx(integral, abs=5 * (fit.numbers["log evidence"][1] or 0) + 1e-6)
    np.testing.assert_allclose(fit["share"].mean, alpha / alpha.sum(), atol=0.01)
    np.testing.assert_allclose(fit["u"].mean, 4 / 3, atol=0.02)


def test_a_guide_and_an_algorithm_may_be_chosen():
    def guide():
        loc = taut.param("loc", 0.0)
        taut.sample("x", dist.Normal(loc, 1.0))
        taut.sample("y", dist.Gamma(3.0, taut.param("rate", 1.0, constraint=dist.constraints.positive)))

    problem = taut.Problem(taut.density(by_name, LIKE, POSITIVE))
    params = {"loc": np.array(1.0), "rate": np.log(3.0)}
    draws, log_q = taut.guides.Program(guide).draws(problem, params, 5, np.random.default_rng(0))
    # Here the guide is the posterior: all weights are the log of the integral.
    log_p = [float(problem.log_joint({n: draws[n][i] for n in LIKE})) for i in range(5)]
    integral = 0.5 * np.log(2 * np.pi) + special.gammaln(3) - 3 * np.log(3)
    np.testing.assert_allclose(log_p - np.asarray(log_q), integral, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "site"),
    [
        (dict(like=0.0), "like"),
        (dict(like={}), "like"),
        (dict(like={"x": "a word"}), "like"),
        (dict(like=LIKE, support={"z": dist.constraints.positive}), "z"),
        (dict(like=LIKE, support={"y": "positive"}), "y"),
    ],
)
def test_what_is_no_mapping_of_arrays_or_constraints_is_refused(arguments: dict[str, Any], site: str):
    with pytest.raises(TautError) as error:
        taut.density(by_name, **arguments)
    assert (error.value.code, error.value.site) == ("bad-argument", site)


def test_the_line_of_a_mistake_is_the_users_and_not_jaxs():
    with pytest.raises(TautError) as error:
        taut.Problem(taut.handlers.reparam(taut.density(by_name, LIKE, POSITIVE), {"x": taut.handlers.LocScale(0.0)}))
    assert error.value.site == "x" and "test_density.py:" in str(error.value)


def test_a_density_is_one_number():
    with pytest.raises(TautError, match=r"shape \(3,\)") as error:
        taut.Problem(taut.density(lambda x: -(x**2), like={"x": np.zeros(3)}))
    assert error.value.remedy == "return jnp.sum(terms)"


def test_data_are_checked_as_those_of_any_model():
    model = taut.density(with_data, LIKE, POSITIVE)
    with pytest.raises(TautError) as error:
        taut.Problem(model, dict(center=1.0))
    assert error.value.code == "data-unknown"
    assert "centre" in error.value.remedy
    with pytest.raises(TautError) as error:
        taut.Problem(model)
    assert error.value.code == "data-missing"
