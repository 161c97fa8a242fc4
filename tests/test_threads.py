"""BLAS has one thread inside of a fit, and its own number again after it, whatever happens."""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import taut
from taut import dist
from taut._threads import one_blas_thread


def threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_the_limit_holds_inside_and_is_lifted_after():
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == before
        with pytest.raises(ZeroDivisionError), one_blas_thread():
            _ = 1 / 0
        assert threads() == before


def test_a_fit_leaves_it_as_it_was():
    seen = []

    def model(y):
        seen.append(threads())
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(mu, 0.5), obs=y)

    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        taut.fit(model, dict(y=1.0))
        assert threads() == before
    assert seen and all(found == {1} for found in seen)
