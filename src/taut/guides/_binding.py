"""A guide's program on one problem: its arguments, its two abstract runs, and every later run inside a compilation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._precision import real_dtype
from taut.core import Site, empty_stack, log_density
from taut.guides._agreement import check_sites, declared
from taut.guides._effects import Reach, check_base, check_effects
from taut.guides._pushforward import check_counts, part
from taut.guides._stand import Stand, batched_plates, plates_of, taken
from taut.handlers import Trace, trace
from taut.problem import (
    Argument,
    Problem,
    Source,
    check_ranges,
    constrained,
    count_compilation,
    dependencies,
    digest,
    graph,
    hole,
    inlined,
    numpyro_statements,
    user_errors,
)
from taut.problem import Program as Model

# Supports that cannot be compared by their bounds are compared on this many first draws.
FIRST_DRAWS = 16


class Limit(NamedTuple):
    """An argument that not every number may be: of which site, which, its constraint, the params it is made of."""

    site: str
    argument: str
    constraint: Any
    params: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Binding:
    """A guide's function, and how it stands to a problem.

    Attributes:
        fn: the function.
        treedef: how data leaves become the model's array arguments.
        constants: the model's other arguments.
        sites: one abstract run, values left out; the ``fn`` of a param is its constraint, that of a sample its
            distribution's class.
        unclear: latents whose supports only draws can compare with the model's.
        still: sites whose draws do not follow all of their parameters smoothly, with their families.
        base: auxiliary draws.
        pushed: latents that `taut.transformed` makes of them.
        points: latents that are points (`dist.Delta`) at functions of them.
        limits: arguments of distributions that not every number may be, in the order of a run.
        digest: identifies the guide's equations.
        start: identifies the equations of its initial values.
    """

    fn: Callable[..., Any]
    treedef: Any
    constants: dict[str, Any]
    sites: dict[str, Site] = field(default_factory=dict)
    unclear: tuple[str, ...] = ()
    still: dict[str, str] = field(default_factory=dict)
    base: tuple[str, ...] = ()
    pushed: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    digest: str = ""
    start: str = ""

    def run(
        self,
        program: Model,
        inputs: Any,
        *,
        key: Any = None,
        params: Mapping[str, Any] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> Trace:
        """Run the guide at the model's rows.

        Args:
            program: the traced model.
            inputs: `Problem.inputs`.
            key: JAX key for what is drawn.
            params: parameters on the real line; initial values without them.
            values: values of latents, used in place of draws.

        Returns:
            Its sites.
        """
        rows = program.evaluate("rows", {}, *inputs)
        handler = Stand(plates_of(program), rows, key, params, values or {}, batched_plates(program))
        arguments = {**jax.tree.unflatten(self.treedef, inputs[0][:-1]), **self.constants}
        needed = taken(self.fn, arguments)

        def once() -> Trace:
            handler.count = 0
            # Whatever the caller has on the stack is about other runs.
            # The record holds what the handler has made of a draw: frames are passed from the outermost inwards.
            with empty_stack(), user_errors(), handler, trace() as sites, numpyro_statements():
                self.fn(**{name: arguments[name] for name in needed})
            return sites

        return inlined(once)


def bind(fn: Callable[..., Any], problem: Problem) -> Binding:
    """Run a guide twice, abstractly, and check it against the model.

    The first run finds its parameters; the second has them as inputs, so that what is compiled does not depend on
    their initial values.
    """
    binding = Binding(fn, jax.tree.structure(dict(problem.arrays)), problem.constants)
    model = problem.program
    found: dict[str, Site] = {}
    shapes: dict[str, Any] = {}

    def first(inputs: Any, words: Any) -> list[Any]:
        sites = binding.run(model, inputs, key=jax.random.wrap_key_data(words))
        found.update(sites)
        starts = {n: s.infer["start"] for n, s in sites.items() if s.kind == "param"}
        shapes.update({n: jax.ShapeDtypeStruct(v.shape, v.dtype) for n, v in starts.items()})
        return list(starts.values())

    words = jax.ShapeDtypeStruct((2,), np.uint32)
    opening = jax.make_jaxpr(first)(problem.inputs, words)
    found = declared(model, found)
    unclear = check_sites(model, found)
    arguments: list[Argument] = []
    learned = sorted(shapes)  # leaves of a mapping are sorted by name
    order = [n for n, s in found.items() if s.kind in ("sample", "factor")]
    cut = {n: s for n, s in found.items() if s.kind == "sample" and not s.fn.has_rsample}
    mixtures = [n for n, s in cut.items() if dist.is_smooth(s.fn)]

    def second(params: Any, inputs: Any, words: Any) -> list[Any]:
        sites = binding.run(model, inputs, key=jax.random.wrap_key_data(words), params=params)
        arguments.clear()
        arguments.extend(part for site in sites.values() if site.kind == "sample" for part in constrained(site))
        values = [sites[n].value for n in (*learned, *model.latents)]
        densities = [jnp.sum(log_density(sites[n])) for n in order]
        mixing = [dist.mixture_weights(sites[n].fn) for n in mixtures]
        return [*values, *densities, *mixing, *(part.value for part in arguments)]

    closed = jax.make_jaxpr(second)(shapes, problem.inputs, words)
    nodes = graph(closed.jaxpr)
    sources = {node: Source("param", n, found[n].fn, found[n].source) for n, node in zip(learned, nodes)}
    check_ranges(zip(arguments, nodes[len(nodes) - len(arguments) :]), sources)
    reach = _reach(closed, learned, list(model.latents), len(order), _draws(binding, problem, found))
    base, points = check_base(model, found, reach)
    check_effects(model, found, reach)
    first_weights = len(learned) + len(model.latents) + len(order)
    smooth = dependencies(closed.jaxpr, _labels(closed, learned), smooth=True)[first_weights:]
    followed = {n for n, reached in zip(mixtures, smooth) if not reached - {""}}
    still = {n: type(dist.unwrapped(s.fn)).__name__ for n, s in cut.items() if n not in followed}
    pushed = tuple(n for n in model.latents if found[n].kind == "transformed")
    made = [part(n, model.latents[n].shape, model.supports.get(n, dist.constraints.real)) for n in pushed or points]
    if pushed:
        check_counts(found, [part(n, tuple(found[n].fn.shape()), found[n].fn.support) for n in base], made)
    return replace(
        binding,
        sites={n: _bare(s) for n, s in found.items()},
        unclear=unclear,
        still=still,
        base=base,
        pushed=pushed,
        points=points,
        limits=_limits(closed, learned, arguments),
        digest=_fingerprint(closed),
        start=_fingerprint(opening),
    )


def _reach(closed: Any, learned: list[str], latents: list[str], terms: int, draws: dict[str, frozenset[str]]) -> Reach:
    """What the outputs of a guide's second run depend on."""
    labels = _labels(closed, learned)
    blank = frozenset(("",))
    begin, middle = len(learned), len(learned) + len(latents)
    values = [found - blank for found in dependencies(closed.jaxpr, labels)[begin:middle]]
    smooth = dependencies(closed.jaxpr, labels, smooth=True)[begin : middle + terms]
    return Reach(dict(zip(latents, values)), frozenset[str]().union(*smooth) - blank, draws)


def _labels(closed: Any, learned: list[str]) -> list[str]:
    return [*learned, *([""] * (len(closed.jaxpr.invars) - len(learned)))]


def _limits(closed: Any, learned: list[str], arguments: list[Argument]) -> tuple[Limit, ...]:
    reach = dependencies(closed.jaxpr, _labels(closed, learned))[len(closed.jaxpr.outvars) - len(arguments) :]
    return tuple(
        Limit(
            a.site.name, f"{type(dist.unwrapped(a.site.fn)).__name__}.{a.name}", a.constraint, tuple(sorted(r - {""}))
        )
        for a, r in zip(arguments, reach)
    )


def _draws(binding: Binding, problem: Problem, found: Mapping[str, Site]) -> dict[str, frozenset[str]]:
    """Which base draws each transformed latent and each point depends on."""
    base = {n: s for n, s in found.items() if s.auxiliary}
    made = [
        n for n in problem.latents if found[n].kind == "transformed" or isinstance(_innermost(found[n]), dist.Delta)
    ]
    if not base or not made:
        return {n: frozenset() for n in made}

    def third(inputs: Any, words: Any) -> list[Any]:
        values = {n: hole(n, tuple(s.fn.shape()), real_dtype()) for n, s in base.items()}
        sites = binding.run(problem.program, inputs, key=jax.random.wrap_key_data(words), values=values)
        return [sites[n].value for n in made]

    closed = jax.make_jaxpr(third)(problem.inputs, jax.ShapeDtypeStruct((2,), np.uint32))
    seen = dependencies(closed.jaxpr, [""] * len(closed.jaxpr.invars), smooth=True)
    return {n: labels & frozenset(base) for n, labels in zip(made, seen)}


class Start:
    """A binding as far as its initial values go: equal where those have the same equations."""

    def __init__(self, binding: Binding):
        self.binding = binding

    def __hash__(self) -> int:
        return hash(self.binding.start)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Start) and (self.binding.start, self.binding.digest) == (
            other.binding.start,
            other.binding.digest,
        )


@partial(jax.jit, static_argnums=(0, 1))
def start(recipe: Start, program: Model, inputs: Any, words: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Initial values on the real line, and whether first draws of unclear sites lie in the model's supports."""
    count_compilation()
    binding = recipe.binding
    key = jax.random.wrap_key_data(words)

    def params_at(key: Any) -> dict[str, Any]:
        sites = binding.run(program, inputs, key=key)
        return {n: s.infer["start"] for n, s in sites.items() if s.kind == "param"}

    params = params_at(key)

    def look(key: Any) -> dict[str, Any]:
        sites = binding.run(program, inputs, key=key, params=params)
        point = {name: sites[name].value for name in program.latents}
        holes = program.evaluate("init", {}, *inputs)
        inside = program.evaluate("inside", holes, *inputs, values=point)
        return {name: inside[name] for name in binding.unclear}

    if not binding.unclear:
        return params, {}
    return params, jax.vmap(look)(jax.random.split(key, FIRST_DRAWS))


def _innermost(site: Site) -> Any:
    return None if site.fn is None else dist.unwrapped(site.fn)


def _bare(site: Site) -> Site:
    fn = site.fn if site.kind == "param" or site.fn is None else type(site.fn)
    if site.kind == "param":
        infer = {"transform": site.infer["transform"]}
    else:
        infer = {"shape": tuple(np.shape(site.value))}
    return replace(site, fn=fn, value=None, key=None, init=None, log_density=None, infer=infer)


def _fingerprint(closed: Any) -> str:
    """Unlike a model's, a guide's constants are part of what is compiled, so their values count."""
    hasher = hashlib.blake2b(digest(closed).encode(), digest_size=16)
    for const in closed.consts:
        hasher.update(np.asarray(const).tobytes())
    return hasher.hexdigest()
