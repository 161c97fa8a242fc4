"""A model written with taut's primitives, as NumPyro sees it: every statement is passed on, nothing is restated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpyro

from taut.core import Handler, Site


class _Forward(Handler):
    """Answer every statement of a taut program by NumPyro's.

    Plates are not passed on: by the time a statement gets here, taut's plates have widened its distribution to their
    length, so NumPyro draws and scores the same independent rows.
    """

    def before(self, site: Site) -> Site:
        """Give the site the value that NumPyro's statement of the same name has; no other handler sees it."""
        if site.kind == "plate":
            return site
        return replace(site, value=_state(site), stopped=True)


def as_numpyro(model: Callable[..., Any], data: Mapping[str, Any]) -> Callable[[], None]:
    """A taut model on its data as a NumPyro model without arguments.

    Args:
        model: written with taut's primitives; subsampled plates are not supported.
        data: values by argument name.

    Returns:
        A function that calls `numpyro.sample` and its like, with the model's own names.
    """

    def program() -> None:
        with _Forward():
            model(**data)

    return program


def _state(site: Site) -> Any:
    if site.kind == "sample":
        fn = site.fn if site.mask is None else site.fn.mask(site.mask)
        with numpyro.handlers.scale(scale=site.scale):
            return numpyro.sample(site.name, fn, obs=site.value if site.observed else None)
    if site.kind == "param":
        return numpyro.param(site.name, site.init, constraint=site.fn)
    if site.kind == "deterministic":
        return numpyro.deterministic(site.name, site.value)
    numpyro.factor(site.name, site.value * site.scale if site.mask is None else site.value * site.scale * site.mask)
    return site.value
