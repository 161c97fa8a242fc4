"""Which latents a structured guide lets depend on which, and how their coordinates meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from taut._errors import TautError
from taut._precision import scope
from taut.problem import Program, dependencies, fill

LINEAR = "linear"


@dataclass(frozen=True)
class Shift:
    """A dependency with weights of its own: the child's centre moves by ``apply(weights, parent)``.

    Args:
        apply: weights by name and the parent's coordinates to a shift of the child's coordinates; traceable.
        init: ``(rng, parent_shape, child_shape)`` to first weights by name; any real values must be valid.

    Example:
        >>> def init(rng, parent, child):
        ...     return {"w": 0.1 * rng.standard_normal((*child, *parent)), "b": np.zeros(child)}
        >>> bend = taut.guides.Shift(lambda weights, x: weights["w"] * jnp.tanh(x) + weights["b"], init)
        >>> guide = taut.guides.Structured({"y": {"x": bend}})
    """

    apply: Callable[[Mapping[str, Any], Any], Any]
    init: Callable[[np.random.Generator, tuple[int, ...], tuple[int, ...]], Mapping[str, Any]]


# Parents of a child with the kind of each, by child; sorted, so that equal ones are equal.
Asked = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]


class Edge(NamedTuple):
    """How a child depends on a parent.

    Attributes:
        child, parent: names.
        kind: ``"linear"``, a function of the parent's coordinates, or a `Shift`.
        to, of: coordinates of the child ``int[B, C]`` and of the parent ``int[B, P]``: row b of the plates that they
            share meets row b alone.
    """

    child: str
    parent: str
    kind: Any
    to: np.ndarray
    of: np.ndarray

    @property
    def name(self) -> str:
        """The name of its weights."""
        return f"weight[{self.child}|{self.parent}]"


class Structure(NamedTuple):
    """Latents in an order in which parents come first, the edges of each, and its coordinates ``int[rows, n]``."""

    order: tuple[str, ...]
    edges: dict[str, tuple[Edge, ...]]
    own: dict[str, np.ndarray]


def asked(dependencies: Mapping[str, Any] | Asked | None) -> Asked | None:
    """The user's dependencies as a hashable value.

    Raises:
        TautError: ``bad-argument``.
    """
    if dependencies is None or isinstance(dependencies, tuple):
        return dependencies
    found = []
    for child, parents in dependencies.items():
        if isinstance(parents, str) or not isinstance(parents, Mapping | Sequence):
            raise _refusal(child, f"dependencies={{{child!r}: {parents!r}}}", child)
        kinds = dict(parents) if isinstance(parents, Mapping) else dict.fromkeys(parents, LINEAR)
        for parent, kind in kinds.items():
            if kind != LINEAR and not callable(kind) and not isinstance(kind, Shift):
                raise _refusal(child, f"{kind!r} for {child!r} given {parent!r}", child)
        found.append((child, tuple(sorted(kinds.items(), key=lambda item: item[0]))))
    return tuple(sorted(found, key=lambda item: item[0]))


@lru_cache(maxsize=64)
def structure(program: Program, given: Asked | None, dense: int, centred: bool = True) -> Structure:
    """The structure of a guide on a model.

    Args:
        program: the traced model.
        given: what the user asked for; latents not in it depend as `default_parents` says.
        dense: most coordinates per row of its plates that a site has jointly; beyond it they are independent.
        centred: every coordinate is the model's own value.

    Raises:
        TautError: ``site-missing``, ``bad-argument`` for dependencies in a circle.
    """
    parents = {name: dict.fromkeys(found, LINEAR) for name, found in default_parents(program, centred).items()}
    for child, kinds in given or ():
        for name in (child, *(parent for parent, _ in kinds)):
            if name not in program.latents:
                raise TautError(
                    "site-missing",
                    site=name,
                    found=f"{name!r} in dependencies=",
                    expected=f"latents of the model: {', '.join(program.latents)}",
                    remedy=f"leave {name!r} out",
                )
        parents[child] = dict(kinds)
    order = _ordered(parents)
    edges = {
        child: tuple(_edge(program, child, parent, kind) for parent, kind in parents[child].items()) for child in order
    }
    own = {}
    for name in order:
        rows = _rows(program, name, _plates(program, name))
        own[name] = rows if rows.shape[1] <= dense else rows.reshape(-1, 1)
    return Structure(order, edges, own)


def default_parents(program: Program, centred: bool = True) -> dict[str, tuple[str, ...]]:
    """The parents that each latent needs among those before it, for q to have the posterior's own structure.

    Latents that meet in one term of the log joint are neighbours (the moral graph: given data, two parents of a site
    depend on one another). Latents are taken in the model's order, and each depends on those before it to which it is
    tied directly or through later ones: what eliminating the latents from the last to the first leaves. A Gaussian
    posterior with linear dependencies is then a member of the family, up to what sites leave out inside of them. Where
    a hierarchical latent is not centred, its value is made of its coordinate and its parents, and so are its terms.
    """
    names = list(program.latents)
    near: dict[str, set[str]] = {name: set() for name in names}
    for met in _terms(program, centred):
        for name in met:
            near[name].update(other for other in met if other != name)
    found: dict[str, tuple[str, ...]] = {}
    for place in range(len(names) - 1, -1, -1):
        before = [name for name in names[:place] if name in near[names[place]]]
        found[names[place]] = tuple(before)
        for name in before:
            near[name].update(other for other in before if other != name)
    return {name: found[name] for name in names}


def _terms(program: Program, centred: bool) -> list[list[str]]:
    """The latents that meet in each term of the log joint, in the model's order."""

    def terms(held: dict[str, dict[str, Any]], rest: tuple[Any, Any, Any]) -> dict[str, Any]:
        inputs, consts, flat = rest
        holes = {**fill(program, flat, flat), **held["hole"]}
        return program.evaluate("plain", holes, inputs, consts, values=held["value"])

    # The precision that the model was traced in, whatever that of the caller is.
    dtype = next(iter(program.closed.jaxpr.outvars[i] for i in program.outputs["density"].values())).aval.dtype

    def shaped(shape: tuple[int, ...]) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    latents = program.latents
    held = {
        "hole": {n: shaped(v.coordinate_shape) for n, v in latents.items()},
        "value": {n: shaped(v.shape) for n, v in latents.items()},
    }
    flat = shaped((program.dim + program.num_params,))
    inputs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in program.closed.in_avals]
    consts = [jax.ShapeDtypeStruct(np.shape(c), c.dtype) for c in program.closed.consts]
    with scope("float64" if dtype == np.float64 else "float32"):
        closed = jax.make_jaxpr(terms)(held, (inputs, consts, flat))
    labels = [path[1].key for path, _ in jax.tree_util.tree_flatten_with_path(held)[0]]
    reach = dependencies(closed.jaxpr, [*labels, *[""] * (len(closed.jaxpr.invars) - len(labels))])
    found = {name: set(labels) & set(reached) for name, reached in zip(sorted(program.outputs["plain"]), reach)}
    if not centred:
        for name in reversed(latents):
            if latents[name].hierarchical:
                parents = found[name]
                found = {term: met | parents if name in met else met for term, met in found.items()}
    return [[name for name in latents if name in met] for met in found.values()]


def _ordered(parents: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    order: list[str] = []
    left = list(parents)
    while left:
        ready = next((name for name in left if all(parent in order for parent in parents[name])), None)
        if ready is None:
            circle = left[0]
            seen: list[str] = []
            while circle not in seen:
                seen.append(circle)
                circle = next(parent for parent in parents[circle] if parent not in order)
            loop = [*seen[seen.index(circle) :], circle]
            raise TautError(
                "bad-argument",
                site=circle,
                found=f"dependencies in a circle: {' on '.join(repr(name) for name in loop)}",
                expected="an order in which every latent comes after those that it depends on",
                remedy=f'dependencies={{"{loop[-2]}": ()}}',
            )
        order.append(ready)
        left.remove(ready)
    return tuple(order)


def _edge(program: Program, child: str, parent: str, kind: Any) -> Edge:
    if kind != LINEAR:
        return Edge(child, parent, kind, _rows(program, child, {}), _rows(program, parent, {}))
    mine, theirs = _plates(program, child), _plates(program, parent)
    shared = [plate for plate in mine if plate in theirs]
    return Edge(
        child,
        parent,
        kind,
        _rows(program, child, {plate: mine[plate] for plate in shared}),
        _rows(program, parent, {plate: theirs[plate] for plate in shared}),
    )


def _plates(program: Program, name: str) -> dict[str, int]:
    """The axis of a latent's coordinates that each of its plates is."""
    latent = program.latents[name]
    batch = len(latent.shape) - latent.event_dim
    found = {}
    for plate in program.sites[name].plates:
        axis = batch + plate.dim
        if 0 <= axis < len(latent.coordinate_shape) and latent.coordinate_shape[axis] == plate.length:
            found[plate.name] = axis
    return found


def _rows(program: Program, name: str, axes: Mapping[str, int]) -> np.ndarray:
    """A latent's coordinates, ``int[rows, n]``: one row per row of the given plates."""
    latent, part = program.latents[name], program.layout[name]
    index = np.arange(part.start, part.stop).reshape(latent.coordinate_shape)
    first = list(axes.values())
    rest = [axis for axis in range(index.ndim) if axis not in first]
    count = int(np.prod([latent.coordinate_shape[axis] for axis in first], dtype=int))
    return index.transpose([*first, *rest]).reshape(count, -1)


def _refusal(site: str, found: str, child: str) -> TautError:
    return TautError(
        "bad-argument",
        site=site,
        found=found,
        expected='names of parents, or a mapping from them to "linear", a function, or a taut.guides.Shift',
        remedy=f'dependencies={{"{child}": ("mu", "tau")}} or {{"{child}": {{"mu": "linear"}}}}',
    )
