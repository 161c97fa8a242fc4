"""What can be known before the first step is an error before the first step: one function per check."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from taut import dist
from taut._errors import TautError
from taut.core import Site
from taut.problem._data import nonfinite
from taut.problem._kernel import Kernel
from taut.problem._program import Program


def check_structure(
    model: Callable[..., Any], data: Mapping[str, Any], program: Program, latents: bool = True
) -> list[str]:
    """Refuse a program with nothing to infer, or with nothing to infer it from.

    Returns:
        Notes for the result: what is unusual but allowed.
    """
    sites = program.sites.values()
    title = getattr(model, "__name__", "model")
    if latents and not program.latents and (program.sums is None or program.params):
        observed = [s.name for s in sites if s.observed]
        raise TautError(
            "no-latents",
            found=f"{title} observes {', '.join(observed) or 'nothing'} and has no latent sites"
            + (f"; its params are {', '.join(program.params)}" if program.params else ""),
            expected="at least one unobserved taut.sample",
            remedy='mu = taut.sample("mu", dist.Normal(0, 10)) for each unknown number'
            + ("; taut.fit_mle(model, data) for point estimates of params" if program.params else ""),
        )
    if any(s.observed for s in sites):
        return []
    arguments = [p.name for p in _parameters(model)]
    if not arguments:
        return ["nothing is observed: the posterior is the prior"]
    absent = [name for name in arguments if data.get(name) is None]
    raise TautError(
        "no-observations",
        found=f"{title} without an observed site; latents {', '.join(program.latents)}",
        expected="a taut.sample(..., obs=...) or a taut.factor",
        remedy=f"pass {absent[0]!r} in the data: taut.fit({title}, dict({absent[0]}=...))"
        if absent
        else f'taut.sample("y", dist.Normal({next(iter(program.latents))}, 1), obs={arguments[-1]})',
    )


def check_data(arrays: Mapping[str, Any], constants: Mapping[str, Any], program: Program, kernel: Kernel) -> list[str]:
    """Refuse data that are not finite, and observations outside of their support; masked entries are left alone.

    Returns:
        Notes for the result.
    """
    notes: list[str] = []
    bad = _nonfinite_entries(arrays) | _nonfinite_entries(constants)
    supports = {n: c for n, c in program.constraints.items() if not isinstance(c, type(dist.constraints.real))}
    moving = program.fixed("held")
    if not bad and not supports and not moving:
        return notes
    masking = program.fixed("mask")
    known = [n for n in program.fixed() if n in masking or n not in program.outputs["mask"]]
    observed, masks = kernel.constants(("observed", "mask"), [n for n in known if bad or n in supports or n in moving])
    (held,) = kernel.constants(("held",), moving) if moving else ({},)
    for name, value in observed.items():
        site = program.sites[name]
        mask = _like(masks.get(name, np.ones((), bool)), value)
        hit = nonfinite(np.where(mask, value, 0.0)) if np.issubdtype(value.dtype, np.inexact) else None
        if hit is not None:
            raise _nonfinite(name, site.source, value, hit)
        inside = (
            _like(held[name], value)
            if name in held
            else dist.holds(supports[name], value)
            if name in supports
            else None
        )
        if inside is not None and not np.all(inside | ~mask):
            if name in supports and dist.describe(supports[name]) == "boolean":
                soft = value[mask]
                if soft.min() >= 0 and soft.max() <= 1:
                    notes.append(_soft(site, soft))
                    continue
            outside = value[~(inside | ~mask)]
            first = tuple(int(i) for i in np.argwhere(~(inside | ~mask))[0])
            raise TautError(
                "data-support",
                site=name,
                source=site.source,
                found=f"{outside.size} of {value.size} values outside, from {outside.min():g} to {outside.max():g}, "
                f"first at {list(first)}",
                expected=f"values in {dist.describe(supports[name])}"
                if name in supports
                else "values within the bounds of the distribution",
                remedy=site.infer.get("remedy")
                or "choose a distribution whose support holds the data, or correct the data",
            )
    masked = frozenset().union(*(program.reach["observed"][n] for n in masks)) if masks else frozenset()
    harmful = {n: where for n, where in bad.items() if f"data:{n}" not in masked and np.isnan(where[1]).any()}
    if not harmful:
        return notes
    # Missing values that the model fills in itself, as in jnp.where(jnp.isnan(y), z, y), never reach the density.
    points = np.random.default_rng(0).normal(size=(8, kernel.dim))
    if np.isfinite(kernel(points, np.ones(kernel.dim))[0]).any():
        return [*notes, *(f"data entry {name!r} holds NaN that the model does not use" for name in harmful)]
    name, (path, array) = next(iter(harmful.items()))
    hit = nonfinite(array)
    assert hit is not None
    raise _nonfinite(name + path, None, array, hit)


def _soft(site: Site, values: np.ndarray) -> str:
    """A note for values between 0 and 1 where 0 or 1 was expected, if they are meant.

    Raises:
        TautError: ``soft-targets`` if nobody said so.
    """
    between = int(np.sum((values > 0) & (values < 1)))
    if "soft-targets" in site.allow:
        return (
            f"{site.name}: {between} targets between 0 and 1 are no data of a Bernoulli: the density is not a "
            "likelihood, and ELBOs are not comparable"
        )
    raise TautError(
        "soft-targets",
        site=site.name,
        source=site.source,
        found=f"{between} of {values.size} values between 0 and 1, from {values.min():g} to {values.max():g}",
        expected="0 or 1, the values of a Bernoulli",
        remedy=site.infer.get("remedy")
        or "binarise: obs=(y > 0.5); or dist.ContinuousBernoulli(logits=...), whose values these are; or, if the "
        f'cross-entropy is meant: taut.sample("{site.name}", ..., allow="soft-targets")',
    )


def _nonfinite_entries(data: Mapping[str, Any]) -> dict[str, tuple[str, np.ndarray]]:
    """For each entry with numbers that are not finite: where in it the first such array is, and the array."""
    found: dict[str, tuple[str, np.ndarray]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(dict(data))[0]:
        if isinstance(leaf, np.ndarray | jax.Array) and nonfinite(leaf) is not None:
            name, where = path[0].key, jax.tree_util.keystr(path[1:])
            if name not in found or not np.isnan(found[name][1]).any():
                found[name] = (where, np.asarray(leaf))
    return found


def _nonfinite(name: str, source: str | None, value: np.ndarray, hit: tuple[int, tuple[int, ...]]) -> TautError:
    nans = int(np.isnan(value).sum())
    kinds = f"{nans} NaN" if nans else f"{hit[0]} infinite"
    return TautError(
        "data-nonfinite",
        site=name,
        source=source,
        found=f"{kinds} of {value.size} values, first at {list(hit[1])}",
        expected="finite numbers",
        remedy="drop those rows, or leave them out of the density: with taut.handlers.mask(mask=~jnp.isnan(y)): ...",
    )


def _like(mask: np.ndarray, value: np.ndarray) -> np.ndarray:
    extra = value.ndim - mask.ndim
    return np.broadcast_to(mask.reshape(mask.shape + (1,) * extra) if mask.ndim and extra > 0 else mask, value.shape)


def _parameters(model: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model).parameters.values())
    except (TypeError, ValueError):
        return []
