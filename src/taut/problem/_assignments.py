r"""The posterior of discrete latents that were summed out, given the others: $p(z \mid \theta, y)$, exactly.

What was eliminated last is drawn first, and every other element given those that it was tied to; the most probable
values are found the same way with maxima for sums; probabilities are derivatives of the log sum by its factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._keys import jax_key
from taut._precision import Precision, scope
from taut.problem._coordinates import DISCRETE
from taut.problem._evaluate import evaluate
from taut.problem._program import Program
from taut.problem._sums import Sums

_BLOCK = 128


@dataclass(frozen=True, eq=False)
class Assignments:
    """The discrete latents of a problem, given draws of the others.

    Args:
        sums: how they are summed over.
        precision: what to compute in.
        inputs: data leaves, and a key that is not used.
    """

    sums: Sums
    precision: Precision
    inputs: list[Any]

    def draws(self, values: Mapping[str, np.ndarray], size: int, key: int | jax.Array) -> dict[str, np.ndarray]:
        """One joint draw of the discrete latents per draw of the others, with the deterministic sites that need them.

        Args:
            values: continuous latents and parameters by name, ``(size, *shape)`` or, for parameters, ``(1, *shape)``.
            size: number of draws.
            key: an integer or a JAX key.

        Returns:
            Values by name, ``(size, *shape)``; discrete ones as ``int32``.
        """
        with scope(self.precision):
            words = np.asarray(jax.random.key_data(jax.random.split(jax_key(key), size)))
        return self._blocks(_draw, values, size, words)

    def probabilities(self, values: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        """The probability of each value, averaged over draws of the others: ``(*shape, K)`` by name.

        Where elements have different numbers of values, those that an element cannot take have probability 0.
        """
        found = self._blocks(_probabilities, values, size).pop("")
        return {
            name: found[:, self.sums.part(name)].mean(0).reshape(*latent.shape, -1)[..., : self.count(name)]
            for name, latent in self.sums.latents.items()
        }

    def most_probable(self, values: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        r"""The most probable joint values, $\arg\max_z \frac1S \sum_s p(z \mid \theta_s, y)$, by name.

        Latents that hang together are decided together, others apart. A latent that hangs on no other is decided
        exactly; for chains the candidates are the most probable paths at each of the draws (Viterbi).
        """
        with scope(self.precision):
            best = self._blocks(_best, values, size).pop("")
            candidates = np.unique(best, axis=0)
            scores = self._blocks(_scores, values, size, shared=candidates).pop("")
        top = scores.max(0)
        mean = np.log(np.mean(np.exp(scores - np.where(np.isfinite(top), top, 0.0)), axis=0)) + top
        chosen = candidates[mean.argmax(0)[self.sums.order.component], np.arange(len(self.sums.counts))]
        marginal = self._blocks(_probabilities, values, size).pop("").mean(0).argmax(-1)
        alone = np.bincount(self.sums.order.component, minlength=len(self.sums.counts))[self.sums.order.component] == 1
        digits = np.where(alone, marginal, chosen)
        return {
            name: digits[self.sums.part(name)].reshape(latent.shape) + self.sums.low[name]
            for name, latent in self.sums.latents.items()
        }

    def count(self, name: str) -> int:
        """How many values a latent can take; the most of all of its elements."""
        return int(self.sums.counts[self.sums.part(name)].max())

    def _blocks(
        self, function: Any, values: Mapping[str, Any], size: int, words: Any = None, shared: Any = None
    ) -> Any:
        given = {n: np.asarray(v) for n, v in values.items() if n in self.sums.values and n not in self.sums.latents}
        given = {n: v for n, v in given.items() if not self.sums.touched(self.sums.values[n])}
        parts = []
        for start in range(0, size, _BLOCK):
            take = np.minimum(np.arange(start, start + _BLOCK), size - 1)
            block = {n: v[take] if len(v) == size else np.repeat(v[:1], _BLOCK, 0) for n, v in given.items()}
            with scope(self.precision):
                found = _vmapped(
                    function,
                    self.sums,
                    block,
                    None if words is None else words[take],
                    shared,
                    self.inputs,
                    list(self.sums.consts),
                )
            parts.append({n: np.asarray(v)[: size - start] for n, v in found.items()})
        return {n: np.concatenate([part[n] for part in parts]) for n in parts[0]}


def sum_notes(program: Program) -> list[str]:
    """How each discrete latent is dealt with: summed out, and at what price, or drawn by a guide."""
    notes = []
    sums = program.sums
    if sums is not None:
        times = f"{sums.evaluations} evaluation{'s' if sums.evaluations > 1 else ''} of what depends on it"
        notes.append(f"{_listed(list(sums.latents))}: summed out exactly, {times} per log density")
    drawn = [name for name, latent in program.latents.items() if latent.transform == DISCRETE]
    if drawn:
        notes.append(f"{_listed(drawn)}: drawn by the guide, with gradients by the score function")
    return notes


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names)) if len(names) <= 4 else f"{names[0]!r} to {names[-1]!r} ({len(names)} sites)"


@partial(jax.jit, static_argnums=(0, 1))
def _vmapped(function: Any, sums: Sums, values: Any, words: Any, shared: Any, inputs: Any, consts: Any) -> Any:
    def one(values: Any, words: Any) -> Any:
        v = sums.jaxpr
        given = dict(zip((*v.constvars, *v.invars), (*consts, *inputs), strict=True))
        given |= {sums.values[n]: jnp.asarray(x, sums.values[n].aval.dtype) for n, x in values.items()}
        named = [sums.values[n] for n in sums.values if n not in sums.latents and sums.touched(sums.values[n])]
        before = sums.before([*named, *(t for _, t, _ in sums.terms)])
        known = dict(zip(before, evaluate(v, before, given), strict=True))
        return function(sums, known, words, shared)

    return jax.vmap(one, in_axes=(0, None if words is None else 0), axis_size=_BLOCK)(values, words)


def _draw(sums: Sums, known: Any, words: Any, shared: Any) -> dict[str, Any]:
    _, record = sums.order(sums.tables(known)[0])
    key = jax.random.wrap_key_data(words)

    def pick(logits: Any, number: int) -> Any:
        return jax.random.categorical(jax.random.fold_in(key, number), logits)

    digits = sums.order.back(record, pick)
    at = sums.at(digits)
    names = [n for n, v in sums.values.items() if n not in sums.latents and sums.touched(v)]
    derived = evaluate(sums.jaxpr, [sums.values[n] for n in names], {**known, **at})
    found = {n: at[sums.values[n]].astype(jnp.int32) for n in sums.latents}
    return found | dict(zip(names, derived, strict=True))


def _probabilities(sums: Sums, known: Any, words: Any, shared: Any) -> dict[str, Any]:
    tables, _ = sums.tables(known)

    def log_sum(tables: Any) -> Any:
        return sum(jnp.sum(value) for _, value in sums.order(tables)[0])

    joint = jax.grad(log_sum)(tables)
    found = jnp.zeros((len(sums.counts), int(sums.counts.max())))
    missing = np.ones(len(sums.counts), bool)
    for scopes, table in zip(sums.scopes(), joint):
        for d in range(scopes.shape[1]):
            rows = np.flatnonzero(missing[scopes[:, d]])
            rows = rows[np.unique(scopes[rows, d], return_index=True)[1]]
            if not len(rows):
                continue
            part = table.sum([a for a in range(1, table.ndim) if a != 1 + d])[rows]
            found = found.at[scopes[rows, d], : part.shape[1]].set(part)
            missing[scopes[rows, d]] = False
    return {"": found}


def _best(sums: Sums, known: Any, words: Any, shared: Any) -> dict[str, Any]:
    _, record = sums.order(sums.tables(known)[0], largest=True)
    return {"": sums.order.back(record, lambda logits, _: jnp.argmax(logits, axis=1))}


def _scores(sums: Sums, known: Any, words: Any, shared: Any) -> dict[str, Any]:
    """The log probability of each of some candidates, by component: ``[C, M]``."""
    tables, _ = sums.tables(known)
    component = sums.order.component
    norm = jnp.zeros(len(component))
    for elements, value in sums.order(tables)[0]:
        norm = norm.at[component[elements]].add(value)

    def score(digits: Any) -> Any:
        total = -norm
        for scopes, table in zip(sums.scopes(), tables):
            cells = table[(np.arange(len(scopes)), *(digits[scopes[:, d]] for d in range(scopes.shape[1])))]
            total = total.at[component[scopes[:, 0]]].add(cells)
        return total

    return {"": jax.vmap(score)(shared)}
