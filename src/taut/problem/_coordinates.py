"""Latents on the real line: which coordinate each is written in, and its density there."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from taut import dist
from taut._errors import TautError
from taut._precision import real_dtype
from taut.core import Handler, Site, log_density, param
from taut.problem._arguments import Argument, constrained
from taut.problem._finite import loose_outputs
from taut.problem._holes import hole
from taut.problem._owned import check_owned

CENTREDNESS = "/centredness"

# The "transform" of a latent without coordinates: only a guide that draws it can hold it.
DISCRETE = "discrete"


@dataclass(frozen=True)
class Latent:
    """One latent as inference sees it.

    Attributes:
        name: the site's name.
        shape: shape of its value.
        coordinate_shape: shape of its unconstrained coordinate.
        support: its support in a word.
        transform: name of the map from the real line.
        plates: names of the plates it stands in.
        movable: it is a location-scale family whose scale is computed, so it may be centred or not.
        hierarchical: that scale depends on other latents.
        family: name of its distribution.
        source: the user's line.
        event_dim: how many trailing dimensions belong to one draw; those before are batch dimensions.
    """

    name: str
    shape: tuple[int, ...]
    coordinate_shape: tuple[int, ...]
    support: str
    transform: str
    plates: tuple[str, ...]
    movable: bool
    hierarchical: bool
    family: str
    source: str
    event_dim: int = 0

    @property
    def size(self) -> int:
        """How many unconstrained coordinates it has."""
        return math.prod(self.coordinate_shape)


@dataclass(frozen=True)
class Param:
    """One learned parameter of the model: name, shape, constraint, and how many coordinates it has."""

    name: str
    shape: tuple[int, ...]
    coordinate_shape: tuple[int, ...]
    support: str
    transform: str
    source: str

    @property
    def size(self) -> int:
        """How many unconstrained coordinates it has."""
        return math.prod(self.coordinate_shape)


class Coordinates(Handler):
    """Give every latent and parameter a hole on the real line, and keep the densities that follow.

    For a latent $x = T(u)$ the density of the coordinate is $p(T(u)) |\\det T'(u)|$; a hierarchical location-scale
    latent uses the coordinate of `taut.dist.LocationScale` instead. The map is rebuilt in every evaluation, so supports
    may depend on other latents.

    Discrete latents have no coordinates: their values come from a guide, or are summed over.

    Args:
        anchored: latents whose coordinate must not follow their location and scale, which depend on what is summed
            over.
        bare: latents under a mask whose masked rows are read by others: their prior there is flat.
    """

    def __init__(self, anchored: Collection[str] = (), bare: Collection[str] = ()) -> None:
        super().__init__()
        self.anchored = anchored
        self.bare = bare
        self.masked: dict[str, Any] = {}
        self.latents: dict[str, Latent] = {}
        self.params: dict[str, Param] = {}
        self.inits: dict[str, Any] = {}
        self.scales: dict[str, Any] = {}
        self.locations: dict[str, Any] = {}
        self.forms: dict[str, dist.LocationScale] = {}
        self.constraints: dict[str, Any] = {}
        self.densities: dict[str, Any] = {}
        self.plain: dict[str, Any] = {}
        self.terms: dict[str, Any] = {}
        self.plain_terms: dict[str, Any] = {}
        self.held: dict[str, Any] = {}
        self.supports: dict[str, Any] = {}
        self.inside: dict[str, Any] = {}
        self.chosen: dict[str, Any] = {}
        self.probs: dict[str, Any] = {}
        self.arguments: list[Argument] = []
        self.learned: dict[str, Site] = {}
        self.pending: dict[str, tuple[Site, dist.Chart | None, Any]] = {}
        self.kept: dict[str, tuple[Site, Any]] = {}

    def before(self, site: Site) -> Site:
        """Move a latent or a parameter to its coordinate."""
        if site.kind == "transformed":
            raise TautError(
                "bad-argument",
                site=site.name,
                source=site.source,
                found=f"taut.transformed({site.name!r}, ...) in a model",
                expected="a distribution; transformed belongs in guides",
                remedy=f'taut.deterministic("{site.name}", value) for a computed quantity',
            )
        if site.latent and site.value is None:
            return self._latent(site)
        if site.kind == "param" and site.value is None:
            return self._param(site)
        return site

    def after(self, site: Site) -> Site:
        """Check an observation against its distribution and keep its density."""
        if site.kind == "sample":
            self.arguments += constrained(site)
        if site.kind == "sample" and site.observed:
            _check_shape(site)
        check_owned(site)
        if site.kind == "sample" and site.observed:
            self.constraints[site.name] = site.fn.support
            if dist.is_moving(site.fn.support):
                self.held[site.name] = dist.contains(site.fn.support, site.value)
            probs = vars(dist.unwrapped(site.fn)).get("probs")
            if probs is not None:
                self.probs[site.name] = jnp.asarray(probs)
        # A latent that the program itself gives a value (a `substitute` inside of it) keeps its density.
        if site.kind == "factor" or (site.kind == "sample" and site.name not in self.latents):
            terms = log_density(site)
            self.densities[site.name] = self.plain[site.name] = jnp.sum(terms)
            self._keep_terms(site, terms, terms)
            self.kept[site.name] = (site, None)
        return site

    def outputs(self, sites: Mapping[str, Site]) -> dict[str, dict[str, Any]]:
        """What the traced program returns, by group and name."""
        for name, (site, chart, u) in self.pending.items():
            plain = log_density(site)
            terms = plain if chart is None else self._moved(site, chart, u)
            self.densities[name], self.plain[name] = jnp.sum(terms), jnp.sum(plain)
            self._keep_terms(site, terms, plain)
            self.kept[name] = (site, None if chart is None else terms)
        values = {n: s.value for n, s in sites.items() if s.latent or s.kind == "deterministic"}
        observed = {n: s for n, s in sites.items() if s.kind == "sample" and s.observed}
        drawn = [name for name, latent in self.latents.items() if latent.transform == DISCRETE]
        return {
            "density": self.densities,
            "plain": self.plain,
            "density_terms": self.terms,
            "plain_terms": self.plain_terms,
            **loose_outputs(self.kept, {n: self.supports[n] for n in drawn}),
            "value": values,
            "param": {n: s.value for n, s in sites.items() if s.kind == "param"},
            "init": self.inits,
            "scale": self.scales,
            "location": self.locations,
            # Of every location-scale prior that is computed, whether its coordinate moves or not.
            "prior_location": {n: form.loc for n, form in self.forms.items()},
            "prior_scale": {n: form.scale for n, form in self.forms.items()},
            "observed": {n: s.value for n, s in observed.items()},
            "mask": {n: s.mask for n, s in observed.items() if s.mask is not None},
            # Whether observed values lie in supports whose bounds are computed.
            "held": self.held,
            # Rows of subsampled plates, so that a guide can stand at the model's rows.
            "rows": {n: s.value for n, s in sites.items() if s.kind == "plate" and isinstance(s.value, Tracer)},
            "inside": self.inside,
            # Which rows of latents have a prior.
            "masked": self.masked,
            # Where values stand in coordinates that a handler chose.
            "coordinate": self.chosen,
            "probs": self.probs,
            # Distributions' arguments by their place in `arguments`.
            "argument": {str(place): argument.value for place, argument in enumerate(self.arguments)},
        }

    def _latent(self, site: Site) -> Site:
        fn = site.fn
        if dist.unwrapped(fn).is_discrete:
            return self._discrete(site)
        refusal = dist.latent_refusal(fn)
        if refusal is not None:
            code, found, expected, remedy = refusal
            raise TautError(code, site=site.name, source=site.source, found=found, expected=expected, remedy=remedy)
        # Each row of a subsampled plate stands for several; a weight of any other kind keeps the site as it is.
        rows = math.prod(p.size / p.length for p in site.plates)
        plain = site.mask is None and isinstance(site.scale, float) and math.isclose(site.scale, rows, rel_tol=1e-12)
        form = dist.location_scale(fn) if plain and site.coordinate is None else None
        movable = form is not None and form.computed[1] and site.name not in self.anchored
        base = dist.unwrapped(fn)
        chart = dist.usual_chart(fn) if site.coordinate is None else site.coordinate(site, partial(_learned, site))
        if chart is None:
            raise TautError(
                "no-transform",
                site=site.name,
                source=site.source,
                found=f"{type(base).__name__} on {dist.describe(fn.support)}",
                expected="a support that the real line can be mapped onto",
                remedy="write the site as a function of unconstrained sites: taut.deterministic("
                f'"{site.name}", f(z)) with z = taut.sample("z", dist.Normal(0, 1))',
            )
        shape = chart.shape
        u = hole(site.name, shape, real_dtype())
        terms: Any = None
        if form is not None and any(form.computed):
            self.forms[site.name] = form
        if form is not None and movable:
            centredness = hole(site.name + CENTREDNESS, shape, real_dtype())
            value = form.value(u, centredness)
            terms = form.log_density(u, centredness)
            terms = terms if rows == 1.0 else terms * rows
            self.scales[site.name] = form.scale
            self.locations[site.name] = form.loc
        else:
            value = chart.value(u)
            if chart.direct is not None and plain:
                terms = chart.direct(u) if rows == 1.0 else chart.direct(u) * rows
            elif not isinstance(fn, dist.Late):
                terms = self._moved(replace(site, value=value), chart, u)
        self.latents[site.name] = Latent(
            name=site.name,
            shape=tuple(fn.shape()),
            coordinate_shape=shape,
            support=chart.support,
            transform=chart.title,
            plates=tuple(p.name for p in site.plates),
            movable=movable,
            hierarchical=False,
            family=type(base).__name__,
            source=site.source,
            event_dim=fn.event_dim,
        )
        self.supports[site.name] = fn.support
        if site.coordinate is not None:
            self.chosen[site.name] = chart.inverse(value)
        # Whether a value from elsewhere (a guide's draw) lies in the support, which may depend on other latents.
        self.inside[site.name] = jnp.all(dist.contains(fn.support, value))
        if isinstance(fn, dist.Late):
            # Its density is known when the loop that it stands in has run: see `outputs`.
            self.pending[site.name] = (replace(site, value=value), chart, u)
            return replace(site, value=value)
        density, plain = jnp.sum(terms), log_density(replace(site, value=value))
        self.densities[site.name] = density
        self.plain[site.name] = jnp.sum(plain)
        self._keep_terms(site, terms, plain)
        self.kept[site.name] = (replace(site, value=value), terms)
        return replace(site, value=value, log_density=density)

    def _moved(self, site: Site, chart: dist.Chart, u: Any) -> Any:
        """The log density of the coordinate over the site's batch shape, masked rows included."""
        terms = _moved_density(site, chart, u)
        if site.mask is None:
            return terms
        self.masked[site.name] = jnp.broadcast_to(jnp.asarray(site.mask, bool), site.fn.batch_shape)
        if site.name in self.bare:
            return terms
        # Masked rows take no part: a standard normal coordinate keeps the posterior proper and the evidence what it is.
        rows = math.prod(p.size / p.length for p in site.plates)
        rest = dist.Normal(0.0, 1.0).log_prob(u)
        return jnp.where(site.mask, terms, rest.sum(tuple(range(len(site.fn.batch_shape), rest.ndim))) * rows)

    def _keep_terms(self, site: Site, terms: Any, plain: Any) -> None:
        """Densities before they are summed, for bounds that take their logarithms row by row."""
        if site.plates:
            self.terms[site.name], self.plain_terms[site.name] = terms, plain

    def _discrete(self, site: Site) -> Site:
        fn = site.fn
        # The empty hole ties the site to its name in the program; its value is always given.
        value = jnp.zeros(fn.shape(), int) + jnp.sum(hole(site.name, (0,), real_dtype())).astype(int)
        self.latents[site.name] = Latent(
            name=site.name,
            shape=tuple(fn.shape()),
            coordinate_shape=(0,),
            support=dist.describe(fn.support),
            transform=DISCRETE,
            plates=tuple(p.name for p in site.plates),
            movable=False,
            hierarchical=False,
            family=type(dist.unwrapped(fn)).__name__,
            source=site.source,
            event_dim=fn.event_dim,
        )
        self.supports[site.name] = fn.support
        self.inside[site.name] = jnp.all(dist.contains(fn.support, value))
        site = replace(site, value=value)
        if isinstance(fn, dist.Late):
            self.pending[site.name] = (site, None, None)
            return site
        density = log_density(site)
        self.densities[site.name] = self.plain[site.name] = jnp.sum(density)
        self._keep_terms(site, density, density)
        self.kept[site.name] = (site, None)
        return replace(site, log_density=density)

    def _param(self, site: Site) -> Site:
        transform, init, start = unconstrained_init(site)
        self.inits[site.name] = start
        self.learned[site.name] = site
        self.params[site.name] = Param(
            site.name, tuple(init.shape), tuple(start.shape), dist.describe(site.fn), _title(transform), site.source
        )
        return replace(site, value=transform(hole(site.name, start.shape, real_dtype())))


def unconstrained_init(site: Site) -> tuple[Any, Any, Any]:
    """The map onto a parameter's constraint, its initial value, and that value on the real line.

    Raises:
        TautError: ``param-init`` without an initial value inside a constraint that can be mapped onto.
    """
    transform = dist.unconstrainer(site.fn)
    init = site.init(site.key) if callable(site.init) else site.init
    if transform is None or init is None:
        raise TautError(
            "param-init",
            site=site.name,
            source=site.source,
            found="no initial value" if init is None else f"the constraint {dist.describe(site.fn)}",
            expected="an initial value, and a constraint that the real line can be mapped onto",
            remedy=f'taut.param("{site.name}", 1.0, constraint=dist.constraints.positive)',
        )
    if not isinstance(init, Tracer) and not bool(np.all(dist.contains(site.fn, np.asarray(init)))):
        raise TautError(
            "param-init",
            site=site.name,
            source=site.source,
            found=f"initial value {np.asarray(init).ravel()[0]:g}",
            expected=f"values inside {dist.describe(site.fn)}",
            remedy=f'taut.param("{site.name}", 1.0, constraint=...) with a value inside the constraint',
        )
    init = jnp.asarray(init, real_dtype())
    return transform, init, transform.inv(init)


def _learned(site: Site, ending: str, init: float, constraint: Any) -> Any:
    """A parameter that a latent's coordinates have."""
    return param(f"{site.name}_{ending}", init, constraint=constraint)


def _moved_density(site: Site, chart: dist.Chart, u: Any) -> Any:
    """The log density of the coordinate ``u`` over the site's batch shape."""
    batch = len(site.fn.batch_shape)
    # Rows of a subsampled plate stand for size/length rows each, Jacobian included; a `scale` handler tempers the
    # density alone.
    rows = math.prod(p.size / p.length for p in site.plates)
    volume = chart.volume(u, site.value)
    return log_density(site) + volume.sum(tuple(range(batch, volume.ndim))) * rows


def _check_shape(site: Site) -> None:
    found, expected = np.shape(site.value), tuple(site.fn.shape())
    if found == expected:
        return
    plates = ", ".join(f"{p.name}={p.length}" for p in site.plates) or "none"
    squeezed = tuple(n for n in found if n != 1)
    raise TautError(
        "data-shape",
        site=site.name,
        source=site.source,
        found=f"observed value of shape {found}",
        expected=f"shape {expected}: batch {tuple(site.fn.batch_shape)}, event {tuple(site.fn.event_shape)}, "
        f"plates {plates}",
        remedy="obs=y.reshape(-1)"
        if squeezed == expected
        else f"give the distribution the data's shape, for example .expand({list(found)})",
    )


def _title(transform: Any) -> str:
    return type(transform).__name__.removesuffix("Transform").lower() or "identity"
