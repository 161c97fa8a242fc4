"""How the discrete latents of a program are summed over: which evaluations fill in which factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from taut.problem._coordinates import Latent
from taut.problem._elimination import Schedule
from taut.problem._evaluate import evaluate
from taut.problem._factors import Factors
from taut.problem._labels import Labels, whole

# How many evaluations are made side by side; more are made in turn.
_SIDE_BY_SIDE = 64


@dataclass(frozen=True, eq=False)
class Sums:
    """How the discrete latents of a program are summed over.

    Attributes:
        jaxpr: the program with its discrete latents.
        consts: its constants.
        latents: the discrete ones, by name.
        values: the variables that hold values of latents, deterministic sites and parameters.
        low: the least value of each element, by name.
        counts: how many values each element can take, ``int[M]``.
        starts: where each latent's elements begin.
        labels: which elements each variable depends on.
        late: variables that are computed from some that depend on elements.
        terms: by array of terms: the site, the variable, and the number that each entry is multiplied with.
        weights: what the log sum of each element's component is multiplied with, ``float[M]``.
        factors, order: which evaluations and which eliminations.
    """

    jaxpr: Any
    consts: Sequence[Any]
    latents: dict[str, Latent]
    values: dict[str, Any]
    low: dict[str, np.ndarray]
    counts: np.ndarray
    starts: dict[str, int]
    labels: dict[Any, Labels]
    late: frozenset[Any]
    terms: list[tuple[str, Any, Any]]
    weights: np.ndarray
    factors: Factors
    order: Schedule

    @property
    def evaluations(self) -> int:
        """How often the part of the model that depends on the latents is evaluated for one log density."""
        return self.factors.count

    def part(self, name: str) -> slice:
        """Where a latent's elements stand."""
        return slice(self.starts[name], self.starts[name] + size_of(self.latents[name]))

    def touched(self, v: Any) -> bool:
        """Whether a variable depends on a latent that is summed over."""
        return not isinstance(v, jex.Literal) and bool(whole(self.labels.get(v, frozenset())))

    def before(self, wanted: Sequence[Any]) -> list[Any]:
        """The variables, untouched by the latents, that some others are computed from."""
        latents = {self.values[name] for name in self.latents}
        needed, found = set(), {}

        def need(v: Any) -> None:
            if isinstance(v, jex.Literal) or v in latents:
                return
            if v in self.late:
                needed.add(v)
            else:
                found[v] = None

        for v in wanted:
            need(v)
        for eqn in reversed(self.jaxpr.eqns):
            if any(v in needed for v in eqn.outvars):
                for v in eqn.invars:
                    need(v)
        return list(found)

    def at(self, digits: Any) -> dict[Any, Any]:
        """The latents' variables, given their values counted from the least, ``int[M]``."""
        found = {}
        for name, latent in self.latents.items():
            v = self.values[name]
            found[v] = (digits[self.part(name)].reshape(latent.shape) + self.low[name]).astype(v.aval.dtype)
        return found

    def tables(self, known: Mapping[Any, Any]) -> tuple[list[Any], dict[int, Any]]:
        """All factors, block by block.

        Args:
            known: values of the variables of ``before``.

        Returns:
            Tables ``[F, *counts]``, and by array of terms the entries that depend on no element; in nats.
        """
        found: list[Any] = []
        constants: dict[int, Any] = {}
        for evaluation in self.factors.evaluations:
            used = sorted({t for block in evaluation.blocks for t, _, _ in block.parts})
            column = np.full(len(self.factors.colour), -1)
            for place, colour in enumerate(evaluation.colours):
                column[self.factors.colour == colour] = place

            def one(digits: Any, column: np.ndarray = column, used: list[int] = used) -> Any:
                chosen = jnp.where(column >= 0, jnp.minimum(digits[column], self.counts - 1), 0)
                results = evaluate(self.jaxpr, [self.terms[t][1] for t in used], {**known, **self.at(chosen)})
                return jnp.concatenate([jnp.ravel(r * self.terms[t][2]) for t, r in zip(used, results)])

            seen = _over(one, jnp.asarray(evaluation.digits))
            sizes = [int(np.prod(self.terms[t][1].aval.shape, dtype=int)) for t in used]
            start = dict(zip(used, np.cumsum([0, *sizes]).tolist()))
            for t, entries in self.factors.constants:
                if t in start and t not in constants:
                    constants[t] = seen[0][start[t] + entries]
            for block in evaluation.blocks:
                entries = np.concatenate([start[t] + e for t, e, _ in block.parts])
                rows = np.concatenate([r for _, _, r in block.parts])
                total = _added(seen, entries, rows, len(block.scopes))
                found.append(total[block.index].T.reshape(len(block.scopes), *block.counts))
        return found, constants

    def scopes(self) -> list[np.ndarray]:
        """The elements of the factors of each block."""
        return [block.scopes for evaluation in self.factors.evaluations for block in evaluation.blocks]


def size_of(latent: Latent) -> int:
    """How many elements a latent has."""
    return int(np.prod(latent.shape, dtype=int))


def _over(function: Callable[[Any], Any], rows: Any) -> Any:
    """All rows at once, or, where they are many, some at a time with their steps forgotten until they are needed."""
    if len(rows) <= _SIDE_BY_SIDE:
        return jax.vmap(function)(rows)
    return jax.lax.map(jax.checkpoint(function), rows, batch_size=_SIDE_BY_SIDE)


def _added(terms: Any, entries: np.ndarray, rows: np.ndarray, size: int) -> Any:
    """Entries of terms ``[A, E]``, summed by factor: ``[A, size]``."""
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=size)
    if np.all(counts == counts[0]):
        # As many terms in each factor: a sum over an axis, which is cheaper than adding them one by one.
        return terms[:, entries[order]].reshape(terms.shape[0], size, counts[0]).sum(2)
    return jnp.zeros((terms.shape[0], size), terms.dtype).at[:, rows].add(terms[:, entries])
