"""SVI over many parameters: leaf by leaf, with a thinned average, and the last finite iterate of a run that breaks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import taut
from taut import dist, guides
from taut.algorithms import SVI
from taut.algorithms._leaves import MANY
from taut.gradients import Pathwise
from taut.problem import Problem

WIDTH = MANY // 40


def many(y):
    """More than the parameters that the loop cuts up: a matrix, a vector, and parameters of the model's own."""
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([20, WIDTH]).to_event(2))
    b = taut.sample("b", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    shift = taut.param("shift", np.zeros((2, 3)))
    taut.sample("y", dist.Normal(w[:2, :3] * b + shift, 1.0).to_event(2), obs=y)


def problem():
    return Problem(many, {"y": np.arange(6.0).reshape(2, 3)})


def test_parameters_cut_up_are_the_same_family():
    """Draws and log q by site are those of the vectors at the same noise, and so is log q at another member."""
    target, guide = problem(), guides.MeanField()
    program = target.program
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        flat, other = ({n: jnp.asarray(rng.normal(size=target.dim)) for n in ("loc", "log_scale")} for _ in range(2))
        noise = jnp.asarray(rng.normal(size=target.dim))
        whole, log_q = guide.push(program, flat, noise)
        parts, same = guide.push(program, guide.cut(program, flat), noise)
        for name, where in program.layout.items():
            if name in program.latents:
                np.testing.assert_allclose(parts.coordinates[name].ravel(), whole.coordinates[where], rtol=1e-14)
        np.testing.assert_allclose(same, log_q, rtol=1e-12)
        there = guide.log_prob(program, guide.cut(program, other), parts)
        np.testing.assert_allclose(there, guide.log_prob(program, other, whole), rtol=1e-12)
        back = guide.joined(program, guide.cut(program, flat))
        assert all(np.array_equal(back[n], flat[n]) for n in flat)


def test_average_of_many_parameters_takes_every_eighth_iterate():
    """After 48 of 48 steps the average is the mean of the iterates 32, 40 and 48; single steps see them all."""
    target, guide = problem(), guides.MeanField()
    svi = SVI(gradient=Pathwise(), optimizer=optax.adam(0.1), steps=48, chunk=1)
    state, seen = svi.init(target, guide, 0), {}
    while state.step < 48:
        state, _ = svi.step(target, guide, state)
        seen[state.step] = state.learned
    expected = jax.tree.map(lambda *x: np.mean(x, axis=0), seen[32], seen[40], seen[48])
    for average, mean in zip(jax.tree.leaves(state.best), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(average, mean, rtol=1e-10, atol=1e-12)


def breaks(y):
    """A density whose gradient is not finite from where x passes 1: a root that is multiplied by nothing."""
    x = taut.sample("x", dist.Normal(0.0, 1.0))
    taut.factor("root", 1e3 * x + 0.0 * jnp.sqrt(jnp.where(x > 1.0, 0.0, 1.0) * (2.0 - x)))
    taut.sample("y", dist.Normal(0.0, 1.0), obs=y)


@pytest.mark.parametrize("optimizer", [optax.sgd(1e-5), optax.lion(0.01), None], ids=["sgd", "lion", "default"])
def test_a_gradient_that_is_not_finite_is_found_whatever_the_optimizer_makes_of_it(optimizer):
    """The value stays finite where only the gradient is not; the iterate before is kept, however steps are chunked."""
    target = Problem(breaks, {"y": 0.0})
    guide = guides.MeanField()
    ends = []
    for chunk in (1, 7, 400):
        svi = SVI(gradient=Pathwise(), optimizer=optimizer, steps=4000, chunk=chunk)
        state = svi.init(target, guide, 0)
        while svi.terminate(target, guide, state) is None:
            state, _ = svi.step(target, guide, state)
        assert svi.terminate(target, guide, state) == "nonfinite"
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.learned, state.optimizer)))
        ends.append(state)
    for state in ends[1:]:
        assert state.step == ends[0].step > 0
        assert all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(state.learned), jax.tree.leaves(ends[0].learned), strict=True)
        )
