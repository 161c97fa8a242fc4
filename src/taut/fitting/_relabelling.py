r"""Components that may change places: whether the draws hold all of their orders.

Where the density stays the same when two components of a mixture swap all that belongs to them, each order of the
components has one share of the posterior, exactly. Weights of draws cannot show the orders that no draw has: their
densities are those of the orders that are there. Their shares can.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from taut.diagnostics import Orders
from taut.problem import DISCRETE, Problem

_MOST_VALUES = 20  # components of one mixture
_MOST_WAYS = 128  # ways to swap that are tried: one block of the kernel
_ORDERED = 5  # components whose orders are counted
_RELATIVE = {"float64": 1e-9, "float32": 2e-5}


class _Swap(NamedTuple):
    """Two components change places, in these axes of these latents."""

    pair: tuple[int, int]
    axes: tuple[tuple[str, tuple[int, ...]], ...]


def orders(problem: Problem, values: Mapping[str, np.ndarray], params: np.ndarray) -> Orders | None:
    """How draws are spread over the orders of components that may change places.

    Args:
        problem: the problem.
        values: draws of the continuous latents by name, ``(n, *shape)``.
        params: unconstrained values of the model's parameters.

    Returns:
        The worst of all mixtures; ``None`` where no components may change places.
    """
    found = []
    counts = {int(n) for name in problem.summed for n in (problem.assignments.count(name),) if 2 <= n <= _MOST_VALUES}
    if any(latent.transform == DISCRETE for latent in problem.latents.values()):
        return None
    for count in sorted(counts):
        swaps = list(itertools.islice(_swaps(problem, count), _MOST_WAYS - 1))
        by_axes: dict[tuple[tuple[str, tuple[int, ...]], ...], list[tuple[int, int]]] = {}
        for swap in _kept(problem, values, params, swaps):
            by_axes.setdefault(swap.axes, []).append(swap.pair)
        for axes, pairs in by_axes.items():
            for group in _groups(pairs, count):
                found += [_spread(name, values[name], where, group) for name, where in axes]
    return max(found, key=lambda o: o.off, default=None)


def _swaps(problem: Problem, count: int) -> Iterator[_Swap]:
    """All pairs of components, in any of the axes that are as long as there are components."""
    ways = []
    for name, latent in problem.latents.items():
        long = [a for a, n in enumerate(latent.shape) if n == count]
        # Usual ones first: all axes of a latent that has them.
        subsets = [s for size in range(len(long), 0, -1) for s in itertools.combinations(long, size)]
        if subsets:
            ways.append([(name, s) for s in subsets] + [None])
    pairs = list(itertools.combinations(range(count), 2)) if count <= 6 else [(i, i + 1) for i in range(count - 1)]
    for chosen in itertools.product(*ways):
        axes = tuple(c for c in chosen if c is not None)
        for pair in pairs if axes else ():
            yield _Swap(pair, axes)


def _kept(problem: Problem, values: Mapping[str, np.ndarray], params: np.ndarray, swaps: list[_Swap]) -> list[_Swap]:
    """Those under which the density stays the same, at two draws."""
    size = min(len(values[name]) for name in problem.latents)
    for draw in (0, size - 1):
        if not swaps:
            break
        points = {}
        for name in problem.latents:
            here = np.asarray(values[name][draw])
            points[name] = np.stack([here] + [_swapped(here, name, swap) for swap in swaps])
        density, _ = problem.kernel().at_values(points, params)
        near = _RELATIVE[problem.precision] * max(1.0, abs(density[0]))
        swaps = [swap for swap, d in zip(swaps, density[1:], strict=True) if abs(d - density[0]) <= near]
    return swaps


def _swapped(value: np.ndarray, name: str, swap: _Swap) -> np.ndarray:
    for axis in dict(swap.axes).get(name, ()):
        index = np.arange(value.shape[axis])
        index[list(swap.pair)] = index[list(swap.pair[::-1])]
        value = np.take(value, index, axis)
    return value


def _groups(pairs: list[tuple[int, int]], count: int) -> list[list[int]]:
    """Components that may change places with one another."""
    home = list(range(count))
    for i, j in pairs:
        home = [home[i] if h == home[j] else h for h in home]
    groups = [[i for i in range(count) if home[i] == h] for h in dict.fromkeys(home)]
    return [g for g in groups if len(g) > 1]


def _spread(name: str, draws: np.ndarray, axes: tuple[int, ...], group: list[int]) -> Orders:
    """Half the sum of differences between the share of each order and one over their number."""
    moved = np.moveaxis(np.asarray(draws, float), [1 + a for a in axes], list(range(1, 1 + len(axes))))
    members = np.array(group[:_ORDERED])
    own = moved[(slice(None), *(members,) * len(axes))].reshape(len(draws), len(members), -1)
    # One number for each component; a sum would be the same for all rows of a simplex.
    score = own @ np.cos(1.0 + np.arange(own.shape[2]))
    ranks = np.argsort(score, axis=1) @ (len(members) ** np.arange(len(members)))
    _, seen = np.unique(ranks, return_counts=True)
    number = math.factorial(len(members))
    shares = seen / len(draws)
    off = 0.5 * (np.abs(shares - 1.0 / number).sum() + (number - len(seen)) / number)
    return Orders(name, tuple(group), number, int((shares > 0.1 / number).sum()), float(off))
