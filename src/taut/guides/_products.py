r"""Products of weights and rows: where a traced model multiplies a latent array with data, one row at a time.

The traced program is read, not run: a latent that goes, moved about but not computed with, into a single product with
an array that has one row per row of a plate, and nowhere else, is a layer's weight; one that is added to all rows alike
is its bias. There the noise of the weights may be drawn per row: each row then sees weights of its own, which leaves
the law of every single row, and so every sum over rows in the ELBO, as it is.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from taut.problem import Program

# What may happen to a weight on its way into a product without changing its law entry by entry.
_MOVES = ("transpose", "reshape", "squeeze", "convert_element_type", "broadcast_in_dim", "copy")


@dataclass(frozen=True)
class Product:
    """One layer's use of one latent.

    Attributes:
        name: the latent.
        equation: its place among the program's equations.
        moves: the equations that bring the latent there, in order.
        side: which operand the latent is.
        kind: ``"dot"`` for a product, ``"add"`` for a bias.
        axis: the axis of the result that runs over the rows.
        rows: how many there are.
        onto: of a bias, the equation of another latent's product that it is added to and that goes nowhere else; -1
            of all others.
        turns: the equations that bring that product there.
    """

    name: str
    equation: int
    moves: tuple[int, ...]
    side: int
    kind: str
    axis: int
    rows: int
    onto: int = -1
    turns: tuple[int, ...] = ()


class Spread(NamedTuple):
    """Mean and standard deviation of a latent's entries, and one draw of them."""

    mean: Any
    sd: Any
    drawn: Any


class RowNoise(abc.ABC):
    """How the noise of weights enters a product. Frozen and hashable."""

    @abc.abstractmethod
    def dot(self, multiply: Any, weight: Spread, x: Any, axis: int, key: jax.Array) -> Any:
        """The products ``multiply(w, x)`` of the rows; ``axis`` of the result runs over them. Traceable."""

    @abc.abstractmethod
    def add(self, other: Any, bias: Spread, key: jax.Array) -> Any:
        """The rows with a bias added; traceable."""

    def dot_and_add(self, multiply: Any, weight: Spread, x: Any, axis: int, bias: Spread, key: jax.Array) -> Any:
        """Both at once, for the products of a layer that are wanted with their bias only; traceable."""
        first, second = jax.random.split(key)
        return self.add(self.dot(multiply, weight, x, axis, first), bias, second)


def products(program: Program, names: Collection[str]) -> list[Product]:
    """The products of latents with rows, in program order.

    Args:
        program: the traced model.
        names: latents that may be taken: those whose coordinate is their value.
    """
    jaxpr = program.closed.jaxpr
    taken = {jaxpr.outvars[program.outputs["value"][name]]: name for name in names}
    uses = _uses(program, taken)
    found = [p for var, name in taken.items() if (p := _follow(jaxpr, uses, var, name)) is not None]
    biases = {p.equation: i for i, p in enumerate(found) if p.kind == "add"}
    for p in [p for p in found if p.kind == "dot"]:
        end, turns = _moves(jaxpr, uses, jaxpr.eqns[p.equation].outvars[0])
        if end in biases:
            i = biases[end]
            found[i] = replace(found[i], onto=p.equation, turns=turns)
    return sorted(found, key=lambda product: product.equation)


def reached(program: Program, found: Collection[Product]) -> list[str]:
    """The sites, latents apart, whose density any of the products reaches."""
    jaxpr = program.closed.jaxpr
    moved = {jaxpr.eqns[p.equation].outvars[0] for p in found}
    for eqn in jaxpr.eqns:
        if any(v in moved for v in eqn.invars if not isinstance(v, jex.Literal)):
            moved.update(eqn.outvars)
    places = program.outputs["density"]
    return [name for name in _likelihood(program) if jaxpr.outvars[places[name]] in moved]


def with_noise(
    program: Program,
    found: Collection[Product],
    spreads: Mapping[str, Spread],
    noise: RowNoise,
    key: jax.Array,
    holes: Mapping[str, Any],
    inputs: Any,
    group: str = "density",
    spoil: Any = None,
) -> dict[str, Any]:
    """The log densities of the `reached` sites with the products' noise drawn row by row; traceable.

    Args:
        program: the traced model.
        found: its `products`.
        spreads: of each product's latent.
        noise: how it is drawn.
        key: JAX key.
        holes: of all latents and parameters.
        inputs: `Problem.inputs`.
        group: ``"density"``, or ``"density_terms"`` before it is summed.
        spoil: ``bool[rows]``: rows whose products become NaN, for a test of independence.
    """
    jaxpr = program.closed.jaxpr
    given: dict[Any, Any] = {}
    dots = {p.equation: p for p in found if p.kind == "dot"}
    met = {p.onto for p in found if p.onto in dots}

    def spread(product: Product) -> Spread:
        return Spread(*(_moved(jaxpr, product.moves, part) for part in spreads[product.name]))

    def other_side(product: Product) -> Any:
        operand = jaxpr.eqns[product.equation].invars[1 - product.side]
        return program.variables([operand], given, holes, *inputs)[0]

    for product in found:
        if product.equation in met:
            continue  # with its bias
        eqn = jaxpr.eqns[product.equation]
        stream = jax.random.fold_in(key, product.equation)
        if product.onto in dots:
            dot = dots[product.onto]
            multiply = _multiply(jaxpr, dot, product.turns)
            value = noise.dot_and_add(multiply, spread(dot), other_side(dot), product.axis, spread(product), stream)
        elif product.kind == "dot":
            value = noise.dot(_multiply(jaxpr, product), spread(product), other_side(product), product.axis, stream)
        else:
            value = noise.add(other_side(product), spread(product), stream)
        if spoil is not None:
            shape = [product.rows if a == product.axis else 1 for a in range(value.ndim)]
            value = jnp.where(jnp.reshape(spoil, shape), jnp.nan, value)
        given[eqn.outvars[0]] = jnp.asarray(value, eqn.outvars[0].aval.dtype)
    names = reached(program, found)
    wanted = [jaxpr.outvars[program.outputs[group][name]] for name in names]
    return dict(zip(names, program.variables(wanted, given, holes, *inputs), strict=True))


def columns(program: Program, product: Product) -> Any:
    """A function from one number per input of a layer to one per entry of its weight, each its input's; traceable."""
    jaxpr = program.closed.jaxpr
    eqn = jaxpr.eqns[product.equation]
    contracted = eqn.params["dimension_numbers"][0][product.side]
    operand = eqn.invars[product.side].aval
    latent = program.latents[product.name]

    def spread(per_input: Any) -> Any:
        shape = [n if a in contracted else 1 for a, n in enumerate(operand.shape)]
        wide = jnp.broadcast_to(jnp.reshape(per_input, shape), operand.shape).astype(operand.dtype)
        # Moving entries about is a permutation: its transpose leads back.
        like = jnp.zeros(latent.shape, operand.dtype)
        (back,) = jax.linear_transpose(lambda w: _moved(jaxpr, product.moves, w), like)(wide)
        return back

    inputs = 1
    for a in contracted:
        inputs *= operand.shape[a]
    return spread, inputs


def _likelihood(program: Program) -> list[str]:
    return [name for name in program.outputs["density"] if name not in program.latents]


def _uses(program: Program, taken: Collection[Any]) -> dict[Any, list[int]]:
    """For each variable that the likelihood needs, the equations that use it; ``-1`` where it is a result itself."""
    jaxpr = program.closed.jaxpr
    outputs = [jaxpr.outvars[program.outputs["density"][name]] for name in _likelihood(program)]
    needed = {v for v in outputs if not isinstance(v, jex.Literal)}
    uses: dict[Any, list[int]] = {v: [-1] for v in needed}
    for index in range(len(jaxpr.eqns) - 1, -1, -1):
        eqn = jaxpr.eqns[index]
        if any(v in needed for v in eqn.outvars) and not any(v in taken for v in eqn.outvars):
            for v in eqn.invars:
                if not isinstance(v, jex.Literal):
                    needed.add(v)
                    uses.setdefault(v, []).append(index)
    return uses


def _follow(jaxpr: Any, uses: Mapping[Any, list[int]], var: Any, name: str) -> Product | None:
    """The product that a latent's value goes into, if it goes nowhere else."""
    moves: list[int] = []
    # Which axes are the latent's own, and not merely there to meet another shape.
    own = [True] * len(var.aval.shape)
    while len(uses.get(var, ())) == 1 and uses[var][0] >= 0:
        index = uses[var][0]
        eqn = jaxpr.eqns[index]
        kind = eqn.primitive.name
        if kind in ("dot_general", "add"):
            return _product(name, index, eqn, tuple(moves), var, own)
        if kind not in _MOVES:
            return None
        shape, new = var.aval.shape, eqn.outvars[0].aval.shape
        if kind == "transpose":
            own = [own[a] for a in eqn.params["permutation"]]
        elif kind == "broadcast_in_dim":
            places = list(eqn.params["broadcast_dimensions"])
            own = [a in places and own[places.index(a)] and shape[places.index(a)] == new[a] for a in range(len(new))]
        elif kind in ("reshape", "squeeze"):
            if not all(o or n == 1 for o, n in zip(own, shape, strict=True)):
                return None
            own = [True] * len(new)
        moves.append(index)
        var = eqn.outvars[0]
    return None


def _product(name: str, index: int, eqn: Any, moves: tuple[int, ...], var: Any, own: list[bool]) -> Product | None:
    side = [v is var for v in eqn.invars].index(True)
    other = eqn.invars[1 - side]
    if other is var or isinstance(other, jex.Literal):
        return None
    out = eqn.outvars[0].aval.shape
    if eqn.primitive.name == "add":
        padded = own if len(own) == len(out) else [False] * (len(out) - len(own)) + own
        sizes = (1,) * (len(out) - len(own)) + tuple(var.aval.shape)
        wide = [a for a, n in enumerate(out) if n > 1 and (not padded[a] or sizes[a] == 1)]
        return Product(name, index, moves, side, "add", wide[0], out[wide[0]]) if len(wide) == 1 else None
    contract, batch = eqn.params["dimension_numbers"]
    free = [a for a in range(len(other.aval.shape)) if a not in contract[1 - side]]
    if batch[0] or not all(o or n == 1 for o, n in zip(own, var.aval.shape, strict=True)) or len(free) != 1:
        return None
    axis = 0 if side == 1 else len(out) - 1
    return Product(name, index, moves, side, "dot", axis, out[axis])


def _moves(jaxpr: Any, uses: Mapping[Any, list[int]], var: Any) -> tuple[int, tuple[int, ...]]:
    """The equation at which a value that has one use at a time ends up, and those that only move it there."""
    moves: list[int] = []
    while len(uses.get(var, ())) == 1 and uses[var][0] >= 0:
        index = uses[var][0]
        eqn = jaxpr.eqns[index]
        # A number that is copied to several places is drawn once for all of them.
        if eqn.outvars[0].aval.size != var.aval.size:
            return -1, ()
        if eqn.primitive.name not in _MOVES:
            return index, tuple(moves)
        moves.append(index)
        var = eqn.outvars[0]
    return -1, ()


def _multiply(jaxpr: Any, product: Product, turns: Collection[int] = ()) -> Any:
    """The product as a function of the weight and the rows, brought where ``turns`` bring it."""
    eqn = jaxpr.eqns[product.equation]

    def multiply(w: Any, x: Any) -> Any:
        return _moved(jaxpr, turns, eqn.primitive.bind(*((w, x) if product.side == 0 else (x, w)), **eqn.params))

    return multiply


def _moved(jaxpr: Any, moves: Collection[int], value: Any) -> Any:
    for index in moves:
        eqn = jaxpr.eqns[index]
        value = eqn.primitive.bind(value, **eqn.params)
    return value
