"""Handlers that give sites their values: replay, substitute, condition, do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from taut.core import Handler, Site


class replay(Handler):
    """Run a program at the latent values, and the plate rows, of a recorded run.

    Args:
        fn: the program.
        trace: a `Trace`; its latent ``sample`` sites and its plates are reused where the names match.
    """

    def __init__(self, fn: Callable[..., Any] | None = None, trace: Mapping[str, Site] | None = None):
        super().__init__(fn)
        self.trace = dict(trace or {})

    def before(self, site: Site) -> Site:
        """Take the recorded value."""
        recorded = self.trace.get(site.name)
        if recorded is None or site.value is not None or recorded.kind != site.kind:
            return site
        return replace(site, value=recorded.value) if site.latent or site.kind == "plate" else site


class substitute(Handler):
    """Run a program at given values of latents and parameters; they stay latents and parameters.

    Args:
        fn: the program.
        data: values by site name, in the model's own space.
    """

    def __init__(self, fn: Callable[..., Any] | None = None, data: Mapping[str, Any] | None = None):
        super().__init__(fn)
        self.data = dict(data or {})

    def before(self, site: Site) -> Site:
        """Take the given value."""
        if site.name in self.data and site.value is None and site.kind in ("sample", "param"):
            return replace(site, value=self.data[site.name])
        return site


class condition(Handler):
    """Observe latent sites: they keep their density and become data.

    Args:
        fn: the program.
        data: observed values by site name.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model():
        ...     return taut.sample("x", dist.Normal(0.0, 1.0))
        >>> taut.handlers.condition(model, {"x": 2.0})()
        2.0
    """

    def __init__(self, fn: Callable[..., Any] | None = None, data: Mapping[str, Any] | None = None):
        super().__init__(fn)
        self.data = dict(data or {})

    def before(self, site: Site) -> Site:
        """Turn a latent into an observation."""
        if site.name in self.data and site.latent:
            return replace(site, value=self.data[site.name], observed=True)
        return site


class do(Handler):
    """Intervene: a site takes a value from outside and stops being random (Pearl's do-operator).

    Args:
        fn: the program.
        data: values by site name; the sites' densities no longer count.
    """

    def __init__(self, fn: Callable[..., Any] | None = None, data: Mapping[str, Any] | None = None):
        super().__init__(fn)
        self.data = dict(data or {})

    def before(self, site: Site) -> Site:
        """Turn a random site into a given quantity."""
        if site.name in self.data and site.kind == "sample":
            return replace(site, kind="deterministic", value=self.data[site.name], observed=False)
        return site
