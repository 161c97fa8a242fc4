"""The factors that tie discrete latents together, and how few evaluations of the model show all of them.

A factor is the sum of all terms of the log density that depend on the same elements of discrete latents. Elements that
share a factor get different colours; one evaluation per joint value of the colours of a factor then fills in every
factor with these colours at once, in all rows and at all times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from taut.problem._labels import Labels


class Term(NamedTuple):
    """An array of terms of the log density.

    Attributes:
        site: the statement that it belongs to.
        labels: which discrete elements each of its entries depends on.
        shape: its shape.
    """

    site: str
    labels: Labels
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many entries it has."""
        return int(np.prod(self.shape, dtype=int))


class TooWide(Exception):
    """A factor has more joint values than may be evaluated."""

    def __init__(self, site: str, scope: np.ndarray, count: float):
        self.site, self.scope, self.count = site, scope, count


@dataclass(frozen=True, eq=False)
class Block:
    """Factors of one shape.

    Attributes:
        scopes: the elements of each, ascending, ``int[F, d]``.
        counts: how many values each of the ``d`` elements can take.
        index: where in the evaluation each cell of each table is found, ``int[F, prod(counts)]``.
        parts: by term: which entries go into which factor.
    """

    scopes: np.ndarray
    counts: tuple[int, ...]
    index: np.ndarray
    parts: list[tuple[int, np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Evaluations of the model at joint values of some colours.

    Attributes:
        colours: which.
        digits: their values, ``int[A, len(colours)]``, the last the fastest.
        blocks: the factors that are filled in.
    """

    colours: tuple[int, ...]
    digits: np.ndarray
    blocks: list[Block]


@dataclass(frozen=True, eq=False)
class Factors:
    """All factors of a program.

    Attributes:
        colour: of each element.
        evaluations: what is to be evaluated.
        constants: by term, entries that depend on no element.
    """

    colour: np.ndarray
    evaluations: list[Evaluation]
    constants: list[tuple[int, np.ndarray]]

    @property
    def count(self) -> int:
        """How often the model is evaluated for one log density."""
        return sum(len(e.digits) for e in self.evaluations)


def find_factors(terms: Sequence[Term], counts: np.ndarray, most: int) -> Factors:
    """Group the terms of a log density by what they depend on.

    Args:
        terms: arrays of terms.
        counts: number of values of each element.
        most: the most joint values of one factor.

    Raises:
        TooWide: if a factor has more.
    """
    scopes: dict[int, list[np.ndarray]] = defaultdict(list)
    owners: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    constants = []
    for place, term in enumerate(terms):
        for width, elements, rows in _by_width(term):
            if width == 0:
                constants.append((place, elements))
                continue
            joint = np.prod(counts[rows].astype(float), axis=1)
            if joint.max() > most:
                raise TooWide(term.site, rows[joint.argmax()], float(joint.max()))
            scopes[width].append(rows)
            owners[width].append((place, elements))
    found = []
    for width, parts in scopes.items():
        unique, inverse = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
        inverse, start, entries = inverse.reshape(-1), 0, []
        for (place, elements), rows in zip(owners[width], parts):
            entries.append((place, elements, inverse[start : start + len(rows)]))
            start += len(rows)
        found.append((unique, entries))
    colour = _colours([unique for unique, _ in found], len(counts))
    return Factors(colour, _evaluations(found, colour, counts), constants)


def _by_width(term: Term) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """The entries of a term by how many elements they depend on, with these."""
    if isinstance(term.labels, frozenset):
        row = np.array(sorted(term.labels), int)
        return [(len(row), np.arange(term.size), np.tile(row, (term.size, 1)))]
    labels = term.labels
    labels.sort_indices()
    widths = np.diff(labels.indptr)
    groups = []
    for width in np.unique(widths):
        elements = np.flatnonzero(widths == width)
        places = labels.indptr[elements][:, None] + np.arange(width)
        groups.append((int(width), elements, labels.indices[places].astype(int)))
    return groups


def _colours(scopes: Sequence[np.ndarray], size: int) -> np.ndarray:
    """A colour per element, such that no two elements of one factor share one."""
    rivals: dict[int, set[int]] = defaultdict(set)
    for rows in scopes:
        for i, j in combinations(range(rows.shape[1]), 2):
            for a, b in zip(rows[:, i].tolist(), rows[:, j].tolist()):
                rivals[a].add(b)
                rivals[b].add(a)
    colour = np.zeros(size, int)
    done: dict[int, int] = {}
    for element in sorted(rivals):
        taken = {done[other] for other in rivals[element] if other in done}
        done[element] = colour[element] = next(c for c in range(len(taken) + 1) if c not in taken)
    return colour


def _evaluations(
    found: list[tuple[np.ndarray, list[tuple[int, np.ndarray, np.ndarray]]]], colour: np.ndarray, counts: np.ndarray
) -> list[Evaluation]:
    # Factors of one shape: the same colours, and as many values, at every place of the scope.
    shapes: list[tuple[np.ndarray, list[tuple[int, np.ndarray, np.ndarray]], tuple[int, ...], tuple[int, ...]]] = []
    for scopes, entries in found:
        keys = np.concatenate([counts[scopes], colour[scopes]], axis=1)
        kinds, kind = np.unique(keys, axis=0, return_inverse=True)
        kind = kind.reshape(-1)
        width = scopes.shape[1]
        for number, key in enumerate(kinds.tolist()):
            mine = np.flatnonzero(kind == number)
            renumbered = np.full(len(scopes), -1)
            renumbered[mine] = np.arange(len(mine))
            parts = [(t, e[renumbered[f] >= 0], renumbered[f][renumbered[f] >= 0]) for t, e, f in entries]
            parts = [p for p in parts if len(p[1])]
            shapes.append((scopes[mine], parts, tuple(key[:width]), tuple(key[width:])))
    wanted: dict[tuple[int, ...], dict[int, int]] = {}
    order = sorted(range(len(shapes)), key=lambda i: (-len(shapes[i][3]), -int(np.prod(shapes[i][2]))))
    home: dict[int, tuple[int, ...]] = {}
    for i in order:
        _, _, sizes, colours = shapes[i]
        need = dict(zip(colours, sizes))
        fits = (k for k, have in wanted.items() if all(have.get(c, 0) >= n for c, n in need.items()))
        key = next(fits, None)
        if key is None:
            key = tuple(sorted(colours))
            have = wanted.setdefault(key, {})
            for c, n in need.items():
                have[c] = max(have.get(c, 0), n)
        home[i] = key
    evaluations = []
    for key, have in wanted.items():
        sizes = [have[c] for c in key]
        digits = np.indices(sizes).reshape(len(sizes), -1).T
        strides = dict(zip(key, np.cumprod([1, *sizes[::-1]])[-2::-1].tolist()))
        blocks = []
        for i in (i for i in range(len(shapes)) if home[i] == key):
            scopes, parts, counted, colours = shapes[i]
            cells = np.indices(counted).reshape(len(counted), -1)
            index = sum(strides[c] * cells[d] for d, c in enumerate(colours))
            blocks.append(Block(scopes, counted, np.asarray(index), parts))
        evaluations.append(Evaluation(key, digits, blocks))
    return evaluations
