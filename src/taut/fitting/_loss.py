"""The loss along a run, on one scale for every batch size: nats per observation of the whole data."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from taut.problem import Problem


class Loss(NamedTuple):
    r"""$-\mathcal L / N$ along a run.

    Every entry averages the steps since the one before, so that the curve is smooth and its noise is known: the band
    ``value - 2 se`` to ``value + 2 se`` holds the objective's mean over those steps. Batches stand for the whole data,
    so that curves of different batch sizes lie on one another.

    Attributes:
        gradients: gradient evaluations so far, ``float64[T]``.
        value: the loss, nats per observation.
        se: its standard error, ``float64[T]``; infinite or NaN where one number was seen.
        observations: $N$: the rows of the batches' plate; without batches, how many numbers are observed, where all
            that a row of a plate observes counts as one.
    """

    gradients: np.ndarray
    value: np.ndarray
    se: np.ndarray
    observations: int


def loss_of(history: np.ndarray, count: int) -> Loss:
    """The curve from a fit's history.

    Args:
        history: ``float64[T, 3]``: gradients, objective in nats, its standard error.
        count: number of observations.

    Example:
        >>> loss_of(np.array([[100.0, -250.0, 5.0]]), 50).value
        array([5.])
    """
    n = max(count, 1)
    return Loss(history[:, 0], -history[:, 1] / n, history[:, 2] / n, n)


def observations(problem: Problem) -> int:
    """How many observations there are; see `Loss`."""
    if problem.batches is not None:
        return problem.batches.rows
    sites = [s for s in problem.program.sites.values() if s.kind == "sample" and s.observed]
    return sum(math.prod([p.size for p in s.plates] or problem.program.shapes[s.name]) for s in sites)
