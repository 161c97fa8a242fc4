"""Statements, the stack they travel through, and threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import taut
from taut import TautError, dist, handlers
from taut.core import frames, log_density, user_line
from taut.dist import constraints

stats: Any = scipy.stats  # its stubs take frozen continuous distributions for discrete ones


def trace(fn, *args, key=0):
    return handlers.trace(handlers.seed(fn, key)).get_trace(*args)


def test_each_statement_leaves_a_record():
    def model(y):
        w = taut.param("w", 2.0, constraint=constraints.positive)
        x = taut.sample("x", dist.Normal(0.0, w), infer={"note": 1})
        taut.deterministic("twice", 2 * x)
        taut.factor("penalty", -1.5)
        with taut.plate("rows", 3):
            taut.sample("y", dist.Normal(x, 1.0), obs=y)
        return x

    y = np.array([0.1, 0.2, 0.3])
    sites = trace(model, y)
    assert list(sites) == ["w", "x", "twice", "penalty", "rows", "y"]
    assert [s.kind for s in sites.values()] == ["param", "sample", "deterministic", "factor", "plate", "sample"]
    assert (sites["x"].latent, sites["y"].latent, sites["penalty"].latent) == (True, False, False)
    assert sites["x"].infer == {"note": 1}
    assert float(sites["twice"].value) == 2 * float(sites["x"].value)
    assert [p.name for p in sites["y"].plates] == ["rows"]
    expected = stats.norm(float(sites["x"].value), 1.0).logpdf(y)
    np.testing.assert_allclose(log_density(sites["y"]), expected, rtol=1e-5)
    assert float(log_density(sites["penalty"])) == -1.5


def test_source_lines_are_the_users():
    def model():
        _, line = taut.sample("x", dist.Normal(0.0, 1.0)), user_line()
        with taut.plate("rows", 2):
            pass
        return line

    with handlers.trace() as sites, handlers.seed(key=0):
        line = model()
    file, number = line.split(":")
    # user_line was asked for from this very line, one call further in than taut.sample.
    assert file == "test_primitives.py"
    assert sites["x"].source == line
    assert sites["rows"].source == f"{file}:{int(number) + 1}"


def test_a_handler_made_elsewhere_does_not_hide_the_users_line():
    def model():
        return taut.sample("x", dist.Normal(0.0, 1.0))

    plain = trace(model)["x"].source
    wrapped = trace(handlers.scale(handlers.mask(model, True), 2.0))["x"].source
    assert plain == wrapped
    assert plain.startswith("test_primitives.py:")


def test_observed_values_may_be_lists_and_series():
    pandas = pytest.importorskip("pandas")

    def model(y):
        taut.sample("y", dist.Normal(np.zeros(2), 1.0), obs=y)

    for y in ([1.0, 2.0], (1.0, 2.0), pandas.Series([1.0, 2.0]), jnp.array([1.0, 2.0])):
        np.testing.assert_allclose(log_density(trace(model, y)["y"]), stats.norm.logpdf([1.0, 2.0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (lambda: taut.sample("x", 3.0), "bad-argument"),
        (lambda: taut.sample("x", dist.Normal), "bad-argument"),
        (lambda: taut.sample("x", dist.Normal(0.0, 1.0)), "no-key"),
        (lambda: taut.sample("x", dist.Normal(0.0, 1.0), obs="a word"), "bad-argument"),
        (lambda: taut.sample("x", dist.Normal(0.0, 1.0), obs=[[1.0], [1.0, 2.0]]), "bad-argument"),
        (lambda: taut.deterministic("x", {"a": 1}), "bad-argument"),
        (lambda: taut.param("x"), "param-init"),
        (lambda: taut.param("x", 0.0, constraint=constraints.positive), "param-init"),
        (lambda: taut.param("x", jnp.array([1.0, -1.0]), constraint=constraints.positive), "param-init"),
        (lambda: taut.param("x", lambda key: 1.0), "no-key"),
        (
            lambda: taut.sample("x", dist.ImproperUniform(constraints.real, (), ()), key=taut._keys.jax_key(0)),
            "improper-sample",
        ),
    ],
)
def test_mistakes_name_the_site_and_the_line(statement, code):
    with pytest.raises(TautError) as caught:
        statement()
    assert (caught.value.code, caught.value.site) == (code, "x")
    assert str(caught.value.source).startswith("test_primitives.py:")
    assert frames() == ()


def test_duplicate_names_are_refused_with_both_lines():
    def twice():
        taut.sample("x", dist.Normal(0.0, 1.0))
        taut.sample("x", dist.Normal(0.0, 1.0))

    def across_kinds():
        taut.param("x", 1.0)
        taut.sample("x", dist.Normal(0.0, 1.0))

    def loop():
        for _ in range(2):
            taut.deterministic("x", 1.0)

    for model in (twice, across_kinds, loop):
        with pytest.raises(TautError) as caught:
            trace(model)
        assert caught.value.code == "duplicate-site"
        assert caught.value.found.count("test_primitives.py:") == 2


def test_the_stack_is_clean_after_any_exception():
    class Own(Exception):
        pass

    def model():
        with taut.plate("rows", 3), handlers.scale(scale=2.0):
            raise Own

    with pytest.raises(Own):
        trace(model)
    assert frames() == ()
    with pytest.raises(Own), handlers.seed(key=0):
        try:
            model()
        except Own:
            # An inner failure leaves what the caller opened, and only that.
            assert len(frames()) == 1
            raise
    assert frames() == ()


def test_one_handler_entered_twice_by_the_same_thread():
    double = handlers.scale(scale=2.0)
    with handlers.trace() as sites, handlers.seed(key=0), double, double:
        taut.sample("x", dist.Normal(0.0, 1.0))
    assert sites["x"].scale == 4.0
    assert frames() == ()


def program(count):
    """``count`` sites, each in its own plate, so that a stack that leaked between threads would show."""
    total = 0.0
    for i in range(count):
        with taut.plate(f"rows_{i}", i + 1):
            total = total + jnp.sum(taut.sample(f"x_{i}", dist.Normal(0.0, 1.0)))
    return total


def test_eight_threads_run_different_handlers_at_once():
    barrier = threading.Barrier(8)

    def work(i, wait=True):
        if wait:
            barrier.wait(timeout=60)
        runs = []
        for turn in range(3):
            with handlers.trace() as sites, handlers.seed(key=10 * i + turn), handlers.scale(scale=i + 1.0):
                if turn == 1:
                    with pytest.raises(TautError):
                        taut.sample("bad", None)
                program(2 + i % 3)
            runs.append([(n, s.scale, len(s.plates), np.asarray(s.value).tobytes()) for n, s in sites.items()])
        return runs, frames()

    expected = [work(i, wait=False) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert found == expected
    assert all(stack == () for _, stack in found)


def test_eight_threads_share_one_handler():
    shared = handlers.trace(handlers.seed(handlers.scale(program, 3.0), 5))
    barrier = threading.Barrier(8)

    def work(_):
        barrier.wait(timeout=60)
        return [(n, s.scale, np.asarray(s.value).tobytes()) for n, s in shared.get_trace(4).items()], frames()

    expected = [(n, s.scale, np.asarray(s.value).tobytes()) for n, s in shared.get_trace(4).items()]
    with ThreadPoolExecutor(8) as pool:
        for found, stack in pool.map(work, range(8)):
            assert found == expected
            assert stack == ()
