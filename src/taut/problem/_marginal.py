"""A traced program with its discrete latents summed out: again a program, over the other latents alone.

Guides, algorithms, the verdict and the evidence work on it as on any other. The log density of what was summed stands
under the name of the first observed site that depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from taut.core import Site
from taut.problem._evaluate import evaluate
from taut.problem._finite import ABOUT_SUMS
from taut.problem._holes import hole, hole_names
from taut.problem._labels import whole
from taut.problem._sums import Sums, size_of

_DENSITIES = ("density", "plain", "density_terms", "plain_terms")

Order = dict[str, dict[str, int]]


def marginal(sums: Sums, order: Order, sites: Mapping[str, Site], inputs: Any) -> tuple[Any, Order]:
    """Trace the program that is left when discrete latents are summed out.

    Args:
        sums: how.
        order: where the outputs of the program with them stand.
        sites: its sites.
        inputs: shapes of its inputs.

    Returns:
        The closed jaxpr, and where its outputs stand.
    """
    jaxpr = sums.jaxpr
    families = _families(sums, sites)
    kept: dict[str, dict[str, Any]] = {}
    for group, members in order.items():
        if group in ABOUT_SUMS:
            continue
        kept[group] = {n: v for n, i in members.items() if not sums.touched(v := jaxpr.outvars[i])}
    touched = {name for name, _, _ in sums.terms}
    for name in touched & set(order["volume"]):
        # A latent that depends on what is summed over keeps the Jacobian of its map, and no more.
        kept["density"][name] = jaxpr.outvars[order["volume"][name]]
        if name in order["volume_terms"]:
            kept["density_terms"][name] = jaxpr.outvars[order["volume_terms"][name]]
    for name in sums.latents:
        for members in kept.values():
            members.pop(name, None)
    places = [(g, n) for g, members in kept.items() for n in members]
    wanted = [kept[g][n] for g, n in places]
    found: Order = {}

    def run(consts: Any, *inputs: Any) -> list[Any]:
        given = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
        holes = {
            name: hole(name, eqn.params["shape"], eqn.params["dtype"])
            for eqn in jaxpr.eqns
            if (name := hole_names(eqn)) is not None and name not in sums.latents
        }
        before = sums.before([*wanted, *(v for _, v, _ in sums.terms)])
        known = dict(zip(before, evaluate(jaxpr, before, given, holes), strict=True))
        # What is computed in one equation with something that depends on the latents, and does not itself.
        base = {**known, **sums.at(jnp.zeros(len(sums.counts), int))}
        values = dict(zip(places, evaluate(jaxpr, wanted, base), strict=True))
        for family, (total, by_row) in _log_sums(sums, families, sites, known).items():
            for group, part in zip(_DENSITIES, (total, total, by_row, by_row)):
                if group.endswith("terms") and not (sites[family].plates or family in kept[group]):
                    continue
                own = values.get((group, family))
                if own is not None and group.endswith("terms") and jnp.shape(own) != jnp.shape(part):
                    own, part = jnp.sum(own), total
                values[group, family] = part if own is None else own + part
        flat: list[Any] = []
        for group in kept:
            found[group] = {}
            for (g, name), value in values.items():
                if g == group:
                    found[group][name] = len(flat)
                    flat.append(value)
        return flat

    closed = jax.make_jaxpr(run)(list(sums.consts), *inputs)
    traced, number = closed.jaxpr, len(sums.consts)
    traced = traced.replace(
        constvars=[*traced.constvars, *traced.invars[:number]],
        invars=traced.invars[number:],
        debug_info=traced.debug_info.with_unknown_names(),
    )
    return jex.ClosedJaxpr(traced, [*closed.consts, *sums.consts]), found


def _families(sums: Sums, sites: Mapping[str, Site]) -> dict[str, str]:
    """For every site that hangs on discrete latents, the site under whose name their sum stands."""
    owner = np.repeat(list(sums.latents), [size_of(latent) for latent in sums.latents.values()])
    groups: list[set[str]] = [{name} for name in sums.latents]
    for name, v, _ in sums.terms:
        hit = {name, *(str(owner[label]) for label in whole(sums.labels.get(v, frozenset())))}
        joined = set.union(hit, *(g for g in groups if g & hit))
        groups = [*(g for g in groups if not g & hit), joined]
    found = {}
    for group in groups:
        ranked = sorted(group, key=lambda n: (n in sums.latents, not sites[n].observed, list(sites).index(n)))
        found.update(dict.fromkeys(group, ranked[0]))
    return found


def _log_sums(
    sums: Sums, families: Mapping[str, str], sites: Mapping[str, Site], known: Mapping[Any, Any]
) -> dict[str, tuple[Any, Any]]:
    """By family: the log of the sum over its latents, and the same by row of its outermost plate where rows part."""
    tables, constants = sums.tables(known)
    totals, _ = sums.order(tables)
    family_of = np.array([families[n] for n, v in sums.latents.items() for _ in range(size_of(v))])
    found = {}
    for family in dict.fromkeys(families.values()):
        parts = []
        for elements, value in totals:
            mine = np.flatnonzero(family_of[elements] == family)
            if len(mine):
                parts.append((elements[mine], value[mine] * sums.weights[elements[mine]]))
        rest = [(t, value) for t, value in constants.items() if families[sums.terms[t][0]] == family]
        total = sum((jnp.sum(value) for _, value in (*parts, *rest)), jnp.zeros(()))
        rows = _rows(sums, sites, family, family_of) if not rest else None
        by_row = total
        if rows is not None:
            frame, row = rows
            by_row = jnp.zeros(frame.length)
            for elements, value in parts:
                by_row = by_row.at[row[elements]].add(value)
            by_row = by_row.reshape((frame.length,) + (1,) * (-frame.dim - 1))
        found[family] = (total, by_row)
    return found


def _rows(sums: Sums, sites: Mapping[str, Site], family: str, family_of: np.ndarray) -> Any:
    """The outermost plate of a family, and the row of each element, where no two rows hang together."""
    if not sites[family].plates:
        return None
    frame = min(sites[family].plates, key=lambda p: p.dim)
    row = np.full(len(sums.counts), -1)
    for name, latent in sums.latents.items():
        if family_of[sums.starts[name]] != family:
            continue
        own = next((p for p in sites[name].plates if p.name == frame.name), None)
        axis = -1 if own is None else len(latent.shape) - latent.event_dim + own.dim
        if axis < 0 or latent.shape[axis] != frame.length:
            return None
        row[sums.part(name)] = np.indices(latent.shape)[axis].ravel()
    mine = np.flatnonzero(family_of == family)
    if np.any(row[mine] != row[sums.order.component[mine]]):
        return None
    return frame, row
