"""The log density of one site: the only place where masks and scales are applied."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.nn import log_sigmoid

from taut import dist
from taut._errors import TautError
from taut.core._site import Site


def log_density(site: Site) -> Any:
    r"""What a site adds to the log joint, $s \cdot 1_{\text{mask}} \log p(x)$, over its batch shape, in nats.

    Masked values are replaced by an ordinary point of the support before the density is taken, so that a masked NaN
    leaves both the value and the gradient finite. An observation outside of a support that moves with other values,
    as in ``Uniform(0, theta)``, has density zero.

    Args:
        site: a ``sample`` or ``factor`` site with a value.

    Returns:
        An array of the distribution's batch shape.

    Raises:
        TautError: ``bad-argument`` when the mask or the scale is wider than the site.
    """
    if site.kind == "factor":
        terms = jnp.asarray(site.value)
    elif site.log_density is not None:
        terms = site.log_density
    else:
        value = site.value
        if site.mask is not None and site.observed:
            mask = jnp.asarray(site.mask).reshape(jnp.shape(site.mask) + (1,) * len(site.fn.event_shape))
            value = jnp.where(mask, value, dist.feasible(site.fn))
        terms = _cross_entropy(site.fn, value) if "soft-targets" in site.allow else site.fn.log_prob(value)
        if site.observed and dist.is_moving(site.fn.support):
            terms = jnp.where(dist.contains(site.fn.support, value), terms, -jnp.inf)
    for what, weight in (("mask", site.mask), ("scale", site.scale)):
        _check_width(site, what, weight, jnp.shape(terms))
    if site.mask is not None:
        terms = jnp.where(site.mask, terms, 0.0)
    return terms if isinstance(site.scale, float) and site.scale == 1.0 else terms * site.scale


def _cross_entropy(fn: Any, value: Any) -> Any:
    """A Bernoulli's log density between 0 and 1, where it has none of its own; the same as its own at 0 and 1."""
    base: Any = dist.unwrapped(fn)
    logits = jnp.broadcast_to(base.logits, fn.shape())
    terms = value * log_sigmoid(logits) + (1.0 - value) * log_sigmoid(-logits)
    return jnp.sum(terms, tuple(range(-fn.event_dim, 0))) if fn.event_dim else terms


def _check_width(site: Site, what: str, weight: Any, shape: tuple[int, ...]) -> None:
    found = jnp.shape(weight) if weight is not None else ()
    if len(found) <= len(shape) and all(n in (1, m) for n, m in zip(found[::-1], shape[::-1], strict=False)):
        return
    raise TautError(
        "bad-argument",
        site=site.name,
        source=site.source,
        found=f"a {what} of shape {found} over a site of batch shape {shape}",
        expected=f"a {what} that broadcasts to {shape}",
        remedy=f"open the {what} handler inside the plate that its rows belong to, around this site alone",
    )
