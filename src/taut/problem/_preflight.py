"""What can be known before the first step is an error before the first step: one function per check."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from taut import dist
from taut._errors import TautError
from taut.problem._data import nonfinite
from taut.problem._kernel import Kernel
from taut.problem._program import Program


def check_structure(model: Callable[..., Any], data: Mapping[str, Any], program: Program) -> list[str]:
    """Refuse a program with nothing to infer, or with nothing to infer it from.

    Returns:
        Notes for the result: what is unusual but allowed.
    """
    sites = program.sites.values()
    title = getattr(model, "__name__", "model")
    if not program.latents:
        observed = [s.name for s in sites if s.observed]
        raise TautError(
            "no-latents",
            found=f"{title} observes {', '.join(observed) or 'nothing'} and has no latent sites"
            + (f"; its params are {', '.join(program.params)}" if program.params else ""),
            expected="at least one unobserved taut.sample",
            remedy='mu = taut.sample("mu", dist.Normal(0, 10)) for each unknown number',
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


def check_data(arrays: Mapping[str, Any], program: Program, kernel: Kernel) -> None:
    """Refuse data that are not finite, and observations outside of their support; masked entries are left alone."""
    leaves = jax.tree_util.tree_flatten_with_path(dict(arrays))[0]
    bad = {path[0].key: (jax.tree_util.keystr(path[1:]), hit) for path, leaf in leaves if (hit := nonfinite(leaf))}
    supports = {n: c for n, c in program.constraints.items() if not isinstance(c, type(dist.constraints.real))}
    if not bad and not supports:
        return
    fixed = {n for n, reach in program.reach["observed"].items() if all(r.startswith("data:") for r in reach)}
    observed, masks = kernel.constants(("observed", "mask")) if fixed == set(program.outputs["observed"]) else ({}, {})
    for name, value in observed.items():
        site = program.sites[name]
        mask = _like(masks.get(name, np.ones((), bool)), value)
        hit = nonfinite(np.where(mask, value, 0.0)) if np.issubdtype(value.dtype, np.inexact) else None
        if hit is not None:
            raise _nonfinite(name, site.source, value, hit)
        inside = dist.holds(supports[name], value) if name in supports else None
        if inside is not None and not np.all(inside | ~mask):
            outside = value[~(inside | ~mask)]
            first = tuple(int(i) for i in np.argwhere(~(inside | ~mask))[0])
            raise TautError(
                "data-support",
                site=name,
                source=site.source,
                found=f"{outside.size} of {value.size} values outside, from {outside.min():g} to {outside.max():g}, "
                f"first at {list(first)}",
                expected=f"values in {dist.describe(supports[name])}",
                remedy="choose a distribution whose support holds the data, or correct the data",
            )
    masked = frozenset().union(*(program.reach["observed"][n] for n in masks)) if masks else frozenset()
    for name, (path, hit) in bad.items():
        array = next(np.asarray(leaf) for p, leaf in leaves if p[0].key == name and jax.tree_util.keystr(p[1:]) == path)
        if f"data:{name}" not in masked and np.isnan(array).any():
            raise _nonfinite(name + path, None, array, hit)


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
