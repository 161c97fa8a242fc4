"""What every handler must do; a new handler joins `MEMBERS`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import taut
from taut import TautError, dist, handlers
from taut.core import Handler, Site, frames, log_density

stats: Any = scipy.stats  # its stubs take frozen continuous distributions for discrete ones

Y = np.array([0.3, -0.7, 1.1])


def model(y: Any = Y) -> Any:
    mu = taut.sample("mu", dist.Normal(0.0, 2.0))
    with taut.plate("rows", 3):
        z = taut.sample("z", dist.Normal(mu, 1.0))
        taut.sample("y", dist.Normal(z, 0.5), obs=y)
    taut.factor("penalty", -0.5 * mu**2)
    return taut.deterministic("total", mu + jnp.sum(z))


RECORDED = handlers.trace(handlers.seed(model, 7)).get_trace()


def log_joint(sites: dict[str, Site]) -> float:
    return float(sum(jnp.sum(log_density(s)) for s in sites.values() if s.kind in ("sample", "factor")))


def run(handler: Callable[..., Any], key: int = 0) -> handlers.Trace:
    """The model's record as seen from outside of ``handler(model)``, with draws from within it."""
    return handlers.trace(handler(handlers.seed(model, key))).get_trace()


class Member(NamedTuple):
    """A handler, as it is made around a program, and as it is made for a ``with`` statement."""

    around: Callable[[Any], Handler]
    alone: Callable[[], Handler]


MEMBERS: dict[str, Member] = {
    "seed": Member(lambda fn: handlers.seed(fn, 3), lambda: handlers.seed(key=3)),
    "trace": Member(lambda fn: handlers.trace(fn), lambda: handlers.trace()),
    "replay": Member(lambda fn: handlers.replay(fn, RECORDED), lambda: handlers.replay(trace=RECORDED)),
    "condition": Member(lambda fn: handlers.condition(fn, {"mu": 0.5}), lambda: handlers.condition(data={"mu": 0.5})),
    "substitute": Member(
        lambda fn: handlers.substitute(fn, {"mu": 0.5}), lambda: handlers.substitute(data={"mu": 0.5})
    ),
    "do": Member(lambda fn: handlers.do(fn, {"mu": 0.5}), lambda: handlers.do(data={"mu": 0.5})),
    "block": Member(lambda fn: handlers.block(fn, hide=["y"]), lambda: handlers.block(hide=["y"])),
    "mask": Member(lambda fn: handlers.mask(fn, False), lambda: handlers.mask(mask=False)),
    "scale": Member(lambda fn: handlers.scale(fn, 2.0), lambda: handlers.scale(scale=2.0)),
    "relax": Member(lambda fn: handlers.relax(fn, 0.5), lambda: handlers.relax(temperature=0.5)),
    "reparam": Member(
        lambda fn: handlers.reparam(fn, {"mu": handlers.LocScale(0.0)}),
        lambda: handlers.reparam(config={"mu": handlers.LocScale(0.0)}),
    ),
    "whole": Member(lambda fn: handlers.whole(fn), lambda: handlers.whole()),
}


def summary(sites: dict[str, Site]) -> list[Any]:
    return [
        (
            n,
            s.kind,
            s.observed,
            float(s.scale),
            s.mask if s.mask is None else bool(np.all(s.mask)),
            np.asarray(s.value).tobytes(),
        )
        for n, s in sites.items()
    ]


def inside(member: Member) -> list[Any]:
    """The record with the handler around the model and a key outside of it."""
    with handlers.trace() as sites, handlers.seed(key=11):
        member.around(model)(Y)
    return summary(sites)


def test_every_handler_is_a_member():
    offered = {n for n in handlers.__all__ if issubclass(getattr(handlers, n), Handler)}
    assert offered == set(MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
class TestEveryHandler:
    def test_runs_as_wrapper_statement_and_decorator_alike(self, name: str):
        member = MEMBERS[name]
        expected = inside(member)
        assert expected
        with handlers.trace() as sites, handlers.seed(key=11), member.alone():
            model(Y)
        assert summary(sites) == expected
        with handlers.trace() as sites, handlers.seed(key=11):
            member.alone()(model)(Y)
        assert summary(sites) == expected

    def test_leaves_nothing_on_the_stack(self, name: str):
        member = MEMBERS[name]
        inside(member)
        assert frames() == ()

        def broken():
            model(Y)
            raise ZeroDivisionError

        for attempt in (lambda: member.around(broken)(), lambda: member.alone()(broken)()):
            with pytest.raises(ZeroDivisionError), handlers.seed(key=0):
                attempt()
            assert frames() == ()

    def test_remembers_nothing_between_runs(self, name: str):
        handler = MEMBERS[name].around(model)
        records = []
        for _ in range(2):
            with handlers.trace() as sites, handlers.seed(key=11):
                handler(Y)
            records.append(summary(sites))
        assert records[0] == records[1]

    def test_is_shared_by_threads(self, name: str):
        member, barrier = MEMBERS[name], threading.Barrier(8)
        shared = member.around(model)

        def work(key: int, wait: bool = True) -> Any:
            if wait:
                barrier.wait(timeout=60)
            with handlers.trace() as sites, handlers.seed(key=key):
                shared(Y)
            return summary(sites), frames()

        expected = [work(key, wait=False) for key in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(8))) == expected

    @pytest.mark.parametrize("other", MEMBERS)
    def test_composes_with_every_other(self, name: str, other: str):
        # Wrapping twice is opening twice, whatever the pair and its order.
        outer, inner = MEMBERS[name], MEMBERS[other]
        with handlers.trace() as wrapped, handlers.seed(key=11):
            outer.around(inner.around(model))(Y)
        with handlers.trace() as opened, handlers.seed(key=11), outer.alone(), inner.alone():
            model(Y)
        assert summary(wrapped) == summary(opened)
        assert frames() == ()

    def test_shows_the_program_it_wraps(self, name: str):
        handler = MEMBERS[name].around(model)
        assert list(inspect.signature(handler).parameters) == ["y"]
        assert handler.__name__ == "model"

    def test_refuses_to_run_nothing(self, name: str):
        with pytest.raises(TautError) as caught:
            MEMBERS[name].alone()(Y)
        assert (caught.value.code, caught.value.site) == ("bad-argument", name)


def test_seed_is_reproducible_and_every_key_differs():
    first, again, other = (summary(run(lambda fn: fn, key)) for key in (0, 0, 1))
    assert first == again
    assert first != other
    assert summary(run(lambda fn: fn, 5)) == summary(
        handlers.trace(handlers.seed(model, jax.random.key(5))).get_trace()
    )
    assert summary(run(lambda fn: fn, 5)) == summary(handlers.trace(handlers.seed(model, rng_seed=5)).get_trace())


def test_seed_draws_from_the_prior():
    draws = np.array([float(handlers.seed(lambda: taut.sample("x", dist.Normal(3.0, 2.0)), k)()) for k in range(200)])
    # Kolmogorov-Smirnov at 1 in 10,000: keys are fixed, so this cannot flake.
    assert stats.kstest(draws, stats.norm(3.0, 2.0).cdf).pvalue > 1e-4


def test_replay_reproduces_the_log_joint():
    again = handlers.trace(handlers.replay(handlers.seed(model, 99), RECORDED)).get_trace()
    assert log_joint(again) == log_joint(RECORDED)
    other = handlers.trace(handlers.seed(model, 99)).get_trace()
    assert log_joint(other) != log_joint(RECORDED)


def test_replay_reuses_the_rows_of_a_plate():
    def rows():
        with taut.plate("rows", 50, subsample_size=5) as index:
            return index

    recorded = handlers.trace(handlers.seed(rows, 0)).get_trace()
    np.testing.assert_array_equal(handlers.replay(handlers.seed(rows, 1), recorded)(), recorded["rows"].value)


def test_condition_keeps_the_density_and_do_removes_it():
    values = {"mu": 0.5, "z": np.array([0.1, 0.2, 0.3])}
    prior = stats.norm(0.0, 2.0).logpdf(0.5)
    rest = stats.norm(0.5, 1.0).logpdf(values["z"]).sum() + stats.norm(values["z"], 0.5).logpdf(Y).sum() - 0.125
    for handler, expected in (
        (handlers.substitute, prior + rest),
        (handlers.condition, prior + rest),
        (handlers.do, rest),
    ):
        sites = run(lambda fn, h=handler: h(handlers.substitute(fn, {"z": values["z"]}), {"mu": values["mu"]}))
        np.testing.assert_allclose(log_joint(sites), expected, rtol=1e-6)
    latent = {
        h: run(lambda fn, h=h: h(fn, {"mu": 0.5}))["mu"].latent
        for h in (handlers.substitute, handlers.condition, handlers.do)
    }
    assert list(latent.values()) == [True, False, False]


def test_do_leaves_causes_alone_and_changes_effects():
    sites = run(lambda fn: handlers.do(fn, {"z": np.full(3, 9.0)}))
    assert sites["z"].kind == "deterministic"
    np.testing.assert_allclose(log_density(sites["y"]), stats.norm(9.0, 0.5).logpdf(Y), rtol=1e-5)
    assert float(sites["mu"].value) == float(run(lambda fn: fn)["mu"].value)


def test_scale_multiplies():
    plain = handlers.replay(model, RECORDED)
    for factor in (0.25, 3.0, np.float64(2.0)):
        scaled = handlers.trace(handlers.scale(plain, factor)).get_trace()
        np.testing.assert_allclose(log_joint(scaled), float(factor) * log_joint(RECORDED), rtol=1e-6)
    twice = handlers.trace(handlers.scale(handlers.scale(plain, 2.0), 3.0)).get_trace()
    np.testing.assert_allclose(log_joint(twice), 6 * log_joint(RECORDED), rtol=1e-6)


@pytest.mark.parametrize("factor", [0, -1.0, float("nan"), np.array([1.0, 0.0])])
def test_scales_are_positive(factor: Any):
    with pytest.raises(TautError, match="bad-argument"):
        handlers.scale(model, factor)


def test_masked_nan_leaves_value_and_gradient_as_if_the_rows_were_dropped():
    # pyro#2447: a finite loss whose gradient is NaN.
    y = np.array([0.3, np.nan, 1.1, np.inf])
    keep = np.isfinite(y)

    def total(rows: np.ndarray, weights: np.ndarray | None) -> Callable[[Any], Any]:
        def density(theta: Any) -> Any:
            with handlers.trace() as sites, taut.plate("rows", len(rows)):
                if weights is None:
                    taut.sample("y", dist.LogNormal(theta[0], jnp.exp(theta[1])), obs=rows)
                else:
                    with handlers.mask(mask=weights):
                        taut.sample("y", dist.LogNormal(theta[0], jnp.exp(theta[1])), obs=rows)
            return jnp.sum(log_density(sites["y"]))

        return density

    theta = jnp.array([0.2, -0.4])
    masked, dropped = (jax.value_and_grad(total(r, w))(theta) for r, w in ((y, keep), (y[keep], None)))
    np.testing.assert_allclose(masked[0], dropped[0], rtol=1e-6)
    np.testing.assert_allclose(masked[1], dropped[1], rtol=1e-6)
    np.testing.assert_allclose(
        masked[0], stats.lognorm(np.exp(-0.4), scale=np.exp(0.2)).logpdf(y[keep]).sum(), rtol=1e-5
    )


def test_a_distributions_own_mask_is_the_handlers():
    y = np.array([0.3, np.nan, 1.1])

    def density(mu: Any) -> Any:
        with handlers.trace() as sites:
            taut.sample("y", dist.Normal(mu, np.ones(3)).mask(np.isfinite(y)), obs=y)
        return jnp.sum(log_density(sites["y"]))

    value, slope = jax.value_and_grad(density)(0.5)
    np.testing.assert_allclose(value, stats.norm(0.5).logpdf([0.3, 1.1]).sum(), rtol=1e-6)
    np.testing.assert_allclose(slope, (0.3 - 0.5) + (1.1 - 0.5), rtol=1e-6)


def test_masks_of_events_and_masks_of_masks():
    y = np.array([[1.0, 2.0], [np.nan, 1.0], [0.0, 0.0]])
    masks = handlers.mask(mask=[True, False, True]), handlers.mask(mask=np.array([True, True, False]))
    with handlers.trace() as sites, taut.plate("rows", 3), masks[0], masks[1]:
        taut.sample("y", dist.Normal(np.zeros(2), 1.0).to_event(1), obs=y)
    np.testing.assert_allclose(log_density(sites["y"]), [stats.norm.logpdf([1.0, 2.0]).sum(), 0.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    "weigh", [lambda: handlers.mask(mask=[True, False]), lambda: handlers.scale(scale=np.array([1.0, 2.0]))]
)
def test_a_weight_wider_than_its_site_is_refused(weigh: Any):
    # Broadcasting the site instead would count it twice.
    with handlers.trace() as sites, handlers.seed(key=0), weigh():
        taut.sample("x", dist.Normal(0.0, 1.0))
    with pytest.raises(TautError) as caught:
        log_density(sites["x"])
    assert (caught.value.code, caught.value.site) == ("bad-argument", "x")


def test_block_hides_from_outside_only():
    for made in (
        lambda fn: handlers.block(fn, hide=["z"]),
        lambda fn: handlers.block(fn, hide="z"),
        lambda fn: handlers.block(fn, lambda site: site.name == "z"),
        lambda fn: handlers.block(fn, expose=["mu", "y", "rows", "penalty", "total"]),
    ):
        assert list(run(made)) == ["mu", "rows", "y", "penalty", "total"]
    assert list(run(handlers.block)) == []
    # What stands inside of the block still sees the site.
    inner = handlers.block(handlers.condition(handlers.trace(handlers.seed(model, 0)), {"z": np.zeros(3)}), hide=["z"])
    assert float(inner()) == float(run(lambda fn: fn)["mu"].value)
    with pytest.raises(TautError, match="no-key"):
        handlers.seed(handlers.block(model), 0)()
