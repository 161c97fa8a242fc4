"""Handlers that change how much a site counts: scale and mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from taut._errors import TautError
from taut.core import Handler, Site, user_line


class scale(Handler):
    """Multiply log densities by a positive number.

    Args:
        fn: the program.
        scale: the factor; 2 counts every site twice. An array must broadcast to the sites' batch shapes.

    Raises:
        TautError: ``bad-argument`` for a number that is not positive.
    """

    def __init__(self, fn: Callable[..., Any] | None = None, scale: Any = 1.0):
        super().__init__(fn)
        concrete = not isinstance(scale, Tracer)
        if concrete and not np.all(np.asarray(scale) > 0):
            raise TautError(
                "bad-argument",
                site="scale",
                source=user_line(),
                found=f"scale={scale}",
                expected="positive numbers",
                remedy="taut.handlers.scale(model, scale=2.0); to leave sites out, taut.handlers.mask(mask=False)",
            )
        self.factor = scale

    def before(self, site: Site) -> Site:
        """Weigh a site that has a density."""
        if site.kind not in ("sample", "factor"):
            return site
        return replace(site, scale=site.scale * self.factor)


class mask(Handler):
    """Let log densities count only where ``mask`` is true.

    Masked observations may be NaN: neither value nor gradient sees them.

    Args:
        fn: the program.
        mask: booleans that broadcast to the sites' batch shapes.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     with taut.plate("rows", 3), taut.handlers.mask(mask=~jnp.isnan(y)):
        ...         taut.sample("y", dist.Normal(0.0, 1.0), obs=y)
        >>> site = taut.handlers.trace(model).get_trace(np.array([0.5, np.nan, 1.5]))["y"]
        >>> taut.core.log_density(site).shape, bool(jnp.isfinite(taut.core.log_density(site)).all())
        ((3,), True)
    """

    def __init__(self, fn: Callable[..., Any] | None = None, mask: Any = True):
        super().__init__(fn)
        self.mask = mask if isinstance(mask, bool | jax.Array) else np.asarray(mask, bool)

    def before(self, site: Site) -> Site:
        """Restrict a site that has a density."""
        if site.kind not in ("sample", "factor"):
            return site
        return replace(site, mask=self.mask if site.mask is None else jnp.logical_and(site.mask, self.mask))
