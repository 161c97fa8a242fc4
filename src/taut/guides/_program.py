"""A guide written with the primitives: its draws live in the model's own space."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from taut import dist
from taut._errors import TautError, TautWarning
from taut._keys import jax_key
from taut._precision import scope
from taut.core import Site, log_density, warn
from taut.guides._agreement import outside
from taut.guides._binding import FIRST_DRAWS, Binding, Start, start
from taut.guides._binding import bind as bind_function
from taut.guides._guide import Guide
from taut.guides._pushforward import Map, check_map, look
from taut.handlers import Trace
from taut.problem import Problem, constrained, count_compilation, no_side_effects
from taut.problem import Program as Model


@dataclass(frozen=True, eq=False)
class Program(Guide):
    r"""A guide written by hand: a function that draws every latent with `taut.sample` and learns its `taut.param`.

    Its arguments are matched by name with the model's data, of which it may take some or none. Plates that the model
    subsamples yield the model's rows. Draws are in the model's own space and need no Jacobian. It must be bound to a
    problem before it can be drawn from: `bind` runs and checks it.

    Args:
        fn: the function.
        binding: how it stands to a problem; given by `bind`.

    Example:
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> def guide():
        ...     scale = taut.param("scale", 1.0, constraint=dist.constraints.positive)
        ...     taut.sample("mu", dist.Normal(taut.param("loc", 0.0), scale))
        >>> problem = taut.Problem(model, dict(y=10.0))
        >>> sorted(taut.guides.Program(guide).bind(problem).init(problem, key=0))
        ['loc', 'scale']
    """

    fn: Callable[..., Any]
    binding: Binding | None = field(default=None, repr=False)

    @property
    def follows_rows(self) -> bool:
        """See `Guide`."""
        return True

    def __hash__(self) -> int:
        return hash(self.fn if self.binding is None else self.binding.digest)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return False
        if self.binding is None or other.binding is None:
            return self.binding is other.binding and self.fn == other.fn
        return self.binding.digest == other.binding.digest

    def bind(self, problem: Problem) -> Program:
        """The guide on a problem: run twice, abstractly, and checked against the model.

        Raises:
            TautError: ``guide-observed``, ``guide-missing``, ``guide-unknown``, ``guide-shape``, ``guide-support``,
                ``guide-deterministic``, ``bad-argument``, ``param-init``, ``data-missing``, ``side-effect``.
        """
        known = _BOUND.setdefault(problem, {})
        if self.fn not in known:
            with scope(problem.precision), no_side_effects(self.fn, {}):
                known[self.fn] = replace(self, binding=bind_function(self.fn, problem))
        return known[self.fn]

    @property
    def still(self) -> dict[str, str]:
        """Sites whose draws do not follow their parameters smoothly, with their families.

        Mixtures follow their components, not their weights.
        """
        return self._bound().still

    def still_log_prob(self, program: Model, params: Mapping[str, Any], key: jax.Array, inputs: Any = None) -> Any:
        """See `Guide`."""
        sites = self._bound().run(program, _needed(inputs), key=key, params=params)
        return sum((jnp.sum(_score(sites[name])) for name in self.still), jnp.zeros(()))

    def still_log_prob_by_site(
        self, program: Model, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any]:
        """See `Guide`."""
        sites = self._bound().run(program, _needed(inputs), params=params, values=point)
        return {name: _score(sites[name]) for name in self.still}

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """Initial values on the real line; first draws at these are checked against the model's supports."""
        bound = self.bind(problem)._bound()
        with scope(problem.precision):
            words = jax.random.key_data(jax_key(key))
            params, inside = start(Start(bound), problem.program, problem.inputs, words)
        for name, flags in inside.items():
            if not np.all(flags):
                site = bound.sites[name]
                family = "the map" if site.fn is None else site.fn.__name__
                found = f"{int(np.sum(~np.asarray(flags)))} of {FIRST_DRAWS} first draws of {family} outside"
                raise outside(problem.program, name, site.source, found)
        if bound.pushed or bound.points:
            with scope(problem.precision):
                self._look(problem, bound, params, words)
        return {name: np.asarray(value) for name, value in params.items()}

    def sample_and_log_prob(
        self, program: Model, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[dict[str, Any], Any]:
        """See `Guide`."""
        bound = self._bound()
        sites = bound.run(program, _needed(inputs), key=key, params=params)
        point = {name: sites[name].value for name in (*program.latents, *bound.base)}
        return point, _log_q(program, sites) + self._less(program, inputs, params, sites, point)

    def log_prob(self, program: Model, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`; latents alone will do.

        With `transformed` latents the base draws that lead to them under ``params`` are looked for from the auxiliary
        draws in the point, or without these from several draws of the guide.

        Raises:
            TautError: ``guide-map`` where none are found, or more than one; inside of a compilation the density is NaN
                there.
        """
        bound = self._bound()
        absent = [name for name in bound.base if name not in point]
        if absent and bound.points:
            raise TautError(
                "bad-argument",
                site=absent[0],
                source=bound.sites[absent[0]].source,
                found=f"a point without the auxiliary draw {absent[0]!r}",
                expected="the draws that the points dist.Delta(...) are made of, whose map has no density of its own",
                remedy=f'taut.transformed("{bound.points[0]}", value) in place of dist.Delta(value)',
            )
        # What is drawn here is replaced by what is found; keys give it a shape, and the search its beginnings.
        values, key = dict(point), jax.random.key(0) if absent else None
        sites = bound.run(program, _needed(inputs), key=key, params=params, values=values)
        alone: Any = True
        if bound.pushed:
            values = {**{name: sites[name].value for name in bound.base}, **values}
            there = Map(bound, program, inputs, params, sites)
            there.others = {n: v for n, v in values.items() if n in there.others}
            guess, alone = there.find(values) if absent else (there.at(values), True)
            origin = jnp.where(alone, there.solve(values, guess), there.at(values))
            values = {**values, **there.values(origin)}
            sites = bound.run(program, inputs, params=params, values=values)
        log_q = _log_q(program, sites) + self._less(program, inputs, params, sites, values)
        if not isinstance(alone, Tracer) and not alone:
            raise _no_origin(bound)
        return jnp.where(alone, log_q, jnp.nan)

    def log_prob_by_site(
        self, program: Model, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any] | None:
        """See `Guide`: over each site's batch shape; ``None`` with auxiliary draws, which are no site of the model."""
        if self._bound().base:
            return None
        sites = self._bound().run(program, _needed(inputs), params=params, values=point)
        return {name: log_density(sites[name]) for name in program.latents}

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `Guide`."""
        words = rng.integers(0, 2**32, (rows, 2), dtype=np.uint32)
        with scope(problem.precision):
            point, log_q = _draws(self.bind(problem), problem.program, dict(params), words, problem.inputs)
        return {name: np.asarray(v) for name, v in point.items()}, np.asarray(log_q, float)

    def broken(self, program: Model, params: Mapping[str, Any], key: jax.Array, inputs: Any) -> list[str]:
        """Arguments of distributions that are out of their range at given parameters, in words."""
        bound = self._bound()

        def arguments(params: Any, key: Any, inputs: Any) -> list[Any]:
            sites = bound.run(program, inputs, key=key, params=params)
            return [a.value for site in sites.values() if site.kind == "sample" for a in constrained(site)]

        found = []
        for limit, value in zip(bound.limits, jax.jit(arguments)(dict(params), key, inputs)):
            if not np.all(dist.contains(limit.constraint, np.asarray(value))):
                names = ", ".join(map(repr, limit.params)) or "no param"
                values = f"{np.min(value):.4g}" if np.ndim(value) == 0 else f"down to {np.min(value):.4g}"
                word = dist.describe(limit.constraint)
                found.append(f"{limit.argument} of {limit.site!r}, made of {names}, is {values}, not {word}")
        return found

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`; the guide's parameters by their own names."""
        sites = self.bind(problem)._bound().sites
        return {n: {"value": np.asarray(v), "transform": sites[n].infer["transform"]} for n, v in params.items()}

    def _less(self, program: Model, inputs: Any, params: Any, sites: Trace, point: Mapping[str, Any]) -> Any:
        """What the base draws add to the log density, less what the map stretches."""
        bound = self._bound()
        total = sum((jnp.sum(log_density(sites[name])) for name in bound.base), jnp.zeros(()))
        if not bound.pushed:
            return total
        rows = np.prod([p.size / p.length for p in sites[bound.pushed[0]].plates])
        return total - Map(bound, program, inputs, params, sites).log_det(point, point) * rows

    def _look(self, problem: Problem, bound: Binding, params: Any, words: Any) -> None:
        """Refuse a map that cannot be inverted, and warn of one whose density nobody takes."""
        made = bound.pushed or bound.points
        counts = [sum(int(np.prod(s, dtype=int)) for s in shapes) for shapes in self._shapes(problem, bound, made)]
        recipe = Start(bound)
        if bound.pushed:
            _, ratio, twice = look(recipe, problem.program, made, problem.inputs, params, words)
            return check_map(bound.sites[made[0]].source, made, ratio, twice)
        names = [n for n in made if "delta-map" not in bound.sites[n].allow]
        if not names:
            return None
        if counts[0] == counts[1]:
            rng = np.random.default_rng(0)
            moved = [params, {n: v + rng.normal(size=np.shape(v)) for n, v in params.items()}]
            seen = [look(recipe, problem.program, made, problem.inputs, p, words)[0] for p in moved]
            if np.allclose(seen, 0.0, atol=1e-5):
                return None  # the map keeps volumes: nothing is missing
        return warn(_unaccounted(bound, names))

    def _shapes(self, problem: Problem, bound: Binding, made: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
        return [bound.sites[n].infer["shape"] for n in bound.base], [problem.latents[n].shape for n in made]

    def _bound(self) -> Binding:
        if self.binding is None:
            raise TautError(
                "bad-combination",
                found="a guide program that no problem has been shown to",
                expected="one bound to a problem",
                remedy="guide.bind(problem)",
            )
        return self.binding


def bind(guide: Guide | Callable[..., Any], problem: Problem) -> Guide:
    """A guide ready for a problem: functions become `Program`, programs are run and checked, others pass.

    Args:
        guide: a guide, or a function written with the primitives.
        problem: the problem.

    Raises:
        TautError: see `Program.bind`.
    """
    if isinstance(guide, Guide):
        return guide.bind(problem)
    if not callable(guide) or isinstance(guide, type):
        name = guide.__name__ if isinstance(guide, type) else type(guide).__name__
        raise TautError(
            "bad-argument",
            site="guide",
            found=f"guide={name}",
            expected="a guide, or a function written with the primitives",
            remedy=f"guide=taut.guides.{name}()" if isinstance(guide, type) else "guide=taut.guides.MeanField()",
        )
    return Program(guide).bind(problem)


# A problem is bound once per function; the problem's end is the binding's.
_BOUND: weakref.WeakKeyDictionary[Problem, dict[Callable[..., Any], Program]] = weakref.WeakKeyDictionary()


@partial(jax.jit, static_argnums=(0, 1))
def _draws(guide: Program, program: Model, params: Any, words: Any, inputs: Any) -> Any:
    count_compilation()
    real = jax.tree.map(jnp.asarray, params)

    def one(words: Any) -> Any:
        return guide.sample_and_log_prob(program, real, jax.random.wrap_key_data(words), inputs)

    return jax.vmap(one)(words)


def _score(site: Site) -> Any:
    """A site's log density where only what its draw does not follow can move it."""
    return log_density(replace(site, fn=dist.unfollowed(site.fn), value=jax.lax.stop_gradient(site.value)))


def _log_q(program: Model, sites: Trace) -> Any:
    drawn = (name for name in program.latents if sites[name].kind == "sample")
    return sum((jnp.sum(log_density(sites[name])) for name in drawn), jnp.zeros(()))


def _no_origin(bound: Binding) -> TautError:
    names = ", ".join(map(repr, bound.pushed))
    return TautError(
        "guide-map",
        site=bound.pushed[0],
        source=bound.sites[bound.pushed[0]].source,
        found=f"none or several draws of {', '.join(map(repr, bound.base))} that lead to the given {names}",
        expected="values that the map reaches from one place",
        remedy="values from the guide's own draws; or give the auxiliary draws along with the latents",
    )


def _unaccounted(bound: Binding, names: list[str]) -> TautWarning:
    return TautWarning(
        "delta-map",
        site=names[0],
        source=bound.sites[names[0]].source,
        found=f"{', '.join(map(repr, names))}: Delta at a function of {', '.join(map(repr, bound.base))}; the density "
        "of the map is not accounted for",
        expected="log |det| of the map in log q",
        remedy=f'taut.transformed("{names[0]}", value) in place of taut.sample("{names[0]}", dist.Delta(value)); if it '
        'is meant: allow="delta-map"',
    )


def _needed(inputs: Any) -> Any:
    if inputs is None:
        raise TautError(
            "bad-argument",
            site="inputs",
            found="a guide program without the data",
            expected="the problem's inputs, of which the guide's arguments are made",
            remedy="guide.log_prob(program, params, point, inputs=problem.inputs)",
        )
    return inputs
