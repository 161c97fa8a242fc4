"""The model as one traced program: run once, abstractly, with a hole where each latent goes.

Python runs the model a single time per shape of its data. What remains is a jaxpr whose holes are the coordinates of
the latents on the real line. Everything else (names, layout, log joint, gradients, draws in the model's own space,
what depends on what) is read off or evaluated from that one program, and two programs with the same equations share
one compilation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from taut._errors import TautError
from taut.core import Handler, Site, empty_stack
from taut.handlers import Trace, trace, whole
from taut.problem._arguments import Source, check_ranges
from taut.problem._coordinates import DISCRETE, Coordinates, Latent, Param
from taut.problem._data import in_scope
from taut.problem._digest import digest
from taut.problem._evaluate import evaluate
from taut.problem._graph import Node, graph
from taut.problem._levels import inlined
from taut.problem._marginal import marginal
from taut.problem._masked import read_where_masked
from taut.problem._numpyro import numpyro_statements
from taut.problem._plan_sums import plan_sums
from taut.problem._reach import dependencies
from taut.problem._side_effects import no_side_effects
from taut.problem._sums import Sums
from taut.problem._user_code import user_errors
from taut.problem._weights import replaced_weights


@dataclass(frozen=True, eq=False)
class Program:
    """A traced model. Equal programs (same equations, same literals) compare equal and share compilations.

    Attributes:
        closed: the jaxpr; its inputs are the data leaves and a key, its constants what the model closed over.
        outputs: where each named output stands: ``outputs["density"]["y"]`` is an index into the jaxpr's outputs.
        latents: by name, in program order.
        params: the model's own parameters, by name.
        sites: every site by name, values and distributions left out.
        digest: identifies the equations.
        shapes: shape of every site's value.
        constraints: supports of observed sites, where they are known before the fit.
        supports: supports of latents, where they are known before the fit.
        reach: for each output, the holes and the data entries (``"data:y"``) that it depends on.
        sums: how its discrete latents were summed out; ``None`` without any.
    """

    closed: Any
    outputs: dict[str, dict[str, int]]
    latents: dict[str, Latent]
    params: dict[str, Param]
    sites: dict[str, Site]
    digest: str
    shapes: dict[str, tuple[int, ...]]
    constraints: dict[str, Any]
    supports: dict[str, Any]
    reach: dict[str, dict[str, frozenset[str]]]
    sums: Sums | None = None

    @cached_property
    def nodes(self) -> list[Node]:
        """The outputs as nodes of a graph."""
        return graph(self.closed.jaxpr)

    @cached_property
    def layout(self) -> dict[str, slice]:
        """Where each latent, then each parameter, stands in a flat vector."""
        layout, start = {}, 0
        for site in (*self.latents.values(), *self.params.values()):
            layout[site.name] = slice(start, start + site.size)
            start += site.size
        return layout

    @cached_property
    def dim(self) -> int:
        """Number of latent coordinates."""
        return sum(latent.size for latent in self.latents.values())

    @cached_property
    def num_params(self) -> int:
        """Number of parameter coordinates."""
        return sum(param.size for param in self.params.values())

    @cached_property
    def hierarchical(self) -> np.ndarray:
        """``bool[dim + num_params]``: the coordinates whose centredness matters."""
        parts = [np.full(latent.size, latent.hierarchical) for latent in self.latents.values()]
        return np.concatenate([*parts, np.zeros(self.num_params, bool)])

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.digest == other.digest

    def evaluate(
        self,
        group: str | list[str],
        holes: Mapping[str, Any],
        inputs: list[Any],
        consts: list[Any],
        values: Mapping[str, Any] | None = None,
        names: Collection[str] | None = None,
    ) -> Any:
        """Evaluate named outputs; only what they need is computed.

        Args:
            group: one group of outputs, or several.
            holes: a value for every hole that the outputs need.
            values: values of latents and parameters in the model's own space, used in place of what the holes give.
            inputs: data leaves, then the key.
            consts: constants of the program.
            names: evaluate these names alone.

        Returns:
            ``{name: value}``, or one such mapping per group.
        """
        groups = [group] if isinstance(group, str) else group
        members = {g: {n: index for n, index in self.outputs[g].items() if names is None or n in names} for g in groups}
        wanted = [index for g in groups for index in members[g].values()]
        jaxpr = self.closed.jaxpr
        given = {
            (v := jaxpr.outvars[self.outputs[g][name]]): jnp.asarray(value, v.aval.dtype)
            for g, known in (("value", self.latents), ("param", self.params))
            for name, value in (values or {}).items()
            if name in known
        }
        found = dict(zip(wanted, _run(jaxpr, wanted, given, holes, inputs, consts), strict=True))
        results = [{name: found[index] for name, index in members[g].items()} for g in groups]
        return results[0] if isinstance(group, str) else results

    def variables(
        self,
        wanted: list[Any],
        given: Mapping[Any, Any],
        holes: Mapping[str, Any],
        inputs: list[Any],
        consts: list[Any],
    ) -> list[Any]:
        """Evaluate variables of the jaxpr, inner ones too, at given values of others; only what they need is computed.

        Args:
            wanted: variables of ``closed.jaxpr``.
            given: values of variables, in place of what the equations give.
            holes, inputs, consts: as for `evaluate`.
        """
        jaxpr = self.closed.jaxpr
        part = jaxpr.replace(outvars=list(wanted), debug_info=jaxpr.debug_info.with_unknown_names())
        return _run(part, list(range(len(wanted))), given, holes, inputs, consts)

    def fixed(self, group: str = "observed") -> list[str]:
        """The names in a group whose values depend on data and constants alone."""
        return [n for n, reach in self.reach[group].items() if all(r.startswith("data:") for r in reach)]


def trace_program(
    model: Callable[..., Any],
    arrays: Mapping[str, Any],
    constants: Mapping[str, Any],
    subsample: bool = False,
    discrete: bool | Collection[str] = False,
    batched: bool = False,
) -> tuple[Program, list[Any]]:
    """Run the model once, abstractly, and sum out its discrete latents.

    Args:
        model: the program.
        arrays: traced data by argument name.
        constants: fixed data by argument name.
        subsample: leave subsampled plates as they are instead of opening them whole.
        discrete: discrete latents that are left in, to be drawn by a guide: all, or these.
        batched: the data are the first of many batches, so nothing may be read off their values.

    Returns:
        The program, and its data leaves in the order of its inputs.

    Raises:
        TautError: whatever the model's statements refuse; ``discrete-latent`` for what cannot be summed out.
    """
    leaves, treedef = jax.tree.flatten({name: jax.tree.map(in_scope, entry) for name, entry in arrays.items()})
    names = [f"data:{path[0].key}" for path, _ in jax.tree_util.tree_flatten_with_path(dict(arrays))[0]]
    program = model if subsample else whole(model)

    def run(anchored: Collection[str] = (), bare: Collection[str] = ()) -> tuple[Program, Coordinates]:
        with no_side_effects(model, constants):
            return _traced(program, treedef, leaves, constants, names, anchored, bare)

    def left(name: str) -> bool:
        return discrete if isinstance(discrete, bool) else name in discrete

    traced, coordinates = run()
    bare = [] if batched else read_where_masked(traced, leaves)
    if bare:
        traced, coordinates = run((), bare)
    summed = {n for n, v in traced.latents.items() if v.transform == DISCRETE and not left(n)}
    moved = [n for n in traced.latents if n not in summed and traced.reach["value"][n] & summed]
    if moved:
        traced, coordinates = run(moved, bare)
        _check_anchored(traced, moved, summed)
    _check_ranges(traced, coordinates)
    seen = [None] * len(leaves) if batched else leaves
    over = {n: v for n, v in traced.latents.items() if n in summed}
    sums = plan_sums(traced.closed, traced.outputs, traced.reach, over, traced.sites, seen)
    if sums is not None:
        inputs = [*leaves, jax.ShapeDtypeStruct((2,), np.uint32)]
        closed, outputs = marginal(sums, traced.outputs, traced.sites, inputs)
        latents = {n: v for n, v in traced.latents.items() if n not in summed}
        supports = {n: c for n, c in traced.supports.items() if n not in summed}
        reach = _reach(closed, outputs, names)
        # Named values that need the discrete latents are computed afterwards, but are asked for all the same.
        reach["value"] = {**traced.reach["value"], **reach["value"]}
        traced = replace(
            traced,
            closed=closed,
            outputs=outputs,
            latents=latents,
            supports=supports,
            digest=_digest(closed, outputs, latents, traced.params),
            reach=reach,
            sums=sums,
        )
    return traced, leaves


def _traced(
    program: Callable[..., Any],
    treedef: Any,
    leaves: list[Any],
    constants: Mapping[str, Any],
    names: list[str],
    anchored: Collection[str],
    bare: Collection[str],
) -> tuple[Program, Coordinates]:
    """One abstract run, with discrete latents as latents."""
    coordinates = Coordinates()
    order: dict[str, dict[str, int]] = {}
    record: dict[str, Site] = {}

    def run(leaves: list[Any], words: Any) -> list[Any]:
        def once() -> tuple[Trace, Coordinates]:
            found = Coordinates(anchored, bare)
            key = jax.random.wrap_key_data(words, impl="threefry2x32")
            # Whatever the caller has on the stack is about other runs.
            with empty_stack(), user_errors(), trace() as sites, found, _Keyed(key), numpyro_statements():
                program(**jax.tree.unflatten(treedef, leaves), **constants)
            return sites, found

        nonlocal coordinates
        sites, coordinates = inlined(once)
        record.update(sites)
        flat: list[Any] = []
        for group, values in coordinates.outputs(sites).items():
            order[group] = {}
            for name, value in values.items():
                order[group][name] = len(flat)
                flat.append(value)
        return flat

    closed = jax.make_jaxpr(run)(leaves, jax.ShapeDtypeStruct((2,), np.uint32))
    reach = _reach(closed, order, names)
    for name in replaced_weights(coordinates.params, reach):
        for entries in (
            coordinates.params,
            record,
            *(groups[g] for groups in (order, reach) for g in ("param", "init")),
        ):
            entries.pop(name, None)
    holes = frozenset(coordinates.latents)
    latents = {
        name: replace(latent, hierarchical=latent.movable and bool(reach["scale"][name] & holes))
        for name, latent in coordinates.latents.items()
    }
    traced = Program(
        closed=closed,
        outputs=order,
        latents=latents,
        params=coordinates.params,
        sites={name: _bare(site) for name, site in record.items()},
        digest=_digest(closed, order, latents, coordinates.params),
        shapes={name: tuple(np.shape(site.value)) for name, site in record.items()},
        constraints={name: c for name, c in coordinates.constraints.items() if not _is_traced(c)},
        supports={name: c for name, c in coordinates.supports.items() if not _is_traced(c)},
        reach=reach,
    )
    return traced, coordinates


def _reach(closed: Any, order: dict[str, dict[str, int]], names: list[str]) -> dict[str, dict[str, frozenset[str]]]:
    found = dependencies(closed.jaxpr, [*names, "key"])
    return {group: {name: found[index] for name, index in members.items()} for group, members in order.items()}


def _digest(closed: Any, order: Any, latents: Mapping[str, Latent], params: Mapping[str, Param]) -> str:
    return digest(closed, [order, [replace(v, source="") for v in (*latents.values(), *params.values())]])


def _check_anchored(program: Program, moved: Collection[str], summed: Collection[str]) -> None:
    for name in moved:
        on = program.reach["value"][name] & frozenset(summed)
        if on:
            latent = program.latents[name]
            raise TautError(
                "discrete-latent",
                site=name,
                source=latent.source,
                found=f"{latent.family} on {latent.support}, a range that depends on the discrete {min(on)!r}",
                expected="a range that is the same for all values of what is summed out",
                remedy=f'u = taut.sample("{name}_unit", dist.Uniform(0, 1)); {name} = taut.deterministic("{name}", '
                "low + (high - low) * u)",
            )


def _check_ranges(program: Program, coordinates: Coordinates) -> None:
    made = {name: ("param", p.source) for name, p in program.params.items()}
    made |= {name: ("latent", latent.source) for name, latent in program.latents.items()}
    sets = {**{name: site.fn for name, site in coordinates.learned.items()}, **coordinates.supports}
    sources = {
        program.nodes[index]: Source(made[name][0], name, sets[name], made[name][1])
        for group in ("value", "param")
        for name, index in program.outputs[group].items()
        if name in sets
    }
    places = program.outputs["argument"]
    check_ranges(((a, program.nodes[places[str(i)]]) for i, a in enumerate(coordinates.arguments)), sources)


class _Keyed(Handler):
    """Hand out keys derived from one traced key: abstract, so free."""

    def __init__(self, key: Any):
        super().__init__()
        self.key = key
        self.names: dict[str, int] = {}

    def before(self, site: Site) -> Site:
        if site.kind in ("plate", "param") and site.value is None and site.key is None:
            # By name: a plate that is opened twice has the same rows both times.
            count = self.names.setdefault(site.name, len(self.names) + 1)
            return replace(site, key=jax.random.fold_in(self.key, count))
        return site


def _is_traced(constraint: Any) -> bool:
    return any(isinstance(v, Tracer) for v in vars(constraint).values())


def _bare(site: Site) -> Site:
    return replace(site, fn=None, value=None, log_density=None, key=None, init=None, mask=None, scale=1.0)


def _run(
    jaxpr: Any,
    wanted: list[int],
    given: Mapping[Any, Any],
    holes: Mapping[str, Any],
    inputs: list[Any],
    consts: list[Any],
) -> list[Any]:
    """Evaluate some outputs: the equations they need, with the holes and the given variables turned into inputs."""
    known = {**dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True)), **given}
    return evaluate(jaxpr, [jaxpr.outvars[index] for index in wanted], known, holes)
