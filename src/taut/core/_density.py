"""The log density of one site: the only place where masks and scales are applied."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from taut import dist
from taut.core._site import Site


def log_density(site: Site) -> Any:
    r"""What a site adds to the log joint, $s \cdot 1_{\text{mask}} \log p(x)$, over its batch shape, in nats.

    Masked values are replaced by an ordinary point of the support before the density is taken, so that a masked NaN
    leaves both the value and the gradient finite.

    Args:
        site: a ``sample`` or ``factor`` site with a value.

    Returns:
        An array of the distribution's batch shape.
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
        terms = site.fn.log_prob(value)
    if site.mask is not None:
        terms = jnp.where(site.mask, terms, 0.0)
    return terms if isinstance(site.scale, float) and site.scale == 1.0 else terms * site.scale
