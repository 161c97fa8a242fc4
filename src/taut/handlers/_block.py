"""block: hide sites from the handlers further out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from taut.core import Handler, Site


class block(Handler):
    """Hide sites from every handler outside of this one.

    Args:
        fn: the program.
        hide_fn: a function of the site that says whether to hide it.
        hide: names to hide; with neither ``hide_fn``, ``hide`` nor ``expose`` every site is hidden.
        expose: names to leave visible; all others are hidden.
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        hide_fn: Callable[[Site], bool] | None = None,
        hide: Iterable[str] | None = None,
        expose: Iterable[str] | None = None,
    ):
        super().__init__(fn)
        self.hide = _names(hide)
        self.expose = _names(expose)
        self.hide_fn = hide_fn

    def before(self, site: Site) -> Site:
        """Stop a hidden site here."""
        if self.hide_fn is not None:
            hidden = self.hide_fn(site)
        elif self.hide is not None:
            hidden = site.name in self.hide
        else:
            hidden = self.expose is None or site.name not in self.expose
        return replace(site, stopped=True) if hidden else site


def _names(names: Iterable[str] | None) -> frozenset[str] | None:
    if names is None:
        return None
    return frozenset((names,) if isinstance(names, str) else names)
