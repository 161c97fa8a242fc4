"""Finite supports: how many values a discrete latent can take, and which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from taut import dist
from taut._precision import real_dtype
from taut.core import Site, log_density

# Outputs of a program that are about sums over its discrete latents alone.
ABOUT_SUMS = ("loose", "weight", "volume", "volume_terms", "low", "count")


class Finite(NamedTuple):
    """The whole numbers from ``low`` on, ``count`` of them; both may differ by element."""

    low: Any
    count: Any


def loosened(fn: Any) -> Any:
    """The distribution with the dimensions that `to_event` glued together apart again."""
    while isinstance(fn, dist.Independent):
        fn = fn.base_dist
    return fn


def finite(support: Any) -> Finite | None:
    """What a support holds, if it is a finite run of whole numbers for each element; ``None`` otherwise."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if support is dist.constraints.boolean or dist.describe(support) == "boolean":
        return Finite(0, 2)
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if low is None or high is None or not getattr(support, "is_discrete", False):
        return None
    if isinstance(low, Tracer) or isinstance(high, Tracer):
        return Finite(low, jnp.subtract(high, low) + 1)
    return Finite(np.asarray(low), np.subtract(high, low) + 1)


def loose_terms(site: Site, count: Any = None) -> tuple[Any, Any]:
    """The log density of a site by element, without weights, and its weights.

    Args:
        site: a site with a value; one of a loop when the loop has run.
        count: how many values each element can take, where these are summed over: a masked element takes no part, so
            it is uniform and summing over it adds nothing.

    Returns:
        Terms, over the batch shape with the dimensions of `to_event` apart, and what they are multiplied with.
    """
    scale, fn, mask = site.scale, site.fn, site.mask
    if isinstance(fn, dist.Late):
        value = jnp.flip(site.value, 0) if fn.reverse else site.value
        scale = scale if fn.scale is None else scale * fn.scale
        assert fn.known is not None, "asked before the loop had run"
        fn, inside = dist.without_masks(fn.known)
        mask = inside if mask is None else mask if inside is None else jnp.logical_and(mask, inside)
        site = replace(site, value=value)
    if fn is not None:
        glued = (1,) * (len(fn.event_shape) - len(loosened(fn).event_shape))
        mask = None if mask is None else jnp.reshape(mask, jnp.shape(mask) + glued)
        scale = scale if isinstance(scale, float | int) else jnp.reshape(scale, jnp.shape(scale) + glued)
        fn = loosened(fn)
    terms = log_density(replace(site, fn=fn, mask=mask, scale=1.0, log_density=None))
    if mask is not None and count is not None:
        terms = jnp.where(mask, terms, -jnp.log(jnp.asarray(count, real_dtype())))
    return terms, scale


def loose_outputs(kept: Mapping[str, tuple[Site, Any]], supports: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What sums over discrete latents are made of, by group and name; nothing without discrete latents.

    Args:
        kept: sites with a density, and the density of their coordinate where they have one.
        supports: of the discrete latents.

    Returns:
        ``"loose"`` terms and their ``"weight"``; ``"volume"`` and its terms: what the coordinate adds; ``"low"`` and
        ``"count"`` of discrete latents.
    """
    if not supports:
        return {}
    groups: dict[str, dict[str, Any]] = {name: {} for name in ABOUT_SUMS}
    for name, support in supports.items():
        within = finite(support)
        if within is not None:
            groups["low"][name], groups["count"][name] = jnp.asarray(within.low), jnp.asarray(within.count)
    for name, (site, terms) in kept.items():
        groups["loose"][name], weight = loose_terms(site, groups["count"].get(name))
        groups["weight"][name] = jnp.asarray(weight, real_dtype())
        if terms is not None:
            volume = terms - log_density(replace(site, log_density=None))
            groups["volume"][name] = jnp.sum(volume)
            if site.plates:
                groups["volume_terms"][name] = volume
    return groups
