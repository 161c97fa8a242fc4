"""The order in which a sparse precision is taken apart, and which entries its factor has."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

# Once this many levels are done, what is left is taken as one dense block if it is no larger than that.
_MANY_LEVELS, _SMALL = 12, 64


class Level(NamedTuple):
    """Nodes that do not meet, each given neighbours in later levels.

    nodes: ``int[k]``. near: their neighbours ``int[k, w]``, padded. place: where each entry stands in the flat vector
    of weights, ``int[k, w]``, padded. real: which are no padding, ``bool[k, w]``.
    """

    nodes: np.ndarray
    near: np.ndarray
    place: np.ndarray
    real: np.ndarray


class Elimination(NamedTuple):
    """Levels in the order in which they are taken away, the nodes left at the end, and the number of weights."""

    levels: tuple[Level, ...]
    rest: np.ndarray
    weights: int


@lru_cache(maxsize=64)
def elimination(edges: bytes, dim: int) -> Elimination:
    """Many nodes of small degree at a time, so that a chain of D nodes takes log2(D) levels and keeps O(D) entries.

    Taking a node away ties its neighbours to one another (fill). At each level those of nearly the smallest degree are
    candidates, and a set of them in which no two are neighbours is taken. When all that are left are tied to each other
    they are one dense block.

    Args:
        edges: ``int32[n, 2]`` as bytes; pairs of nodes that are tied, in either order.
        dim: number of nodes.

    Source: Liu (1985), Modification of the minimum-degree algorithm by multiple elimination.
    """
    near: list[set[int]] = [set() for _ in range(dim)]
    for i, j in np.frombuffer(edges, np.int32).reshape(-1, 2).tolist():
        near[i].add(j)
        near[j].add(i)
    left, levels, weights = set(range(dim)), [], 0
    while left:
        least = min(len(near[v]) for v in left)
        if least == len(left) - 1 or (len(levels) >= _MANY_LEVELS and len(left) <= _SMALL):
            break
        limit = max(least + 1, int(1.5 * least))
        blocked: set[int] = set()
        taken = []
        for v in sorted((v for v in left if len(near[v]) <= limit), key=lambda v: (len(near[v]), v)):
            if v not in blocked:
                taken.append(v)
                blocked |= near[v]
        width = max(len(near[v]) for v in taken)
        level = Level(np.array(taken), *(np.zeros((len(taken), width), t) for t in (int, int, bool)))
        for row, v in enumerate(taken):
            neighbours = sorted(near[v])
            count = len(neighbours)
            level.near[row, :count] = neighbours
            level.place[row, :count] = weights + np.arange(count)
            level.real[row, :count] = True
            weights += count
            for u in neighbours:
                near[u] |= near[v]
                near[u] -= {u, v}
        left -= set(taken)
        levels.append(level)
    return Elimination(tuple(levels), np.array(sorted(left), int), weights)


def colours(edges: bytes, dim: int) -> np.ndarray:
    """A colour per node, ``int[dim]``: two nodes of one colour have no neighbour in common and are none themselves.

    One difference of gradients per colour then gives all entries of a sparse Hessian.

    Source: Curtis, Powell, Reid (1974), On the estimation of sparse Jacobian matrices.
    """
    near: list[set[int]] = [{v} for v in range(dim)]
    for i, j in np.frombuffer(edges, np.int32).reshape(-1, 2).tolist():
        near[i].add(j)
        near[j].add(i)
    found = np.full(dim, -1)
    # Those with many neighbours first: they are the hardest to place.
    for v in sorted(range(dim), key=lambda v: -len(near[v])):
        used = {int(found[w]) for u in near[v] for w in near[u]}
        found[v] = next(c for c in range(dim + 1) if c not in used)
    return found
