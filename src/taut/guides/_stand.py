"""How a guide's program is run: at which rows, parameters and values, and with which of the data."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from taut import dist
from taut._errors import TautError
from taut.core import Handler, Site
from taut.problem import Program as Model
from taut.problem import unconstrained_init


class Stand(Handler):
    """Stand a guide at given rows, parameters and values; refuse what has no place in a guide."""

    def __init__(
        self,
        plates: Mapping[str, int],
        rows: Mapping[str, Any],
        key: Any,
        params: Mapping[str, Any] | None,
        values: Mapping[str, Any],
        batched: frozenset[str] = frozenset(),
    ):
        super().__init__()
        self.batched = batched
        self.plates = plates
        self.rows = rows
        self.key = key
        self.params = params
        self.values = values
        self.count = 0

    def before(self, site: Site) -> Site:
        if site.kind == "plate":
            return self._plate(site)
        if site.kind == "param":
            return self._param(site)
        if site.kind == "sample" and site.observed:
            raise TautError(
                "guide-observed",
                site=site.name,
                source=site.source,
                found=f"taut.sample({site.name!r}, ..., obs=...) in the guide",
                expected="latents only: data belong to the model",
                remedy=f"delete the line taut.sample({site.name!r}, ...) from the guide",
            )
        if site.kind == "sample" and site.value is None:
            if site.name in self.values:
                return replace(site, value=self.values[site.name])
            return replace(site, key=self._next_key()) if self.key is not None else site
        return site

    def after(self, site: Site) -> Site:
        """Cut the path through draws that do not follow their parameters: part of it would be no gradient."""
        if site.kind == "sample" and not site.fn.has_rsample and site.name not in self.values:
            return replace(site, value=dist.follow(site.fn, site.value))
        return site

    def _plate(self, site: Site) -> Site:
        name, frame = site.name, site.fn
        size = self.plates.get(name)
        rows = self.rows.get(name)
        if rows is not None and rows.shape[0] == frame.length and name in self.batched:
            # A batch's data reach the guide too: its plate is as long as they are, and stands for all rows.
            return replace(site, value=rows, fn=frame._replace(size=size))
        if size is None and frame.length < frame.size:
            close = difflib.get_close_matches(name, self.plates, 1)
            raise TautError(
                "guide-unknown",
                site=name,
                source=site.source,
                found=f"plate {name!r} draws {frame.length} of {frame.size} rows; the model has no plate of that name",
                expected=f"one of the model's plates: {', '.join(self.plates) or 'it has none'}",
                remedy=f"did you mean {close[0]!r}?" if close else f'taut.plate("{name}", {frame.size})',
            )
        if size is not None and size != frame.size:
            raise TautError(
                "plate-reuse",
                site=name,
                source=site.source,
                found=f"plate {name!r} of size {frame.size} in the guide and {size} in the model",
                expected="one size",
                remedy=f'taut.plate("{name}", {size})',
            )
        return replace(site, value=self.rows[name] if name in self.rows else np.arange(frame.size))

    def _param(self, site: Site) -> Site:
        site = replace(site, key=self._next_key() if callable(site.init) else None)
        transform = dist.unconstrainer(site.fn)
        if self.params is not None and transform is not None:
            return replace(site, value=transform(self.params[site.name]))
        transform, init, start = unconstrained_init(site)
        return replace(site, value=init, infer={"start": start, "transform": type(transform).__name__})

    def _next_key(self) -> Any:
        self.count += 1
        return None if self.key is None else jax.random.fold_in(self.key, self.count)


def plates_of(program: Model) -> dict[str, int]:
    return {frame.name: frame.size for site in program.sites.values() for frame in site.plates}


def batched_plates(program: Model) -> frozenset[str]:
    return frozenset(name for name, site in program.sites.items() if site.infer.get("batch"))


def taken(fn: Callable[..., Any], known: Mapping[str, Any]) -> list[str]:
    """The arguments that a guide takes of those that there are."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return list(known)
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return list(known)
    for p in parameters:
        if p.name not in known and p.default is p.empty and p.kind is not p.VAR_POSITIONAL:
            close = difflib.get_close_matches(p.name, known, 1)
            raise TautError(
                "data-missing",
                site=p.name,
                found=f"data for {', '.join(known) or 'nothing'}",
                expected=f"a value for the guide's argument {p.name!r}",
                remedy=f"rename it to {close[0]!r}" if close else f"leave {p.name!r} out of the guide's arguments",
            )
    return [p.name for p in parameters if p.name in known]
