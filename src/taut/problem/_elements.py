"""Which elements of an array depend on which elements of the discrete latents: exact where equations keep them apart.

What no rule knows is taken to depend on everything that goes into it: never too little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.extend import core as jex

from taut.problem._holes import hole_names
from taut.problem._labels import (
    MOST,
    NONE,
    Labelling,
    Labels,
    identity,
    ids_of,
    is_empty,
    matrix_of,
    numbered,
    rows_of,
    take,
    union_of,
    whole,
)
from taut.problem._reach import _CALLS, _ELEMENTWISE, _MOVES, _body

# Primitives on stacks of matrices, in their last two axes.
_MATRICES = ("cholesky", "lu", "eigh", "triangular_solve")
# Columns set aside for what a loop reads by its counter.
_READS = 100_000


@dataclass(eq=False)
class Value:
    """A value that depends on no latent, computed when it is asked for.

    Attributes:
        compute: gives it.
        moving: it differs from round to round of a loop, so it is computed anew each time.
    """

    compute: Callable[[], Any]
    moving: bool = False


Known = Value | None


def element_labels(jaxpr: Any, given: dict[Any, Labels], columns: int, inputs: Sequence[Any]) -> dict[Any, Labels]:
    """The labels of every top-level variable of a program.

    Args:
        jaxpr: the program.
        given: variables whose labels are known, whatever made them.
        columns: number of labels.
        inputs: the values of constants and inputs: whole numbers that elements are picked with.
    """
    walk = _Walk(columns)
    env: dict[Any, Labels] = {}
    known: dict[Any, Known] = {
        v: None if value is None else Value(lambda value=value: value)
        for v, value in zip((*jaxpr.constvars, *jaxpr.invars), inputs, strict=True)
    }
    walk.follow(jaxpr, env, known, given)
    return env


class _Walk(Labelling):
    """One walk through a program or the body of a loop; ``first`` is the first column for what its counter reads."""

    def __init__(self, columns: int, first: int = 0):
        super().__init__(columns)
        self.first = first
        self.reads: list[tuple[int, Any, list[Labels], list[Known]]] = []

    def follow(
        self, jaxpr: Any, env: dict[Any, Labels], known: dict[Any, Known], given: dict[Any, Labels]
    ) -> tuple[list[Labels], list[Known]]:
        """Fill in ``env``; labels and known values of the outputs."""

        def read(v: Any) -> Labels:
            return NONE if isinstance(v, jex.Literal) else env.get(v, NONE)

        def value(v: Any) -> Known:
            return Value(lambda: v.val) if isinstance(v, jex.Literal) else known.get(v)

        for eqn in jaxpr.eqns:
            if all(v in given for v in eqn.outvars):
                env.update({v: given[v] for v in eqn.outvars})
                continue
            if hole_names(eqn) is not None:
                continue
            sources, values = [read(v) for v in eqn.invars], [value(v) for v in eqn.invars]
            if all(is_empty(s) for s in sources):
                if all(v is not None for v in values):
                    known.update(_later(jaxpr, eqn, values))
                continue
            for v, labels in zip(eqn.outvars, self.equation(eqn, sources, values), strict=True):
                env[v] = self.kept(labels)
        return [read(v) for v in jaxpr.outvars], [value(v) for v in jaxpr.outvars]

    def inside(self, body: Any, sources: Sequence[Labels], values: Sequence[Known]) -> tuple[list[Labels], list[Known]]:
        """Labels and known values of the outputs of a body."""
        inner = body if isinstance(body, jex.Jaxpr) else body.jaxpr
        consts = [] if isinstance(body, jex.Jaxpr) else body.consts
        env: dict[Any, Labels] = dict(zip(inner.invars, sources, strict=True))
        known: dict[Any, Known] = dict(zip(inner.invars, values, strict=True))
        known |= {v: Value(lambda c=c: c) for v, c in zip(inner.constvars, consts)}
        return self.follow(inner, env, known, {})

    def equation(self, eqn: Any, sources: list[Labels], values: list[Known]) -> list[Labels]:
        """The labels of an equation's outputs."""
        name, params = eqn.primitive.name, eqn.params
        if name in _CALLS and _CALLS[name] in params:
            return self.inside(params[_CALLS[name]], sources, values)[0]
        if name == "cond":
            branches = [self.inside(b, sources[1:], values[1:])[0] for b in params["branches"]]
            chosen = frozenset(whole(sources[0]))
            return [self.either([*parts, chosen], v.aval.size) for parts, v in zip(zip(*branches), eqn.outvars)]
        if name == "scan":
            return self.loop(eqn, sources, values)
        if name in _MATRICES:
            return self.matrices(eqn, sources)
        if len(eqn.outvars) == 1:
            found = self.apart(eqn, sources, values)
            if found is not None:
                return [found]
        if name == "split":
            where = ids_of(eqn.invars[0])
            cuts = np.cumsum(params["sizes"])[:-1]
            return [take(sources[0], part.ravel()) for part in np.split(where, cuts, params["axis"])]
        return [frozenset().union(*map(whole, sources))] * len(eqn.outvars)

    def apart(self, eqn: Any, sources: list[Labels], values: list[Known]) -> Labels | None:
        """Element by element, for equations that keep elements apart; ``None`` for the others."""
        name, params = eqn.primitive.name, eqn.params
        out = eqn.outvars[0].aval
        ids = [ids_of(v) for v in eqn.invars]
        if all(isinstance(s, frozenset) for s in sources) and name not in ("concatenate", "pad", "stack"):
            return frozenset().union(*(s for s in sources if isinstance(s, frozenset)))
        if name in _MOVES and len(sources) == 1:
            return take(sources[0], _MOVES[name](ids[0], params).ravel())
        if name in _ELEMENTWISE or name in ("select_and_gather_add", "nextafter", "erf_inv", "regularized"):
            wide = [take(s, np.broadcast_to(i, out.shape).ravel()) for s, i in zip(sources, ids)]
            return self.either(wide, out.size)
        if name in ("concatenate", "stack", "pad"):
            return self.joined(eqn, sources, ids)
        if (name.startswith("reduce_") or name in ("argmax", "argmin")) and "axes" in params and len(sources) == 1:
            return self.along(sources[0], ids[0], tuple(params["axes"]), keep=False)
        if name.startswith("cum") and len(sources) == 1:
            return self.along(sources[0], ids[0], (params["axis"],), keep=True)
        if name == "sort" and len(sources) == 1:
            return self.along(sources[0], ids[0], (params["dimension"],), keep=True)
        if name == "dot_general":
            return self.product(eqn, sources, ids)
        if name in ("gather", "dynamic_slice") and not is_empty(sources[0]):
            asked = values[1:]
            if (
                all(v is not None for v in asked)
                and all(map(is_empty, sources[1:]))
                and any(v.moving for v in asked if v)
            ):
                return self.read(eqn, sources, values, out.size)
        if name == "gather":
            return self.gathered(eqn, sources, values, ids)
        if name == "dynamic_slice" and all(v is not None for v in values[1:]):
            starts = [int(np.clip(v.compute(), 0, n - m)) for v, n, m in zip(values[1:], ids[0].shape, out.shape) if v]
            return take(sources[0], ids[0][tuple(slice(s, s + m) for s, m in zip(starts, out.shape))].ravel())
        if name == "dynamic_update_slice" and all(v is not None and not v.moving for v in values[2:]):
            shape = ids[1].shape
            starts = [int(np.clip(v.compute(), 0, n - m)) for v, n, m in zip(values[2:], ids[0].shape, shape) if v]
            places = ids[0].copy()
            places[tuple(slice(s, s + m) for s, m in zip(starts, shape))] = ids[0].size + ids[1]
            return take(self.stacked(sources[:2], [i.size for i in ids[:2]]), places.ravel())
        return None

    def matrices(self, eqn: Any, sources: list[Labels]) -> list[Labels]:
        """Stacks of matrices: each is decomposed or solved for alone, each right-hand side apart from the others."""
        parts = []
        for place, (labels, v) in enumerate(zip(sources, eqn.invars)):
            ids = ids_of(v)
            apart = ids.ndim - (1 if eqn.params["left_side"] else 2) if place else None
            # Of a matrix all entries; of right-hand sides the column, or the row, that is solved for.
            lost = tuple(a for a in (ids.ndim - 2, ids.ndim - 1) if a != apart)
            parts.append((self.along(labels, ids, lost, keep=False), apart))
        found = []
        for v in eqn.outvars:
            shape = v.aval.shape
            batch = eqn.invars[0].aval.shape[:-2]
            wide = []
            for labels, apart in parts:
                kept = (*batch, shape[apart]) if apart is not None else batch
                rest = [1] * (len(shape) - len(batch))
                if apart is not None:
                    rest[apart - len(batch)] = shape[apart]
                wide.append(take(labels, np.broadcast_to(numbered(kept).reshape(*batch, *rest), shape).ravel()))
            found.append(self.either(wide, v.aval.size))
        return found

    def read(self, eqn: Any, sources: list[Labels], values: list[Known], size: int) -> Labels:
        """Elements that a loop picks by its counter: labels of their own, which are looked up round by round."""
        start = self.first + sum(count for count, *_ in self.reads)
        if start + size > self.columns:
            return frozenset().union(*map(whole, sources))
        self.reads.append((size, eqn, sources, values))
        return sp.csr_matrix(identity(size, start, self.columns))

    def gathered(self, eqn: Any, sources: list[Labels], values: list[Known], ids: list[np.ndarray]) -> Labels | None:
        """Elements picked by whole numbers, which may be latents themselves."""
        d = eqn.params["dimension_numbers"]
        sizes = eqn.params["slice_sizes"]
        operand, places = ids
        shape = eqn.outvars[0].aval.shape
        batch = [a for a in range(len(shape)) if a not in d.offset_dims]
        count = numbered(places.shape[:-1]).reshape([shape[a] if a in batch else 1 for a in range(len(shape))])
        count = np.broadcast_to(count, shape).ravel()
        picked = self.along(sources[1], ids[1], (places.ndim - 1,), keep=False)
        parts = [take(picked, count)]
        if is_empty(sources[0]):
            return self.either(parts, len(count))
        index = None
        if is_empty(sources[1]) and values[1] is not None:
            index = np.asarray(values[1].compute()).reshape(-1, places.shape[-1])
        lost = [] if index is not None else list(d.start_index_map)
        labels = self.along(sources[0], operand, tuple(lost), keep=True) if lost else sources[0]
        offsets = [a for a in range(operand.ndim) if a not in (*d.collapsed_slice_dims, *d.operand_batching_dims)]
        where = []
        grid = np.indices(shape).reshape(len(shape), -1)
        for a in range(operand.ndim):
            at = np.zeros(len(count), int)
            if a in d.operand_batching_dims:
                along = d.start_indices_batching_dims[d.operand_batching_dims.index(a)]
                at = np.unravel_index(count, places.shape[:-1])[along]
            if a in offsets:
                at = at + grid[d.offset_dims[offsets.index(a)]]
            if index is not None and a in d.start_index_map:
                start = index[count, d.start_index_map.index(a)].astype(int)
                at = at + np.clip(start, 0, operand.shape[a] - sizes[a])
            where.append(np.zeros_like(at) if a in lost else at)
        parts.append(take(labels, operand[tuple(where)].ravel() if operand.ndim else np.zeros(len(count), int)))
        return self.either(parts, len(count))

    def loop(self, eqn: Any, sources: list[Labels], values: list[Known]) -> list[Labels]:
        """A loop: its body is looked into once, and then followed step by step with sets alone."""
        body, length, reverse = eqn.params["jaxpr"], eqn.params["length"], eqn.params["reverse"]
        inner = _body(body)
        # What a loop's parts are called differs between versions of JAX; what it stacks has one axis more outside.
        carried = sum(v.aval.ndim == b.aval.ndim for v, b in zip(eqn.outvars, inner.outvars))
        fixed = sum(v.aval.ndim == b.aval.ndim for v, b in zip(eqn.invars, inner.invars)) - carried
        kinds = ["fixed"] * fixed + ["carry"] * carried + ["slice"] * (len(sources) - fixed - carried)
        sizes = [v.aval.size for v in inner.invars]
        # Counters: carries that are known in every round.
        now: dict[int, Any] = {
            p: values[p].compute()  # type: ignore[union-attr]
            for p, kind in enumerate(kinds)
            if kind == "carry" and is_empty(sources[p]) and values[p] is not None and sizes[p] == 1
        }
        while True:
            apart = [
                p for p, kind in enumerate(kinds) if p not in now and (kind == "carry" or not is_empty(sources[p]))
            ]
            starts = dict(zip(apart, np.cumsum([0, *(sizes[p] for p in apart)]).tolist()))
            total = sum(sizes[p] for p in apart)
            if total > MOST // 100:
                return [frozenset().union(*map(whole, sources))] * len(eqn.outvars)
            columns = total + (_READS if now else 0)
            labelled = [
                sp.csr_matrix(identity(size, starts[p], columns)) if p in starts else NONE
                for p, size in enumerate(sizes)
            ]
            given: list[Known] = [
                Value(lambda p=p: now[p], moving=True) if p in now else v if kind == "fixed" else None
                for p, (v, kind) in enumerate(zip(values, kinds))
            ]
            walk = _Walk(columns, total)
            results, known = walk.inside(body, labelled, given)
            lost = [p for p in now if known[p - fixed] is None or not is_empty(results[p - fixed])]
            if not lost:
                break
            for p in lost:
                del now[p]
        owner = [(p, element) for p in apart for element in range(sizes[p])]
        reads = [rows_of(labels, v.aval.size) for labels, v in zip(results, inner.outvars)]
        state = [
            rows_of(sources[fixed + c], sizes[fixed + c]) if fixed + c in starts else [NONE] * sizes[fixed + c]
            for c in range(carried)
        ]
        outside = {p: rows_of(sources[p], eqn.invars[p].aval.size) for p in apart if kinds[p] != "carry"}
        stacked: list[list[list[frozenset[int]]]] = [[] for _ in results[carried:]]
        for t in reversed(range(length)) if reverse else range(length):
            picked: list[frozenset[int]] = []

            def at(label: int, t: int = t, picked: list[frozenset[int]] = picked, state: Any = state) -> frozenset[int]:
                if label >= total:
                    return union_of(map(at, picked[label - total]))
                place, element = owner[label]
                if kinds[place] == "carry":
                    return state[place - fixed][element]
                return outside[place][element + (t * sizes[place] if kinds[place] == "slice" else 0)]

            for size, picking, operands, asked in walk.reads:
                still = [None if v is None else Value(lambda v=v: v.compute()) for v in asked]
                found = walk.apart(picking, operands, still)
                picked += rows_of(frozenset().union(*map(whole, operands)) if found is None else found, size)
            step = [[union_of(map(at, labels)) for labels in rows] for rows in reads]
            state = step[:carried]
            for into, rows in zip(stacked, step[carried:]):
                into.append(rows)
            now.update([(p, known[p - fixed].compute()) for p in now])  # type: ignore[union-attr]
        stepped: list[Labels] = [matrix_of(rows, self.columns) for rows in state]
        for rounds in stacked:
            ordered = rounds[::-1] if reverse else rounds
            stepped.append(matrix_of([labels for rows in ordered for labels in rows], self.columns))
        return stepped


def _later(jaxpr: Any, eqn: Any, values: list[Any]) -> dict[Any, Known]:
    moving = any(v.moving for v in values)
    found: list[Any] = []

    def outputs() -> list[Any]:
        if found and not moving:
            return found
        simple = _COUNTING.get(eqn.primitive.name)
        arguments = [v.compute() for v in values]
        if simple is not None and all(np.ndim(a) == 0 for a in arguments):
            found[:] = [simple(*map(np.asarray, arguments))]
            return found
        given = {v: a for v, a in zip(eqn.invars, arguments) if not isinstance(v, jex.Literal)}
        part = jaxpr.replace(
            constvars=[],
            invars=list(given),
            outvars=kept,
            eqns=[eqn],
            debug_info=jaxpr.debug_info.with_unknown_names(),
        )
        found[:] = jex.jaxpr_as_fun(jex.ClosedJaxpr(part, []))(*map(jnp.asarray, given.values()))
        return found

    kept = [v for v in eqn.outvars if type(v).__name__ != "DropVar"]
    return {v: Value(lambda place=place: outputs()[place], moving) for place, v in enumerate(kept)}


# Arithmetic of counters, on the host.
_COUNTING: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "lt": np.less,
    "ge": np.greater_equal,
    "eq": np.equal,
    "select_n": lambda which, *cases: cases[int(which)],
}
