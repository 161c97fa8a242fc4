"""What SVI compiles: many steps as one loop, and the comparison of two fits."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from taut._precision import real_dtype
from taut.algorithms._feed import at_step, stacked
from taut.algorithms._leaves import Learned, cut, joined, thinned
from taut.algorithms._optimizer import Optimizer
from taut.algorithms._rows import weights_of
from taut.gradients import GradientEstimator, Noise
from taut.guides import Guide, with_model
from taut.objectives import Objective
from taut.problem import Program, count_compilation

# Pairs of estimates that decide whether a stage gained anything.
PAIRS = 200


def step_keys(words: Any, step: Any) -> tuple[Any, Any]:
    """The keys of a step: one for the draws, and the words that choose the rows of subsampled plates."""
    draws, rows = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(words), step))
    return draws, jax.random.key_data(rows)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5, 6, 7, 8))
def loop(
    program: Program,
    guide: Guide,
    objective: Objective,
    gradient: GradientEstimator,
    noise: Noise,
    optimizer: Optimizer,
    chunk: int,
    by_site: bool,
    marks: bool,
    moving: Any,
    words: Any,
    bounds: Any,
    inputs: Any,
) -> Any:
    count_compilation()
    begin, limit, averaged_from, end = bounds
    every = thinned(moving[0])

    def loss(learned: Learned, step: Any) -> Any:
        draws, rows = step_keys(words, step)
        here = at_step(inputs, step - begin, rows)
        weights = weights_of(program, guide, draws, here, objective, noise, step)
        return gradient.surrogate(objective, weights, with_model(guide, learned.guide, learned.model), learned.model)

    def advance(carry: Any) -> Any:
        (learned, memory), step, values, _ = carry
        value, slope = jax.value_and_grad(loss)(learned, step)
        if objective.falls:
            slope = jax.tree.map(jnp.negative, slope)
        moved, remembered = optimizer.update(slope, memory, learned)
        # A gradient that is not finite leaves its mark for good: to look for it at each step would be one more pass.
        if not marks:
            moved = jax.tree.map(lambda x, g: jnp.where(jnp.isfinite(g), x, jnp.nan), moved, slope)
        return (moved, remembered), step + 1, values.at[step - begin].set(value), jnp.isfinite(value)

    def stretch(carry: Any) -> Any:
        """Steps up to the next iterate that counts."""
        now, average, *rest = carry
        until = jnp.minimum((rest[0] // every + 1) * every, limit)
        now, step, values, finite = jax.lax.while_loop(lambda c: (c[1] < until) & c[3], advance, (now, *rest))
        last = (step == end) & (step % every != 0)
        count = jnp.maximum(step // every - averaged_from // every + last, 1)
        share = jnp.where((step % every == 0) | last, 1.0 / count, 0.0)

        def mean(a: Any, x: Any) -> Any:
            return jnp.where(share == 1, x, a + (x - a) * share.astype(x.dtype))

        average = jax.tree.map(mean, average, now[0])
        return now, average, step, values, finite

    learned, memory, average = moving
    if by_site:
        learned, average = cut(program, guide, learned), cut(program, guide, average)
    values = jnp.full(chunk, jnp.nan, real_dtype())
    opening = ((learned, memory), average, begin, values, jnp.ones((), bool))
    (now, average, step, values, finite) = jax.lax.while_loop(lambda c: (c[2] < limit) & c[4], stretch, opening)
    for leaf in jax.tree.leaves(now[0]):
        finite &= jnp.all(jnp.isfinite(leaf)) if marks else ~jnp.any(jnp.isnan(leaf))
    learned, memory = now
    if by_site:
        learned, average = joined(program, guide, learned), joined(program, guide, average)
    return (learned, memory, average), step, finite, values


@partial(jax.jit, static_argnums=(0, 1, 2))
def compare(
    program: Program, guide: Guide, objective: Objective, new: Learned, old: Learned, words: Any, inputs: Any
) -> Any:
    """Differences of the objective between two fits on the same draws and rows, ``float[PAIRS]``."""
    count_compilation()

    def one(step: Any) -> Any:
        draws, rows = step_keys(words, step)
        here = at_step(inputs, step % max(1, stacked(inputs[1])), rows)

        def estimate(learned: Learned) -> Any:
            weights = weights_of(program, guide, draws, here, objective)
            params = with_model(guide, learned.guide, learned.model)
            return objective.estimate(weights(params, params, learned.model))

        return estimate(new) - estimate(old)

    return jax.lax.map(one, jnp.arange(PAIRS))
