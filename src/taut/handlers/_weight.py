"""Handlers that change how much a site counts: scale and mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from taut._errors import TautError
from taut.core import Handler, Site, user_line


class scale(Handler):
    """Multiply log densities by a positive number.

    Args:
        fn: the program.
        scale: the factor; 2 counts every site twice.
    """

    def __init__(self, fn: Callable[..., Any] | None = None, scale: Any = 1.0):
        super().__init__(fn)
        if isinstance(scale, int | float) and scale <= 0:
            raise TautError(
                "bad-argument",
                site="scale",
                source=user_line(),
                found=f"scale={scale}",
                expected="a positive number",
                remedy="taut.handlers.scale(model, scale=2.0), or taut.handlers.mask(model, mask=False) to leave sites out",
            )
        self.factor = scale

    def before(self, site: Site) -> Site:
        """Weigh a site that has a density."""
        return replace(site, scale=site.scale * self.factor) if site.kind in ("sample", "factor") else site


class mask(Handler):
    """Let log densities count only where ``mask`` is true.

    Masked observations may be NaN: neither value nor gradient sees them.

    Args:
        fn: the program.
        mask: booleans that broadcast with the sites' batch shapes.
    """

    def __init__(self, fn: Callable[..., Any] | None = None, mask: Any = True):
        super().__init__(fn)
        self.mask = mask

    def before(self, site: Site) -> Site:
        """Restrict a site that has a density."""
        if site.kind not in ("sample", "factor"):
            return site
        return replace(site, mask=self.mask if site.mask is None else site.mask & self.mask)
