"""Sums over discrete latents by eliminating them one after another, as many at once as do not touch.

Every round takes elements that share no factor. Rows of a plate go in one round; every second element of a chain goes
in the first round, every second one of what is left in the next, so a chain of T takes about log T rounds, which is a
parallel scan; trees are raked and compressed the same way.

Koller and Friedman, Probabilistic Graphical Models, chapter 9; Sarkka and Garcia-Fernandez, Temporal parallelization of
Bayesian smoothers, IEEE TAC 2021.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Cells of one table, and of all tables of a round: more is refused.
MOST_CELLS = 2**16
MOST_TABLES = 2**23
# Joint values of an element and two neighbours up to which a chain is halved; longer ones are walked along.
_HALVED = 2**12


class TooTied(Exception):
    """Eliminating an element needs a table that is too large."""

    def __init__(self, scope: list[int], cells: float):
        self.scope, self.cells = scope, cells


class Part(NamedTuple):
    """Factors that go into the tables of a group: of which block, which rows, into which tables, along which axes."""

    block: int
    rows: np.ndarray
    into: np.ndarray
    axes: tuple[int, ...]


class Group(NamedTuple):
    """Elements that are eliminated alike, ``int[B]``, their neighbours ``int[B, d]``, and the shape of their tables."""

    elements: np.ndarray
    neighbours: np.ndarray
    counts: tuple[int, ...]
    parts: list[Part]


class Round(NamedTuple):
    """One round, and the blocks after it: each made of rows of old blocks and of whole new ones."""

    groups: list[Group]
    after: list[list[tuple[str, int, np.ndarray]]]


@dataclass(frozen=True, eq=False)
class Schedule:
    """The rounds that eliminate all elements.

    Attributes:
        rounds: in order.
        size: number of elements.
        component: of each element, a number shared by all that hang together.
    """

    rounds: list[Round]
    size: int
    component: np.ndarray

    def __call__(self, tables: Sequence[Any], largest: bool = False) -> tuple[list[tuple[np.ndarray, Any]], list[Any]]:
        """Eliminate everything.

        Args:
            tables: of each block, ``[F, *counts]``, in nats.
            largest: maximise instead of summing.

        Returns:
            What is left of components, as pairs of their last elements and log sums; and the tables that were
            eliminated from, for `back`.
        """
        totals, record, tables = [], [], list(tables)
        for groups, after in self.rounds:
            made = []
            for group in groups:
                full = _gather(group, tables)
                record.append(full)
                left = jnp.max(full, axis=1) if largest else log_sum(full)
                made.append(left)
                if not group.neighbours.shape[1]:
                    totals.append((group.elements, left))
            tables = [_joined(sources, tables, made) for sources in after]
        return totals, record

    def back(self, record: Sequence[Any], pick: Callable[[Any, int], Any]) -> Any:
        """Values of all elements, the last eliminated first.

        Args:
            record: from a call.
            pick: ``(logits [B, K], number of the group) -> int[B]``.

        Returns:
            Values by element, from 0, ``int[size]``.
        """
        values = jnp.zeros(self.size, int)
        number = len(record)
        for round_ in reversed(self.rounds):
            for group in reversed(round_.groups):
                number -= 1
                table = jnp.moveaxis(record[number], 1, -1)
                known = [values[group.neighbours[:, d]] for d in range(group.neighbours.shape[1])]
                logits = table[(np.arange(len(group.elements)), *known)]
                values = values.at[group.elements].set(pick(logits, number))
        return values


def log_sum(table: Any) -> Any:
    """``log sum exp`` over axis 1, with gradient 0 where every term is ``-inf``."""
    top = jax.lax.stop_gradient(jnp.max(table, axis=1, keepdims=True))
    empty = ~jnp.isfinite(top)
    top = jnp.where(empty, 0.0, top)
    shifted = jnp.where(empty, -1.0, table - top)
    found = jnp.log(jnp.sum(jnp.exp(shifted), axis=1)) + top[:, 0]
    return jnp.where(empty[:, 0], jnp.max(table, axis=1), found)


def _gather(group: Group, tables: Sequence[Any]) -> Any:
    shape = (len(group.elements), *group.counts)
    full = None
    for block, rows, into, axes in group.parts:
        table = tables[block]
        if len(rows) != table.shape[0] or not np.array_equal(rows, np.arange(len(rows))):
            table = table[rows]
        order = np.argsort(axes)
        table = jnp.transpose(table, (0, *(1 + order)))
        wide = [1] * len(group.counts)
        for axis in axes:
            wide[axis] = group.counts[axis]
        table = table.reshape(len(rows), *wide)
        if np.array_equal(into, np.arange(shape[0])):
            full = jnp.broadcast_to(table, shape) if full is None else full + table
        else:
            full = jnp.zeros(shape, table.dtype) if full is None else full
            full = full.at[into].add(jnp.broadcast_to(table, (len(rows), *group.counts)))
    return jnp.zeros(shape) if full is None else full


def _joined(sources: list[tuple[str, int, np.ndarray]], old: Sequence[Any], new: Sequence[Any]) -> Any:
    parts = [new[place] if kind == "new" else old[place][rows] for kind, place, rows in sources]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def schedule(blocks: Sequence[tuple[np.ndarray, tuple[int, ...]]], counts: np.ndarray) -> Schedule:
    """Plan the elimination of all elements.

    Args:
        blocks: scopes ``int[F, d]`` of factors and their tables' shapes.
        counts: number of values of each element.

    Raises:
        TooTied: if a table would be too large.
    """
    size = len(counts)
    near: dict[int, set[int]] = defaultdict(set)
    for scopes, _ in blocks:
        for row in scopes.tolist() if scopes.shape[1] > 1 else ():
            for v in row:
                near[v].update(row)
    for v, others in near.items():
        others.discard(v)
    component = _components(near, size)
    left = np.ones(size, bool)
    present = [(np.asarray(scopes), shape) for scopes, shape in blocks]
    rounds = []
    while left.any():
        chosen = _choose(near, left, counts)
        groups, home, spot = _groups(chosen, near, left, counts)
        taken = np.zeros(size, bool)
        for group in groups:
            taken[group.elements] = True
        kept: list[tuple[np.ndarray, tuple[int, ...], tuple[str, int, np.ndarray]]] = []
        for place, (scopes, shape) in enumerate(present):
            hit = taken[scopes]
            touched = np.any(hit, axis=1)
            rows = np.flatnonzero(~touched)
            if len(rows):
                kept.append((scopes[rows], shape, ("old", place, rows)))
            _assign(place, scopes, hit, touched, groups, home, spot)
        for place, group in enumerate(groups):
            if group.neighbours.shape[1]:
                kept.append((group.neighbours, group.counts[1:], ("new", place, np.arange(0))))
        by_shape: dict[tuple[int, ...], list[tuple[np.ndarray, tuple[str, int, np.ndarray]]]] = defaultdict(list)
        for scopes, shape, source in kept:
            by_shape[shape].append((scopes, source))
        present = [(np.concatenate([s for s, _ in parts]), shape) for shape, parts in by_shape.items()]
        rounds.append(Round(groups, [[source for _, source in parts] for parts in by_shape.values()]))
        for v in chosen:
            others = near.pop(v, set())
            for other in others:
                near[other].discard(v)
                near[other].update(others - {other})
        left &= ~taken
    return Schedule(rounds, size, component)


def _components(near: dict[int, set[int]], size: int) -> np.ndarray:
    component = np.arange(size)
    seen: set[int] = set()
    for start in near:
        if start in seen:
            continue
        pending = [start]
        seen.add(start)
        while pending:
            v = pending.pop()
            component[v] = start
            fresh = near[v] - seen
            seen |= fresh
            pending.extend(fresh)
    return component


def _choose(near: dict[int, set[int]], left: np.ndarray, counts: np.ndarray) -> list[int]:
    """Tied elements to eliminate now, none beside another; those that are tied to nothing go with them."""
    cost = {v: float(counts[v]) * float(np.prod(counts[list(others)])) for v, others in near.items()}
    if not cost:
        return []
    light = [v for v, others in near.items() if len(others) < 2 or (len(others) == 2 and cost[v] <= _HALVED)]
    if not light:
        least = min(cost.values())
        if least > MOST_CELLS:
            worst = min(cost, key=lambda v: cost[v])
            raise TooTied([worst, *near[worst]], least)
        light = [v for v in near if cost[v] == least]
    chosen, blocked = [], set()
    for v in sorted(light):
        if v not in blocked:
            chosen.append(v)
            blocked |= near[v]
    return chosen


def _groups(
    chosen: list[int], near: dict[int, set[int]], left: np.ndarray, counts: np.ndarray
) -> tuple[list[Group], np.ndarray, np.ndarray]:
    tied = np.zeros(len(left), bool)
    tied[list(near)] = True
    alone = np.flatnonzero(left & ~tied)
    groups = [
        Group(members, np.zeros((len(members), 0), int), (int(n),), [])
        for n in np.unique(counts[alone])
        if len(members := alone[counts[alone] == n])
    ]
    alike: dict[tuple[int, ...], list[tuple[int, list[int]]]] = defaultdict(list)
    for v in chosen:
        others = sorted(near[v])
        alike[(int(counts[v]), *counts[others].tolist())].append((v, others))
    for shape, members in alike.items():
        elements = np.array([v for v, _ in members], int)
        neighbours = np.array([o for _, o in members], int).reshape(len(members), -1)
        if len(members) * float(np.prod(shape)) > MOST_TABLES:
            raise TooTied([members[0][0], *members[0][1]], len(members) * float(np.prod(shape)))
        groups.append(Group(elements, neighbours, shape, []))
    home, spot = np.full(len(left), -1), np.full(len(left), -1)
    for number, group in enumerate(groups):
        home[group.elements], spot[group.elements] = number, np.arange(len(group.elements))
    return groups, home, spot


def _assign(
    place: int,
    scopes: np.ndarray,
    hit: np.ndarray,
    touched: np.ndarray,
    groups: list[Group],
    home: np.ndarray,
    spot: np.ndarray,
) -> None:
    """Give the touched factors of a block to the groups whose elements they hold."""
    rows = np.flatnonzero(touched)
    if not len(rows):
        return
    element = scopes[rows, hit[rows].argmax(axis=1)]
    for number in np.unique(home[element]):
        mine = home[element] == number
        those, owner = rows[mine], element[mine]
        into = spot[owner]
        neighbours = groups[number].neighbours[into]
        axes = np.zeros((len(those), scopes.shape[1]), int)
        for d in range(scopes.shape[1]):
            same = neighbours == scopes[those, d][:, None]
            axes[:, d] = np.where(scopes[those, d] == owner, 0, 1 + same.argmax(axis=1) if same.shape[1] else 0)
        kinds, kind = np.unique(axes, axis=0, return_inverse=True)
        kind = kind.reshape(-1)
        for k, row in enumerate(kinds.tolist()):
            groups[number].parts.append(Part(place, those[kind == k], into[kind == k], tuple(row)))
