"""Plan sums over discrete latents, and refuse what has no finite sum or too long a one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from taut._errors import TautError
from taut._precision import real_dtype
from taut.core import Site
from taut.problem._coordinates import Latent
from taut.problem._elements import element_labels
from taut.problem._elimination import TooTied, schedule
from taut.problem._evaluate import evaluate
from taut.problem._factors import Term, TooWide, find_factors
from taut.problem._labels import Labels, identity, whole
from taut.problem._sums import Sums, size_of

# The most joint values of the elements of one factor.
MOST_VALUES = 4096


def plan_sums(
    closed: Any,
    order: Mapping[str, Mapping[str, int]],
    reach: Mapping[str, Mapping[str, frozenset[str]]],
    latents: Mapping[str, Latent],
    sites: Mapping[str, Site],
    leaves: Sequence[Any],
) -> Sums | None:
    """Plan how the discrete latents of a program are summed over; ``None`` if none are.

    Args:
        closed: the traced program.
        order: where its outputs stand.
        reach: what they depend on.
        latents: the discrete latents that are to be summed over.
        sites: its sites.
        leaves: its data; ``None`` for what changes from batch to batch.

    Raises:
        TautError: ``discrete-latent`` for latents with infinitely many values, or too many at once; ``bad-combination``
            where their weights do not fit what hangs on them.
    """
    jaxpr = closed.jaxpr
    if not latents:
        return None
    inputs = {v: x for v, x in zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *leaves)) if x is not None}
    unseen = any(leaf is None for leaf in leaves)

    # Outputs that depend on data alone, evaluated together.
    places = {
        (g, n): jaxpr.outvars[i]
        for g in ("low", "count", "weight")
        for n, i in order[g].items()
        if all(label.startswith("data:") and not unseen for label in reach[g][n])
    }
    numbers = dict(zip(places, map(np.asarray, evaluate(jaxpr, list(places.values()), inputs)), strict=True))
    low, counts, starts, total = {}, [], {}, 0
    for name, latent in latents.items():
        least, many = numbers.get(("low", name)), numbers.get(("count", name))
        if least is None or many is None:
            raise _endless(latent, bounded=name in order["low"])
        low[name] = np.broadcast_to(least, latent.shape)
        counts.append(np.broadcast_to(many, latent.shape).ravel().astype(int))
        starts[name], total = total, total + size_of(latent)
    counted = np.concatenate(counts)
    values = {n: jaxpr.outvars[i] for n, i in order["value"].items()}
    given: dict[Any, Labels] = {values[n]: identity(size_of(v), starts[n], total) for n, v in latents.items()}
    labels = element_labels(jaxpr, given, total, [*closed.consts, *leaves, None])

    def touched(v: Any) -> bool:
        return not isinstance(v, jex.Literal) and v in labels and bool(whole(labels[v]))

    late: set[Any] = set(given)
    for eqn in jaxpr.eqns:
        if any(not isinstance(v, jex.Literal) and v in late for v in eqn.invars):
            late.update(eqn.outvars)
    plain = {name for (group, name), value in numbers.items() if group == "weight" and value.size == 1}
    makers = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
    pieces = [
        (name, v)
        for name, i in order["loose"].items()
        if touched(jaxpr.outvars[i])
        for v in _pieces(makers, jaxpr.outvars[i], touched if name in plain else None)
    ]
    terms = [Term(name, labels.get(v, frozenset()), v.aval.shape) for name, v in pieces]
    names = np.repeat(list(latents), [size_of(v) for v in latents.values()])
    try:
        factors = find_factors(terms, counted, MOST_VALUES)
        eliminations = schedule([(b.scopes, b.counts) for e in factors.evaluations for b in e.blocks], counted)
    except TooWide as wide:
        raise _too_many(latents, sites, names[wide.scope], wide.count, wide.site) from None
    except TooTied as tied:
        raise _too_many(latents, sites, names[tied.scope], tied.cells, None) from None

    def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
        known = numbers.get(("weight", name))
        if known is None:
            raise _weighted(name, sites[name], "a scale that depends on latents")
        return np.broadcast_to(np.asarray(known, float), shape).ravel()

    weights = np.concatenate([weight(n, v.shape) for n, v in latents.items()])
    rows = np.concatenate([np.full(size_of(v), _rows(sites[n])) for n, v in latents.items()])
    order_of = np.argsort(eliminations.component, kind="stable")
    same = eliminations.component[order_of][1:] == eliminations.component[order_of][:-1]
    if np.any(same & (weights[order_of][1:] != weights[order_of][:-1])):
        name = str(names[0])
        raise _weighted(name, sites[name], "latents that hang together, some weighted and some not")
    scaled = [
        (name, v, _inside(sites[name], term, weight(name, v.aval.shape), weights, rows))
        for (name, v), term in zip(pieces, terms)
    ]
    return Sums(
        jaxpr=jaxpr,
        consts=closed.consts,
        latents=dict(latents),
        values={**values, **{n: jaxpr.outvars[i] for n, i in order["param"].items()}},
        low=low,
        counts=counted,
        starts=starts,
        labels=labels,
        late=frozenset(late - set(given)),
        terms=scaled,
        weights=weights,
        factors=factors,
        order=eliminations,
    )


def _pieces(makers: Mapping[Any, Any], v: Any, touched: Callable[[Any], bool] | None) -> list[Any]:
    """Arrays whose entries add up to those of ``v``: what it was summed from keeps elements apart."""
    eqn = makers.get(v)
    if touched is None or eqn is None:
        return [v]
    if eqn.primitive.name == "reduce_sum" or (eqn.primitive.name == "reshape" and touched(eqn.invars[0])):
        return _pieces(makers, eqn.invars[0], touched)
    same = all(not isinstance(u, jex.Literal) and u.aval.shape == v.aval.shape for u in eqn.invars)
    if eqn.primitive.name == "add" and same and any(map(touched, eqn.invars)):
        return [piece for u in eqn.invars for piece in _pieces(makers, u, touched)]
    return [v]


def _inside(site: Site, term: Term, weight: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> Any:
    """What each entry is multiplied with inside of the sum, so that the weight outside is the latents' own.

    Raises:
        TautError: ``bad-combination`` where an entry stands for more rows than the latents that it depends on.
    """
    if np.all(weight == 1.0) and np.all(weights == 1.0):
        return 1.0
    first = np.full(term.size, -1)
    if isinstance(term.labels, frozenset):
        first[:] = min(term.labels, default=-1)
    else:
        full = np.diff(term.labels.indptr) > 0
        first[full] = term.labels.indices[term.labels.indptr[:-1][full]]
    own, of_row = np.where(first >= 0, weights[first], 1.0), np.where(first >= 0, rows[first], 1.0)
    # A scale on what depends on the latents, and not on these, tempers it inside of the sum.
    tempered = np.isclose(own, of_row) & np.isclose(_rows(site), of_row)
    same = np.isclose(weight, own)
    if not np.all((first < 0) | same | tempered):
        raise _weighted(site.name, site, "another weight than the discrete latents that it depends on")
    return jnp.asarray(np.where(same, 1.0, weight / own).reshape(term.shape), real_dtype())


def _rows(site: Site) -> float:
    """How many rows each row of a site stands for, in subsampled plates."""
    return math.prod(p.size / p.length for p in site.plates)


def _endless(latent: Latent, *, bounded: bool) -> TautError:
    found = f"{latent.family} on {latent.support}"
    return TautError(
        "discrete-latent",
        site=latent.name,
        source=latent.source,
        found=found + (", with bounds that depend on latents" if bounded else ", which has no finite list of values"),
        expected="finitely many values, which are summed out exactly, or a guide that draws it",
        remedy=f"cut it off: n = jnp.arange(100); taut.sample({latent.name!r}, "
        f"dist.Categorical(logits=dist.{latent.family}(...).log_prob(n))); or a guide function with "
        f'taut.sample("{latent.name}", ...), fitted by the score function',
    )


def _too_many(
    latents: Mapping[str, Latent], sites: Mapping[str, Site], names: np.ndarray, count: float, where: str | None
) -> TautError:
    several = list(dict.fromkeys(names.tolist()))
    name = several[0]
    tied = f"{len(names)} elements of {', '.join(map(repr, several))}"
    place = f"the density of {where!r} ({sites[where].source})" if where else "one sum"
    return TautError(
        "discrete-latent",
        site=name,
        source=latents[name].source,
        found=f"{place} ties {tied} together: {count:,.0f} joint values",
        expected=f"at most {MOST_VALUES:,} joint values of what depends on one another; rows that are independent, and "
        "chains, need few however long they are",
        remedy=f"a density per row, in a plate, instead of a sum over rows; or a guide function with "
        f'taut.sample("{name}", dist.Bernoulli(p)), p = taut.param(...), fitted by the score function',
    )


def _weighted(name: str, site: Site, found: str) -> TautError:
    return TautError(
        "bad-combination",
        site=name,
        source=site.source,
        found=f"{name!r} has {found}, so that its sum over values is no sum of probabilities",
        expected="one scale, known before the fit, around a discrete latent and all that depends on it; rows of a "
        "subsampled plate with their discrete latents inside of it",
        remedy="put the discrete latent into the plate of what depends on it, or fit the whole data",
    )
