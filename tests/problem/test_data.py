"""Data: what is traced and what is fixed, what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats

import taut
from taut import TautError, dist
from taut.problem import Problem, split

stats: Any = scipy.stats  # its stubs take frozen continuous distributions for discrete ones


def anything(**data: Any) -> None:
    raise AssertionError("never run")


def test_whole_numbers_are_fixed_and_numbers_with_a_point_are_traced():
    data = dict(
        n=3, flag=True, word="a", nothing=None, numpy_int=np.int64(4), numpy_bool=np.bool_(False),
        x=1.5, numpy_float=np.float32(2.5), ints=[1, 2], floats=(0.5, 1.5), array=np.arange(3), jax=jnp.arange(3.0),
        series=pd.Series([1.0, 2.0]), column=pd.DataFrame({"a": [1, 2]})["a"], nested={"a": [1.0], "b": {"c": 2.0}},
        rows=[np.zeros(2), np.zeros(3)], mixed={"n": 3, "x": np.zeros(2)},
    )  # fmt: skip
    arrays, constants = split(anything, data)
    assert set(constants) == {"n", "flag", "word", "nothing", "numpy_int", "numpy_bool", "mixed"}
    assert type(constants["numpy_int"]) is int
    assert type(constants["numpy_bool"]) is bool
    assert {n: np.shape(arrays[n]) for n in ("x", "ints", "series", "column")} == {
        "x": (),
        "ints": (2,),
        "series": (2,),
        "column": (2,),
    }
    assert arrays["nested"]["b"]["c"].shape == ()
    assert [a.shape for a in arrays["rows"]] == [(2,), (3,)]


def regression(x, y, n=None, note=""):
    a = taut.sample("a", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(x) if n is None else n):
        taut.sample("y", dist.Normal(a * x, 1.0), obs=y)


X, Y = np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0])


def density(data: Any, precision: Any = None) -> float:
    problem = Problem(regression, data, precision=precision)
    return float(problem.kernel()(np.array([[0.3]]), problem.centredness())[0][0])


EXPECTED = stats.norm.logpdf(0.3) + stats.norm(0.3 * X).logpdf(Y).sum()


@pytest.mark.parametrize(
    "data",
    [
        dict(x=X, y=Y),
        dict(x=X.tolist(), y=tuple(Y)),
        dict(x=pd.Series(X, index=[5, 6, 7]), y=pd.DataFrame({"y": Y})["y"]),
        pd.DataFrame({"x": X, "y": Y}),
        dict(x=X.astype(int), y=Y, n=3, note="a word"),
        dict(x=jnp.asarray(X), y=jnp.asarray(Y)),
        dict(x=X.astype(np.float32), y=Y),
        dict(x=X[:, None][:, 0], y=np.asfortranarray(Y)),
    ],
)
def test_every_form_of_the_same_data_gives_the_same_density(data: Any):
    np.testing.assert_allclose(density(data), EXPECTED, rtol=1e-12)


def test_single_precision_is_respected():
    assert abs(density(dict(x=X, y=Y), "float32") - EXPECTED) < 1e-5
    assert density(dict(x=X, y=Y), "float32") != EXPECTED
    with jax.enable_x64(True):
        data = dict(x=jnp.asarray(X), y=jnp.asarray(Y))
        assert data["x"].dtype == np.float64
        assert abs(density(data, "float32") - EXPECTED) < 1e-5
    assert abs(density(data, "float32") - EXPECTED) < 1e-5


def caught(model: Any, data: Any) -> TautError:
    with pytest.raises(TautError) as info:
        Problem(model, data)
    return info.value


@pytest.mark.parametrize(
    ("data", "code", "site", "remedy"),
    [
        (dict(x=X), "data-missing", "y", "y="),
        (None, "data-missing", "x", "x="),
        (dict(x=X, Y=Y), "data-unknown", "Y", "'y'"),
        (dict(x=X, y=Y, nn=3), "data-unknown", "nn", "'n'"),
        (dict(x=X, y=Y, unheard_of=3), "data-unknown", "unheard_of", "leave"),
        ([X, Y], "data-type", None, "dict("),
        (3, "data-type", None, "dict("),
        (dict(x=["a", "b"], y=Y), "data-type", "x", "factorize"),
        (dict(x=np.array(["a", "b"]), y=Y), "data-type", "x", "factorize"),
        (dict(x=[[1.0], [1.0, 2.0]], y=Y), "data-type", "x", "factorize"),
        (dict(x=X, y=Y[:2]), "data-shape", "y", ""),
        (dict(x=X, y=Y[:, None]), "data-shape", "y", "reshape"),
        (dict(x=X, y=Y, n=np.asarray(3)), "plate-size", "rows", "int"),
        (dict(x=X, y=Y, n=2.0), "plate-size", "rows", "int"),
    ],
)
def test_wrong_data_are_refused_with_the_remedy(data: Any, code: str, site: str | None, remedy: str):
    error = caught(regression, data)
    assert (error.code, error.site) == (code, site)
    assert remedy in error.remedy


def test_data_that_are_not_finite():
    y = np.array([0.5, np.nan, 2.0])
    error = caught(regression, dict(x=X, y=y))
    assert (error.code, error.site) == ("data-nonfinite", "y")
    assert "1 NaN of 3 values, first at [1]" in error.found
    assert caught(regression, dict(x=y, y=Y)).site == "x"
    assert caught(regression, dict(x=X, y=np.array([0.5, np.inf, 2.0]))).code == "data-nonfinite"


def test_masked_nan_are_as_good_as_dropped():
    def model(x, y):
        a = taut.sample("a", dist.Normal(0.0, 1.0))
        with taut.plate("rows", len(x)), taut.handlers.mask(mask=~jnp.isnan(y)):
            taut.sample("y", dist.Normal(a * x, 1.0), obs=y)

    y, keep = np.array([0.5, np.nan, 2.0]), [0, 2]
    problem = Problem(model, dict(x=X, y=y))
    (value,), (slope,) = problem.kernel()(np.array([[0.3]]), problem.centredness())
    np.testing.assert_allclose(
        value, stats.norm.logpdf(0.3) + stats.norm(0.3 * X[keep]).logpdf(Y[keep]).sum(), rtol=1e-12
    )
    np.testing.assert_allclose(slope, [-0.3 + np.sum((Y[keep] - 0.3 * X[keep]) * X[keep])], rtol=1e-12)
    # Infinity is not masked here.
    assert caught(model, dict(x=X, y=np.array([0.5, np.inf, 2.0]))).code == "data-nonfinite"


def test_nan_that_the_model_fills_in_itself_are_allowed():
    def model(y):
        a = taut.sample("a", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 3):
            z = taut.sample("z", dist.Normal(a, 1.0))
            taut.sample("y", dist.Normal(a, 1.0), obs=jnp.where(jnp.isnan(y), z, y))

    problem = Problem(model, dict(y=np.array([0.5, np.nan, 2.0])))
    assert "does not use" in problem.notes[0]
    (value,), _ = problem.kernel()(np.array([[0.1, 0.2, 0.3, 0.4]]), np.ones(4))
    expected = (
        stats.norm.logpdf(0.1)
        + stats.norm(0.1).logpdf([0.2, 0.3, 0.4]).sum()
        + stats.norm(0.1).logpdf([0.5, 0.3, 2.0]).sum()
    )
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("fn", "y", "found"),
    [
        (lambda r: dist.Poisson(r), [1, -2, 3], "-2"),
        (lambda r: dist.Poisson(r), [1.0, 2.5, 3.0], "2.5"),
        (lambda r: dist.Bernoulli(logits=r), [0.0, 2.0, 1.0], "2"),
        (lambda r: dist.Gamma(r, 1.0), [1.0, 0.0, 2.0], "from 0 to 0"),
        (lambda r: dist.Beta(r, 1.0), [0.5, 1.5, -0.5], "2 of 3"),
        (lambda r: dist.Binomial(5, logits=r), [1, 6, 5], "6"),
        (lambda r: dist.Binomial(np.array([5, 9, 3]), logits=r), [1, 6, 5], "first at [2]"),
        (lambda r: dist.Uniform(0.0, 2.0).mask(np.array([False, True, True])), [1.0, 2.5, 0.5], "2.5"),
        (lambda r: dist.Categorical(logits=r * jnp.ones(3)), [0, 1, 3], "3"),
        (lambda r: dist.LogNormal(r, 1.0), [0.1, -1.0, 2.0], "-1"),
        (lambda r: dist.VonMises(r, 1.0), [0.1, -4.0, 2.0], "-4"),
        (lambda r: dist.Geometric(logits=r), [0, 1, -1], "-1"),
    ],
)
def test_observations_outside_of_their_support(fn: Any, y: Any, found: str):
    def model(y):
        r = taut.sample("r", dist.HalfNormal(1.0))
        with taut.plate("rows", 3):
            taut.sample("y", fn(r), obs=y)

    error = caught(model, dict(y=y))
    assert (error.code, error.site) == ("data-support", "y")
    assert found in error.found


@pytest.mark.parametrize(
    ("fn", "y"),
    [
        (lambda r: dist.Dirichlet(r * jnp.ones(3)), [[0.2, 0.3, 0.5]] * 3),
        (lambda r: dist.Poisson(r), [0, 1, 2]),
        (lambda r: dist.Poisson(r), [0.0, 1.0, 2.0]),
        (lambda r: dist.Bernoulli(logits=r), [True, False, True]),
        (lambda r: dist.Binomial(np.array([5, 9, 3]), logits=r), [1, 6, 3]),
        (lambda r: dist.Exponential(r), [0.1, 1.0, 2.0]),
        (lambda r: dist.TruncatedNormal(r, 1.0, low=0.0), [0.0, 1.0, 2.0]),
        (lambda r: dist.Categorical(logits=r * jnp.ones(3)), [0, 1, 2]),
        (lambda r: dist.Multinomial(4, logits=r * jnp.ones(2)), [[1, 3], [4, 0], [2, 2]]),
        (lambda r: dist.MultivariateNormal(r * jnp.ones(2), jnp.eye(2)), [[1.0, 3.0], [4.0, 0.0], [2.0, 2.0]]),
    ],
)
def test_observations_inside_are_left_alone(fn: Any, y: Any):
    def model(y):
        r = taut.sample("r", dist.HalfNormal(1.0))
        with taut.plate("rows", 3):
            taut.sample("y", fn(r), obs=y)

    problem = Problem(model, dict(y=y))
    assert np.isfinite(problem.kernel()(np.zeros((1, 1)), np.ones(1))[0][0])


def test_models_with_nothing_to_infer_or_nothing_to_infer_it_from():
    def constant(y):
        taut.sample("y", dist.Normal(0.0, 1.0), obs=y)

    def tuned(y):
        s = taut.param("s", 1.0, constraint=dist.constraints.positive)
        taut.sample("y", dist.Normal(0.0, s), obs=y)

    def free(y=None):
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(x, 1.0), obs=y)

    def forgotten(y):
        taut.sample("x", dist.Normal(0.0, 1.0))

    assert caught(constant, dict(y=1.0)).code == "no-latents"
    assert "params are s" in caught(tuned, dict(y=1.0)).found
    error = caught(forgotten, dict(y=1.0))
    assert error.code == "no-observations"
    assert "obs=y" in error.remedy
    # y not passed: y itself becomes a latent, and nothing is observed.
    assert caught(free, {}).code == "no-observations"

    def prior():
        taut.sample("x", dist.Normal(0.0, 1.0))

    assert Problem(prior).notes == ["nothing is observed: the posterior is the prior"]


def test_duplicate_names_and_discrete_latents_name_their_lines():
    def twice(y):
        taut.sample("x", dist.Normal(0.0, 1.0))
        taut.sample("x", dist.Normal(0.0, 1.0), obs=y)

    def discrete(y):
        k = taut.sample("k", dist.Poisson(0.5))
        taut.sample("y", dist.Normal(k, 1.0), obs=y)

    assert caught(twice, dict(y=1.0)).code == "duplicate-site"
    error = caught(discrete, dict(y=1.0))
    assert (error.code, error.site) == ("discrete-latent", "k")
    assert str(error.source).startswith("test_data.py:")


def test_single_precision_data_may_be_carried_through_a_loop():
    # The carry of a scan has one type: data in float32 and latents in float64 would not fit together.
    def model(y):
        a = taut.sample("a", dist.Normal(0.0, 1.0))
        last, _ = jax.lax.scan(lambda c, t: (a * c + t, None), y[0], y[1:])
        taut.sample("y", dist.Normal(last, 1.0), obs=0.5)

    problem = Problem(model, dict(y=jnp.array([1.0, 2.0, 3.0], jnp.float32)))
    (value,), _ = problem.kernel()(np.array([[0.3]]), np.ones(1))
    np.testing.assert_allclose(value, stats.norm.logpdf(0.3) + stats.norm(0.09 + 0.6 + 3.0).logpdf(0.5), rtol=1e-12)
