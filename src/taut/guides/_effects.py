"""What a guide's parameters and draws have an effect on: read off the traced program, not off names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from taut import dist
from taut._errors import TautError
from taut.core import Site
from taut.problem import Program as Model
from taut.problem import unused_params


class Reach(NamedTuple):
    """For each output of a guide, by site name, the labels that it depends on.

    Attributes:
        values: latents' values on parameters, however.
        objective: latents' values, densities and factors on parameters, smoothly.
        draws: made values on base draws.
    """

    values: Mapping[str, frozenset[str]]
    objective: frozenset[str]
    draws: Mapping[str, frozenset[str]]


def check_effects(model: Model, sites: Mapping[str, Site], reach: Reach) -> None:
    """Refuse parameters without effect, latents that no parameter moves, and factors.

    Raises:
        TautError: ``unused-param``, ``guide-fixed``, ``guide-factor``.
    """
    factors = [s for s in sites.values() if s.kind == "factor"]
    fixed = [n for n in model.latents if not reach.values[n] and "guide-fixed" not in sites[n].allow]
    frozen = "; ".join(f"{n!r} is drawn from {_described(sites[n])}, which depends on no parameter" for n in fixed)
    idle = {
        n: s.source
        for n, s in sites.items()
        if s.kind == "param" and n not in reach.objective and "unused-param" not in s.allow
    }
    if idle:
        raise unused_params(idle, "the objective" + (f" ({frozen})" if fixed else ""))
    if fixed:
        raise _fixed(sites, fixed, frozen, factors)
    if factors:
        first = factors[0]
        raise TautError(
            "guide-factor",
            site=first.name,
            source=first.source,
            found=f"taut.factor({first.name!r}, ...) in a guide",
            expected="taut.sample and taut.param: a factor adds a term to the objective; it cannot change what the "
            "guide samples",
            remedy=f"move taut.factor({first.name!r}, ...) to the model",
        )


def _fixed(sites: Mapping[str, Site], fixed: list[str], frozen: str, factors: list[Site]) -> TautError:
    name, site = fixed[0], sites[fixed[0]]
    params = [n for n, s in sites.items() if s.kind == "param"]
    if factors:
        frozen += (
            f"; factor {factors[0].name!r} ({factors[0].source}) adds a term to the objective, "
            "it cannot change what the guide samples"
        )
    shape = "" if site.fn is None or not site.fn.shape() else f".expand({list(site.fn.shape())})"
    scale = params[0] if params else f'taut.param("{name}_scale", 1.0, constraint=dist.constraints.positive)'
    line = f'taut.sample("{name}", dist.Normal(taut.param("{name}_loc", 0.0), {scale}){shape})'
    return TautError(
        "guide-fixed",
        site=name,
        source=site.source,
        found=frozen,
        expected="a distribution that parameters move",
        remedy=f"{line} or another family; if {name!r} is frozen on purpose: "
        f'taut.{site.kind}("{name}", ..., allow="guide-fixed")',
    )


def check_base(model: Model, sites: Mapping[str, Site], reach: Reach) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which latents are made of base draws, and that all base draws are accounted for.

    Returns:
        Names of base draws, and of points that are made of them without `transformed`.

    Raises:
        TautError: ``guide-auxiliary``, ``guide-map``.
    """
    base = tuple(n for n, s in sites.items() if s.auxiliary)
    pushed = [n for n in model.latents if sites[n].kind == "transformed"]
    points = [n for n in model.latents if n in reach.draws and n not in pushed and reach.draws[n]]
    for name in pushed:
        if not reach.draws[name]:
            raise TautError(
                "guide-map",
                site=name,
                source=sites[name].source,
                found=f"{name!r} is computed from no auxiliary draw",
                expected="a function of the guide's auxiliary draws: a value without one has no density",
                remedy=f'u = taut.sample("u", dist.Normal(0, 1), auxiliary=True); taut.transformed("{name}", f(u))',
            )
    used = frozenset[str]().union(*(reach.draws[n] for n in (*pushed, *points)))
    lost = [n for n in base if n not in used]
    if lost or (pushed and points):
        name = lost[0] if lost else points[0]
        raise TautError(
            "guide-auxiliary",
            site=name,
            source=sites[name].source,
            found=f"auxiliary draw {name!r}, of which no latent is made"
            if lost
            else f"{name!r} is a Delta at a function of auxiliary draws that are transformed too",
            expected="auxiliary draws that taut.transformed turns into latents; what only moves another distribution "
            "makes its density an integral",
            remedy=f'taut.transformed("x", f({name}))' if lost else f'taut.transformed("{name}", value)',
        )
    batches = {n: [(p.name, p.length, p.size) for p in sites[n].plates if p.length < p.size] for n in (*base, *pushed)}
    if pushed and len({str(sorted(rows)) for rows in batches.values()}) > 1:
        raise TautError(
            "guide-auxiliary",
            site=pushed[0],
            source=sites[pushed[0]].source,
            found="auxiliary draws and transformed latents in different subsampled plates",
            expected="both in the same plates",
            remedy="draw the auxiliary site in the plate of the latent",
        )
    return base, tuple(points)


def _described(site: Site) -> str:
    """A distribution as it may be written: ``Uniform(-10, 10)``."""
    if site.fn is None:
        return "auxiliary draws"
    base = dist.unwrapped(site.fn)
    given: list[Any] = [vars(base).get(name) for name in base.arg_constraints]
    known = all(v is not None and not isinstance(v, Tracer) and np.size(v) == 1 for v in given)
    return type(base).__name__ + (f"({', '.join(f'{float(np.ravel(v)[0]):g}' for v in given)})" if known else "")
