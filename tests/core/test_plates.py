"""Plates: shapes, scales, rows, and what is refused."""

from __future__ import annotations

from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import taut
from taut import TautError, dist, handlers
from taut.core import frames, log_density

stats: Any = scipy.stats  # its stubs take frozen continuous distributions for discrete ones


def trace(fn, *args, key=0):
    return handlers.trace(handlers.seed(fn, key)).get_trace(*args)


def test_nested_plates_take_dimensions_from_the_right():
    def model():
        with taut.plate("outer", 3):
            a = taut.sample("a", dist.Normal(0.0, 1.0))
            with taut.plate("inner", 2):
                taut.sample("b", dist.Normal(a, 1.0))
                taut.sample("v", dist.Normal(jnp.zeros(4), 1.0).to_event(1))
        taut.sample("c", dist.Normal(0.0, 1.0))

    sites = trace(model)
    assert [sites[n].value.shape for n in "abvc"] == [(3,), (2, 3), (2, 3, 4), ()]
    assert [(p.name, p.dim) for p in sites["b"].plates] == [("inner", -2), ("outer", -1)]
    assert log_density(sites["v"]).shape == (2, 3)
    # Independent rows: no two values of one site agree.
    assert len(np.unique(sites["b"].value)) == 6


def test_explicit_dimensions_and_gaps():
    def model():
        with taut.plate("rows", 3, dim=-2):
            a = taut.sample("a", dist.Normal(0.0, 1.0))
            with taut.plate("columns", 2, dim=-1):
                taut.sample("b", dist.Normal(a, 1.0))

    sites = trace(model)
    assert (sites["a"].value.shape, sites["b"].value.shape) == ((3, 1), (3, 2))
    values = sites["a"].value, sites["b"].value
    np.testing.assert_allclose(log_density(sites["b"]), stats.norm.logpdf(values[1], values[0]), rtol=1e-5)


def test_a_subsampled_plate_counts_each_row_as_size_over_length():
    y = np.random.default_rng(0).normal(size=10)

    def model(size=None):
        with taut.plate("rows", 10, subsample_size=size) as rows:
            taut.sample("y", dist.Normal(0.0, 1.0), obs=y[rows])
            taut.factor("f", y[rows])
        return rows

    full = stats.norm.logpdf(y).sum()
    estimates, factors, seen = [], [], []
    for key in range(400):
        sites = trace(model, 4, key=key)
        rows = np.asarray(sites["rows"].value)
        assert len(set(rows.tolist())) == 4
        seen.extend(rows.tolist())
        assert sites["y"].scale == 10 / 4
        estimates.append(float(jnp.sum(log_density(sites["y"]))))
        factors.append(float(jnp.sum(log_density(sites["f"]))))
    # Unbiased: within four standard errors of the sum over all rows.
    for sums, total in ((estimates, full), (factors, y.sum())):
        assert abs(np.mean(sums) - total) < 4 * np.std(sums) / np.sqrt(len(sums))
    assert np.bincount(seen, minlength=10).min() > 400 * 0.4 - 4 * np.sqrt(400 * 0.24)


def test_nested_subsampling_multiplies():
    def model():
        with taut.plate("outer", 6, subsample_size=2), taut.plate("inner", 9, subsample_size=3):
            taut.sample("x", dist.Normal(0.0, 1.0))

    site = trace(model)["x"]
    assert (site.scale, site.value.shape) == (9.0, (3, 2))


def test_a_plate_opened_twice_yields_the_same_rows():
    def model():
        with taut.plate("rows", 100, subsample_size=5) as first:
            taut.sample("a", dist.Normal(0.0, 1.0))
        with taut.plate("other", 100, subsample_size=5) as other:
            taut.sample("c", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 100, subsample_size=5) as second:
            taut.sample("b", dist.Normal(0.0, 1.0))
        return first, second, other

    first, second, other = handlers.seed(model, 0)()
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_factors_fill_their_plates():
    def model():
        with taut.plate("rows", 4):
            taut.factor("scalar", 0.5)
            taut.factor("vector", np.arange(4.0))
        taut.factor("outside", 0.5)

    sites = trace(model)
    assert [float(jnp.sum(log_density(sites[n]))) for n in ("scalar", "vector", "outside")] == [2.0, 6.0, 0.5]


def test_whole_opens_every_row_and_rescales_nothing():
    def model():
        with taut.plate("rows", 10, subsample_size=4) as rows:
            taut.sample("x", dist.Normal(0.0, 1.0))
        return rows

    sites = trace(handlers.whole(model))
    assert (sites["x"].scale, sites["x"].value.shape) == (1.0, (10,))
    np.testing.assert_array_equal(sites["rows"].value, np.arange(10))


def _nested_again():
    with taut.plate("rows", 3), taut.plate("rows", 3):
        pass


def _taken():
    with taut.plate("rows", 3, dim=-1), taut.plate("columns", 2, dim=-1):
        pass


def _other_size():
    for size in (3, 4):
        with taut.plate("rows", size):
            pass


def _other_dim():
    with taut.plate("rows", 3):
        pass
    with taut.plate("columns", 2), taut.plate("rows", 3):
        pass


def _other_rows():
    for size in (3, 2):
        with taut.plate("rows", 4, subsample_size=size):
            pass


def _too_wide():
    with taut.plate("rows", 3):
        taut.sample("x", dist.Normal(np.zeros(4), 1.0))


def _factor_too_wide():
    with taut.plate("rows", 3):
        taut.factor("x", np.zeros(2))


@pytest.mark.parametrize(
    ("model", "code", "site"),
    [
        (_nested_again, "plate-reuse", "rows"),
        (_taken, "plate-reuse", "columns"),
        (_other_size, "plate-reuse", "rows"),
        (_other_dim, "plate-reuse", "rows"),
        (_other_rows, "plate-reuse", "rows"),
        (_too_wide, "plate-shape", "x"),
        (_factor_too_wide, "plate-shape", "x"),
        (lambda: taut.plate("rows", 0), "plate-size", "rows"),
        (lambda: taut.plate("rows", -2), "plate-size", "rows"),
        (lambda: taut.plate("rows", cast(int, 2.5)), "plate-size", "rows"),
        (lambda: taut.plate("rows", True), "plate-size", "rows"),
        (lambda: taut.plate("rows", cast(int, jnp.asarray(3.0))), "plate-size", "rows"),
        (lambda: taut.plate("rows", 3, subsample_size=4).__enter__(), "plate-reuse", "rows"),
        (lambda: taut.plate("rows", 3, dim=0), "plate-reuse", "rows"),
    ],
)
def test_misuse_is_refused(model, code, site):
    with pytest.raises(TautError) as caught:
        trace(model)
    assert (caught.value.code, caught.value.site) == (code, site)
    assert str(caught.value.source).startswith("test_plates.py:")
    assert frames() == ()


def test_subsampling_needs_a_key():
    with pytest.raises(TautError, match="no-key"), taut.plate("rows", 10, subsample_size=2):
        pass
    assert frames() == ()


def test_a_plate_decorates_a_function():
    @taut.plate("rows", 3)
    def model():
        return taut.sample("x", dist.Normal(0.0, 1.0))

    assert handlers.seed(model, 0)().shape == (3,)
