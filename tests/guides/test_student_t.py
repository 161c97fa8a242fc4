"""Student-t margins: the map from normals, tails, and degrees of freedom that are given."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

import taut
from taut import algorithms, dist, guides
from taut._precision import scope
from taut.guides._student_t import _from_normals, _log_density
from taut.problem import Problem


def scalar() -> None:
    taut.sample("x", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("df", [0.7, 2.5, 30.0, 1e12])
def test_two_normals_make_one_student_t(df: float):
    a, b = np.random.default_rng(0).standard_normal((2, 20_000))
    t = _from_normals(a, b, df, np)
    assert stats.kstest(t, stats.t(df).cdf).pvalue > 1e-4


def test_log_density_is_the_textbooks():
    problem = Problem(scalar, {}, precision="float64")
    guide = guides.StudentT(df=3.0)
    params = {"loc": np.array([1.0]), "log_scale": np.array([np.log(2.0)])}
    textbook: Any = stats.t(3, 1.0, 2.0)
    with scope("float64"):
        for z in (-200.0, 0.0, 1.0, 7.0):
            point = guides.Flat(jnp.array([z]), jnp.ones(1))
            found = float(guide.log_prob(problem.program, params, point))
            np.testing.assert_allclose(found, textbook.logpdf(z), rtol=1e-12)


def test_given_degrees_of_freedom_stay_and_many_are_a_normal():
    problem = Problem(scalar, {}, precision="float64")
    run = algorithms.Run()
    wide = run(algorithms.FixedNoise(), problem, guides.StudentT(df=1e9), 0)
    assert set(wide.params) == {"loc", "log_scale"}
    np.testing.assert_allclose(wide.params["loc"], 0.0, atol=1e-6)
    np.testing.assert_allclose(wide.params["log_scale"], 0.0, atol=1e-6)
    entry = wide.guide.named(problem, wide.params)["x"]
    np.testing.assert_allclose(entry["df"], 1e9)


@pytest.mark.parametrize("df", [0.0, -1.0, "3", True])
def test_other_degrees_of_freedom_are_refused(df: object):
    with pytest.raises(taut.TautError, match="df"):
        guides.StudentT(df=df)  # type: ignore[arg-type]


def test_the_density_keeps_its_digits_at_large_degrees_of_freedom():
    # From the series of the normal's limit: log t - log N = (x^4 - 2 x^2 - 1) / 4 df + O(df^-2).
    x = np.array([0.0, 1.3, 3.0])
    for df in (1e4, 1e8, 1e13):
        found = [
            _log_density(x, np.full(3, df), gammaln, np),
            np.asarray(_log_density(jnp.asarray(x, jnp.float32), jnp.full(3, df, jnp.float32), jax.lax.lgamma)),
        ]
        expected = stats.norm.logpdf(x) + (x**4 - 2 * x**2 - 1) / (4 * df)
        for values, digits in zip(found, (1e-6 if df == 1e4 else 1e-12, 1e-5), strict=True):
            np.testing.assert_allclose(values, expected, atol=digits)
