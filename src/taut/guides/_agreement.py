"""What a guide and a model must agree on, checked before anything is compiled."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from taut import dist
from taut._errors import TautError
from taut.core import Site
from taut.guides._within import within
from taut.problem import DISCRETE, Latent
from taut.problem import Program as Model


def declared(model: Model, sites: dict[str, Site]) -> dict[str, Site]:
    """The sites of a guide, with continuous draws unknown to the model declared auxiliary where maps are.

    In a guide that has `taut.transformed` sites, and every latent, they can be nothing else.
    """
    mapped = any(site.kind == "transformed" for site in sites.values())
    drawn = {n for n, s in sites.items() if s.kind in ("sample", "transformed")}
    if not mapped or not drawn.issuperset(model.latents):
        return sites
    return {
        n: replace(s, infer={**s.infer, "is_auxiliary": True})
        if s.latent and n not in model.sites and dist.is_continuous(s.fn)
        else s
        for n, s in sites.items()
    }


def check_sites(model: Model, sites: Mapping[str, Site]) -> tuple[str, ...]:
    """Compare a guide's sites with the model's latents.

    Args:
        model: the traced model.
        sites: one abstract run of the guide.

    Returns:
        Latents whose supports could not be compared: their draws must be.

    Raises:
        TautError: ``guide-observed``, ``guide-unknown``, ``guide-deterministic``, ``guide-missing``, ``guide-shape``,
            ``guide-support``, ``guide-auxiliary``, ``duplicate-site``.
    """
    drawn = {n: site for n, site in sites.items() if site.kind in ("sample", "transformed") and not site.auxiliary}
    for site in sites.values():
        if site.auxiliary:
            _check_auxiliary(model, site)
    missing = [name for name in model.latents if name not in drawn]
    for name in missing:
        # What the draws were meant for says more than that nobody knows them.
        if name in sites and sites[name].kind == "deterministic":
            raise _absent(model, sites, name, drawn)
    for name, site in drawn.items():
        if name not in model.latents:
            raise _stranger(model, site, missing)
    for name in missing:
        raise _absent(model, sites, name, drawn)
    for name, site in sites.items():
        if site.kind == "param" and name in model.sites:
            other = model.sites[name]
            raise TautError(
                "duplicate-site",
                site=name,
                source=site.source,
                found=f"param {name!r} in the guide and {other.kind} {name!r} at {other.source}",
                expected="one name per site",
                remedy=f'taut.param("{name}_q", ...)',
            )
    unclear = []
    for name, site in drawn.items():
        _check_shape(model.latents[name], model.sites[name], site)
        if site.kind == "transformed":
            if not isinstance(model.supports.get(name), type(dist.constraints.real)):
                unclear.append(name)
            continue
        verdict = _inside(model, name, site)
        if verdict is None:
            unclear.append(name)
    return tuple(unclear)


def outside(model: Model, name: str, source: str, found: str) -> TautError:
    """The error for a guide that may leave a latent's support."""
    latent = model.latents[name]
    return TautError(
        "guide-support",
        site=name,
        source=source,
        found=found,
        expected=f"values in {latent.support}, the support of {latent.family} in the model ({latent.source})",
        remedy=_FAMILIES.get(
            latent.support.partition("(")[0], "give the guide's site a distribution on that support"
        ).format(name=name),
    )


def _stranger(model: Model, site: Site, missing: list[str]) -> TautError:
    known = model.sites.get(site.name)
    if known is not None and known.observed:
        return TautError(
            "guide-observed",
            site=site.name,
            source=site.source,
            found=f"{site.name!r} is sampled in the guide and observed in the model ({known.source})",
            expected=f"the model's latents only: {', '.join(model.latents)}",
            remedy=f'delete the line taut.sample("{site.name}", ...) from the guide',
        )
    close = difflib.get_close_matches(site.name, missing or list(model.latents), 1)
    return TautError(
        "guide-unknown",
        site=site.name,
        source=site.source,
        found=f"{site.name!r} is sampled in the guide and "
        + (f"a {known.kind} site of the model" if known is not None else "unknown to the model"),
        expected=f"the model's latents: {', '.join(model.latents)}",
        remedy=f"did you mean {close[0]!r}?"
        if close
        else f'delete the line taut.sample("{site.name}", ...)'
        if known is not None or missing
        else f'taut.sample("{site.name}", ..., auxiliary=True) if latents are made of it with taut.transformed; '
        "delete the line otherwise",
    )


def _absent(model: Model, sites: Mapping[str, Site], name: str, drawn: Mapping[str, Site]) -> TautError:
    latent = model.latents[name]
    if name in sites:
        return TautError(
            "guide-deterministic" if sites[name].kind == "deterministic" else "guide-missing",
            site=name,
            source=sites[name].source,
            found=f"{name!r} is a latent of the model ({latent.source}) and a {sites[name].kind} site in the guide",
            expected="a distribution for it, or a function of auxiliary draws that is declared as one",
            remedy=f'taut.transformed("{name}", value), with u = taut.sample("u", ..., auxiliary=True); or '
            f'taut.sample("{name}", dist.Normal(value, scale)), or dist.Delta(value) for a point',
        )
    return TautError(
        "guide-missing",
        site=name,
        source=latent.source,
        found=f"a guide that samples {', '.join(drawn) or 'nothing'}",
        expected=f"all latents of the model: {', '.join(model.latents)}",
        remedy=f'add taut.sample("{name}", ...) of shape {latent.shape} on {latent.support} to the guide',
    )


def _check_auxiliary(model: Model, site: Site) -> None:
    known = model.sites.get(site.name)
    if known is not None and known.observed:
        raise _stranger(model, site, [])
    if known is not None or not dist.is_continuous(site.fn):
        raise TautError(
            "guide-auxiliary",
            site=site.name,
            source=site.source,
            found=f"auxiliary draw {site.name!r}, "
            + (f"which is a site of the model ({known.source})" if known else f"a discrete {type(site.fn).__name__}"),
            expected="continuous draws that the model does not know",
            remedy=f'taut.sample("{site.name}", ...) without auxiliary=True'
            if known
            else f'taut.sample("{site.name}", dist.Normal(0, 1), auxiliary=True)',
        )


def _check_shape(latent: Latent, model: Site, site: Site) -> None:
    if site.kind == "transformed":
        shape, events = tuple(np.shape(site.value)), latent.event_dim
    else:
        shape, events = tuple(site.fn.shape()), site.fn.event_dim
    partial = {p.name for p in site.plates if p.length < p.size}, {p.name for p in model.plates if p.length < p.size}
    if shape == latent.shape and events == latent.event_dim and partial[0] == partial[1]:
        return
    raise TautError(
        "guide-shape",
        site=latent.name,
        source=site.source,
        found=_described(shape, events, site) + " in the guide",
        expected=_described(latent.shape, latent.event_dim, model) + f" as in the model ({latent.source})",
        remedy=_shape_remedy(latent, model, site),
    )


def _shape_remedy(latent: Latent, model: Site, site: Site) -> str:
    absent = [p.name for p in model.plates if p.name not in {q.name for q in site.plates}]
    if absent:
        return f'open the plate in the guide too: with taut.plate("{absent[0]}", {model.plates[0].size}): ...'
    if latent.event_dim:
        batch = latent.shape[: len(latent.shape) - latent.event_dim]
        return f".expand({[*batch, *latent.shape[len(batch) :]]}).to_event({latent.event_dim})"
    return f".expand({list(latent.shape)})" if latent.shape else "a scalar distribution: params of shape ()"


def _described(shape: tuple[int, ...], events: int, site: Site) -> str:
    split = len(shape) - events
    plates = ", ".join(f"{p.name}={p.length}" for p in site.plates) or "none"
    return f"shape {shape} (batch {shape[:split]}, event {shape[split:]}, plates {plates})"


def _inside(model: Model, name: str, site: Site) -> bool | None:
    family = type(site.fn).__name__
    discrete = model.latents[name].transform == DISCRETE
    if dist.is_continuous(site.fn) == discrete:
        kind = "continuous" if discrete else "discrete"
        raise outside(model, name, site.source, f"{family}, whose values are {kind}")
    point = isinstance(_innermost(site.fn), dist.Delta)
    verdict = None if point or name not in model.supports else within(site.fn.support, model.supports[name])
    if verdict is False:
        raise outside(model, name, site.source, f"{family} on {dist.describe(site.fn.support)}")
    return verdict


def _innermost(fn: Any) -> Any:
    while isinstance(fn, dist.Independent | dist.ExpandedDistribution):
        fn = fn.base_dist
    return fn


_FAMILIES = {
    "positive": 'taut.sample("{name}", dist.LogNormal(m, s))',
    "nonnegative": 'taut.sample("{name}", dist.LogNormal(m, s))',
    "greater_than": 'taut.sample("{name}", dist.TransformedDistribution(dist.Normal(m, s), '
    "dist.biject_to(dist.constraints.greater_than(bound))))",
    "unit_interval": 'taut.sample("{name}", dist.Beta(a, b))',
    "interval": 'taut.sample("{name}", dist.TransformedDistribution(dist.Normal(m, s), '
    "dist.biject_to(dist.constraints.interval(low, high))))",
    "simplex": 'taut.sample("{name}", dist.Dirichlet(a))',
}
