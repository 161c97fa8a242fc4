r"""Components that may change places: whether the draws hold all of their orders.

Where the density stays the same when two components of a mixture swap all that belongs to them, each order of the
components has one share of the posterior, exactly. Weights of draws cannot show the orders that no draw has: their
densities are those of the orders that are there. Their shares can.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from taut.diagnostics import Orders
from taut.problem import DISCRETE, Problem, maxima

_MOST_VALUES = 20  # components of one mixture
_MOST_WAYS = 128  # ways to swap that are tried: one block of the kernel
_ORDERED = 5  # components whose orders are counted
_SHARES = ("unit_interval", "interval(0, 1)")  # of a mixture of two
_RELATIVE = {"float64": 1e-9, "float32": 2e-5}


class _Place(NamedTuple):
    """Where components stand: in axes of one latent, in several latents alike, or in a share w and 1 - w."""

    names: tuple[str, ...]
    axes: tuple[int, ...] = ()

    def of(self, values: Mapping[str, np.ndarray], batch: int = 0) -> np.ndarray:
        """All components, ``(*batch, K, ...)`` or, in two axes, ``(*batch, K, K, ...)``."""
        first = np.asarray(values[self.names[0]], float)
        if len(self.names) > 1:
            return np.stack([np.asarray(values[name], float) for name in self.names], axis=batch)
        if not self.axes:
            return np.stack([1.0 - first, first], axis=batch)
        return np.moveaxis(first, [batch + a for a in self.axes], [batch + i for i in range(len(self.axes))])

    def swapped(self, values: Mapping[str, np.ndarray], i: int, j: int) -> dict[str, np.ndarray]:
        """The latents with two components in each other's place."""
        if len(self.names) > 1:
            return {self.names[i]: values[self.names[j]], self.names[j]: values[self.names[i]]}
        name = next(iter(self.names))
        value = np.asarray(values[name])
        if not self.axes:
            return {name: 1.0 - value}
        for axis in self.axes:
            index = np.arange(value.shape[axis])
            index[[i, j]] = index[[j, i]]
            value = np.take(value, index, axis)
        return {name: value}


class _Swap(NamedTuple):
    """Two components change places, wherever they stand."""

    pair: tuple[int, int]
    places: tuple[_Place, ...]


def orders(problem: Problem, values: Mapping[str, np.ndarray], params: np.ndarray) -> Orders | None:
    """How draws are spread over the orders of components that may change places.

    Args:
        problem: the problem.
        values: draws of the continuous latents by name, ``(n, *shape)``.
        params: unconstrained values of the model's parameters.

    Returns:
        The worst of all mixtures; ``None`` where no components may change places.
    """
    if any(latent.transform == DISCRETE for latent in problem.latents.values()):
        return None
    found = []
    counts = {problem.assignments.count(name) for name in problem.summed} | maxima(problem.program.closed.jaxpr)
    for count in sorted(n for n in counts if 2 <= n <= _MOST_VALUES):
        swaps = list(itertools.islice(_swaps(problem, count), _MOST_WAYS - 1))
        by_place: dict[tuple[_Place, ...], list[tuple[int, int]]] = {}
        for swap in _kept(problem, values, params, swaps):
            by_place.setdefault(swap.places, []).append(swap.pair)
        for places, pairs in by_place.items():
            for group in _groups(pairs, count):
                found += [_spread(place, values, group) for place in places]
    return max(found, key=lambda o: o.off, default=None)


def _swaps(problem: Problem, count: int) -> Iterator[_Swap]:
    """All pairs of components, in any of the places that have as many."""
    ways: list[list[_Place]] = []
    alike: dict[tuple[Any, ...], list[str]] = {}
    for name, latent in problem.latents.items():
        long = [a for a, n in enumerate(latent.shape) if n == count]
        # Usual ones first: all axes of a latent that has them.
        ways.append(
            [_Place((name,), s) for size in range(len(long), 0, -1) for s in itertools.combinations(long, size)]
        )
        alike.setdefault((latent.family, latent.support, latent.shape), []).append(name)
        if count == 2 and latent.support in _SHARES:
            ways.append([_Place((name,))])
    ways += [[_Place(tuple(names))] for names in alike.values() if len(names) == count]
    pairs = list(itertools.combinations(range(count), 2)) if count <= 6 else [(i, i + 1) for i in range(count - 1)]
    for chosen in itertools.product(*([*way, None] for way in ways if way)):
        places = tuple(place for place in chosen if place is not None)
        for pair in pairs if places else ():
            yield _Swap(pair, places)


def _kept(problem: Problem, values: Mapping[str, np.ndarray], params: np.ndarray, swaps: list[_Swap]) -> list[_Swap]:
    """Those under which the density stays the same, at two draws."""
    size = min(len(values[name]) for name in problem.latents)
    for draw in (0, size - 1):
        if not swaps:
            break
        here = {name: np.asarray(values[name][draw]) for name in problem.latents}
        rows = [here]
        for swap in swaps:
            moved = dict(here)
            for place in swap.places:
                moved |= place.swapped(moved, *swap.pair)
            rows.append(moved)
        density, _ = problem.kernel().at_values({n: np.stack([row[n] for row in rows]) for n in here}, params)
        near = _RELATIVE[problem.precision] * max(1.0, abs(density[0]))
        swaps = [swap for swap, d in zip(swaps, density[1:], strict=True) if abs(d - density[0]) <= near]
    return swaps


def _groups(pairs: list[tuple[int, int]], count: int) -> list[list[int]]:
    """Components that may change places with one another."""
    home = list(range(count))
    for i, j in pairs:
        home = [home[i] if h == home[j] else h for h in home]
    groups = [[i for i in range(count) if home[i] == h] for h in dict.fromkeys(home)]
    return [g for g in groups if len(g) > 1]


def _spread(place: _Place, values: Mapping[str, np.ndarray], group: list[int]) -> Orders:
    """Half the sum of differences between the share of each order and one over their number."""
    components = place.of(values, batch=1)
    members = np.array(group[:_ORDERED])
    own = components[(slice(None), *(members,) * max(1, len(place.axes)))]
    own = own.reshape(len(components), len(members), -1)
    # One number for each component; a sum would be the same for all rows of a simplex.
    score = own @ np.cos(1.0 + np.arange(own.shape[2]))
    ranks = np.argsort(score, axis=1) @ (len(members) ** np.arange(len(members)))
    _, seen = np.unique(ranks, return_counts=True)
    number = math.factorial(len(members))
    shares = seen / len(components)
    off = 0.5 * (np.abs(shares - 1.0 / number).sum() + (number - len(seen)) / number)
    return Orders(", ".join(place.names), tuple(group), number, int((shares > 0.1 / number).sum()), float(off))
