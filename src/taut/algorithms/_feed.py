"""Batches on their way into the compiled loop: stacked on the host a chunk at a time, picked one by one inside."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from taut.problem import Problem, check_later, leaves_of

# Bytes of batches that are stacked at a time: more would only wait in memory.
_MOST_BYTES = 2**25


class Feed(NamedTuple):
    """What the next steps read.

    Attributes:
        problem: the pattern of these steps: that of a whole batch, or of the last and smaller one of an epoch.
        steps: how many there are.
        leaves: by place among the problem's inputs, their values stacked, ``(length, ...)``; none without batches.
        length: of the stack, always the same for one pattern, so that a loop compiles once.
    """

    problem: Problem
    steps: int
    leaves: dict[int, Any]
    length: int


class Gathered(NamedTuple):
    """Rows of a table that lies on the device.

    Attributes:
        table: all rows.
        rows: which of them make each batch, ``int[length, B]``.
    """

    table: Any
    rows: Any


def feed(problem: Problem, words: Any, step: int, limit: int, chunk: int, resident: bool = False) -> Feed:
    """The steps from one on that can be taken in one call.

    Args:
        problem: the problem that the run began with.
        words: of the run's key, which determines the order of every epoch.
        step: steps done.
        limit: where to stop at the latest.
        chunk: most steps per call.
        resident: give `Gathered` rows of data that may lie on the device, where the loop gathers them itself.

    Raises:
        TautError: as preflight, for rows that are no data of the model, when they are first visited.
    """
    batches = problem.batches
    if batches is None:
        return Feed(problem, limit - step, {}, chunk)
    place = step % len(batches)
    if not batches.even and place == len(batches) - 1:
        here, length = problem.remainder, 1
    else:
        most = chunk if resident and batches.resident else min(chunk, _fitting(problem))
        here, length = problem, min(most, chunk if batches.even else max(1, len(batches) - 1))
    count = min(batches.run(step, limit - step), length)
    if resident and batches.resident:
        return Feed(here, count, _gathered(problem, here, key_of_words(words), step, count, length), length)
    taken = batches.take(key_of_words(words), step, count)
    leaves = leaves_of(here.arrays, taken.columns, taken.rows)
    if step < len(batches):  # the first epoch visits every row
        check_later(here, leaves)
    return Feed(here, count, {place: _padded(value, length) for place, value in leaves.items()}, length)


def _gathered(problem: Problem, here: Problem, key: int, step: int, count: int, length: int) -> dict[int, Any]:
    """What the steps read of tables on the device."""
    batches = problem.batches
    assert batches is not None and batches.source.whole is not None
    rows = batches.numbers(key, step, count)
    if step < len(batches):  # as for rows that come in stacks, no more of them at a time
        for begin in range(0, count, size := _fitting(problem)):
            part = rows[begin : begin + size]
            columns = {name: value[part] for name, value in batches.source.whole.items()}
            check_later(here, leaves_of(here.arrays, columns, part))
    return _tables(problem, here, _padded(rows, length))


def _tables(problem: Problem, here: Problem, rows: np.ndarray) -> dict[int, Any]:
    leaves = leaves_of(here.arrays, {}, rows)
    (stack,) = leaves.values()
    return leaves | {place: Gathered(table, stack) for place, table in problem.tables.items()}


def sample_of_batches(problem: Problem, words: Any, most: int) -> dict[int, Any]:
    """Some whole batches in an order of their own, as in a `Feed`; none without batches."""
    batches = problem.batches
    if batches is None:
        return {}
    key = key_of_words(words)
    if batches.resident:
        return _tables(problem, problem, batches.numbers(key, 0, batches.run(0, most)))
    taken = batches.take(key, 0, batches.run(0, min(most, _fitting(problem))))
    return leaves_of(problem.arrays, taken.columns, taken.rows)


def stacked(leaves: dict[int, Any]) -> int:
    """How many batches there are; 0 without any."""
    return next((len(leaf) for leaf in leaves.values() if not isinstance(leaf, Gathered)), 0)


def at_step(fed: Any, index: Any, words: Any) -> Any:
    """Inputs at one batch of a stack, and at the rows that ``words`` choose; traceable.

    Args:
        fed: a problem's inputs, and the leaves of a `Feed`.
        index: which batch.
        words: of the key of subsampled plates.
    """
    (known, consts), leaves = fed
    known = [*known[:-1], words]
    for place, stack in leaves.items():
        if isinstance(stack, Gathered):
            known[place] = jnp.take(stack.table, jnp.asarray(stack.rows)[index], axis=0, mode="clip")
        else:
            known[place] = jnp.asarray(stack)[index]
    return known, consts


def key_of_words(words: Any) -> int:
    """A host key from the words of a JAX key."""
    high, low = (int(word) for word in np.asarray(words).ravel())
    return high << 32 | low


def _fitting(problem: Problem) -> int:
    assert problem.batches is not None
    bytes_each = sum(np.asarray(value).nbytes for value in problem.batches.first().columns.values())
    return max(1, _MOST_BYTES // max(1, bytes_each))


def _padded(value: np.ndarray, length: int) -> np.ndarray:
    if len(value) == length:
        return value
    whole = np.zeros((length, *value.shape[1:]), value.dtype)
    whole[: len(value)] = value
    return whole
