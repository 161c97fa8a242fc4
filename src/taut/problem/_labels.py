"""Labels of the elements of an array: which elements of discrete latents each depends on.

An array carries either one set of labels that all of its elements share, or a sparse boolean matrix, a row per element
and a column per label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from jax.extend import core as jex

Labels = frozenset[int] | sp.csr_matrix

NONE: frozenset[int] = frozenset()
# Entries beyond which one set for the whole array is kept.
MOST = 20_000_000


class Labelling:
    """How labels are moved, joined and united; ``columns`` is the number of labels."""

    def __init__(self, columns: int):
        self.columns = columns

    def joined(self, eqn: Any, sources: list[Labels], ids: list[np.ndarray]) -> Labels:
        """Arrays laid side by side."""
        sizes = [i.size for i in ids]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        places = [i + start for i, start in zip(ids, starts)]
        name, params = eqn.primitive.name, eqn.params
        if name == "pad":
            config = params["padding_config"]
            shape = eqn.outvars[0].aval.shape
            if any(int(low) < 0 or int(high) < 0 for low, high, _ in config):
                return frozenset().union(*map(whole, sources))
            where = np.full(shape, places[1])
            spots = tuple(
                slice(int(low), int(low) + (n - 1) * (int(inner) + 1) + 1 if n else int(low), int(inner) + 1)
                for (low, _, inner), n in zip(config, ids[0].shape)
            )
            where[spots] = places[0]
        elif name == "stack":
            where = np.stack(places, params["axis"])
        else:
            where = np.concatenate(places, params["dimension"])
        return take(self.stacked(sources, sizes), where.ravel())

    def product(self, eqn: Any, sources: list[Labels], ids: list[np.ndarray]) -> Labels:
        """A product of matrices: each entry depends on a row of one and a column of the other."""
        (contracted, batches) = eqn.params["dimension_numbers"]
        parts, free, batch = [], [], ()
        for labels, where, sums, shared in zip(sources, ids, contracted, batches):
            rest = [d for d in range(where.ndim) if d not in sums and d not in shared]
            order = [*shared, *rest, *sums]
            moved = where.transpose(order)
            batch = moved.shape[: len(shared)]
            free.append(moved.shape[len(shared) : len(shared) + len(rest)])
            axes = tuple(range(len(shared) + len(rest), moved.ndim))
            parts.append(self.along(take(labels, moved.ravel()), numbered(moved.shape), axes, keep=False))
        left = numbered((*batch, *free[0])).reshape(*batch, *free[0], *(1,) * len(free[1]))
        right = numbered((*batch, *free[1])).reshape(*batch, *(1,) * len(free[0]), *free[1])
        shape = (*batch, *free[0], *free[1])
        wide = [take(p, np.broadcast_to(i, shape).ravel()) for p, i in zip(parts, (left, right))]
        return self.either(wide, int(np.prod(shape)))

    def along(self, labels: Labels, ids: np.ndarray, axes: tuple[int, ...], *, keep: bool) -> Labels:
        """The union over some axes; the shape stays as it is with ``keep``."""
        if isinstance(labels, frozenset):
            return labels
        rest = [n for a, n in enumerate(ids.shape) if a not in axes]
        shape = [1 if a in axes else n for a, n in enumerate(ids.shape)]
        group = np.broadcast_to(numbered(rest).reshape(shape), ids.shape).ravel()
        n = int(np.prod(rest))
        summing = sp.csr_matrix((np.ones(len(group), np.int32), (group, np.arange(len(group)))), (n, len(group)))
        united = _flag(summing @ labels)
        return take(united, group) if keep else united

    def stacked(self, sources: Sequence[Labels], sizes: Sequence[int]) -> sp.csr_matrix:
        """Rows of several arrays under one another."""
        return sp.csr_matrix(sp.vstack([self.rows(s, n) for s, n in zip(sources, sizes)]))

    def rows(self, labels: Labels, size: int) -> sp.csr_matrix:
        """One row per element."""
        return matrix_of([labels] * size, self.columns) if isinstance(labels, frozenset) else labels

    def either(self, parts: Sequence[Labels], size: int) -> Labels:
        """The union of several arrays' labels, element by element."""
        shared = frozenset().union(*(p for p in parts if isinstance(p, frozenset)))
        apart = [p for p in parts if not isinstance(p, frozenset)]
        if not apart:
            return shared
        if len(shared) * size > MOST:
            return frozenset().union(*map(whole, parts))
        if shared:
            apart.append(self.rows(shared, size))
        total = apart[0]
        for p in apart[1:]:
            total = total + p
        return _flag(total) if len(apart) > 1 else total

    def kept(self, labels: Labels) -> Labels:
        """The labels, as one set where the matrix would be too large."""
        return frozenset(whole(labels)) if not isinstance(labels, frozenset) and labels.nnz > MOST else labels


def whole(labels: Labels) -> frozenset[int]:
    """All labels of an array."""
    return labels if isinstance(labels, frozenset) else frozenset(np.unique(labels.indices).tolist())


def take(labels: Labels, where: np.ndarray) -> Labels:
    """The labels of elements that are moved: ``where`` says which each is."""
    return labels if isinstance(labels, frozenset) else labels[where]


def is_empty(labels: Labels) -> bool:
    return not labels if isinstance(labels, frozenset) else labels.nnz == 0


def ids_of(v: Any) -> np.ndarray:
    return numbered(np.shape(v.val) if isinstance(v, jex.Literal) else v.aval.shape)


def numbered(shape: Sequence[int]) -> np.ndarray:
    return np.arange(int(np.prod(shape, dtype=int))).reshape(tuple(shape))


def _flag(matrix: Any) -> sp.csr_matrix:
    matrix = sp.csr_matrix(matrix)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def identity(size: int, start: int, columns: int) -> sp.csr_matrix:
    rows = np.arange(size)
    return sp.csr_matrix((np.ones(size, np.int32), (rows, rows + start)), (size, columns))


def rows_of(labels: Labels, size: int) -> list[frozenset[int]]:
    if isinstance(labels, frozenset):
        return [labels] * size
    return [frozenset(labels.indices[a:b].tolist()) for a, b in zip(labels.indptr, labels.indptr[1:])]


def matrix_of(rows: Sequence[frozenset[int]], columns: int) -> sp.csr_matrix:
    counts = [len(r) for r in rows]
    indices = np.array([label for r in rows for label in sorted(r)], int)
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(int)
    return sp.csr_matrix((np.ones(len(indices), np.int32), indices, pointers), (len(rows), columns))


def union_of(parts: Any) -> frozenset[int]:
    parts = list(parts)
    return parts[0] if len(parts) == 1 else frozenset().union(*parts)
