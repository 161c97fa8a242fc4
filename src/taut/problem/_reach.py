"""What depends on what: reachability in the traced program.

A set of inputs is a whole number with one bit per input, and an array stands for one such number per element, so that
the entries of a stacked array are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from taut.problem._holes import hole_names

# Bits of a whole array at once, or an object array with the bits of each element.
Bits = int | np.ndarray

# Arrays longer than this are not looked into.
_LONGEST = 4096

# Functions without a slope: what goes in does not move what comes out.
_STEPS = {"stop_gradient", "floor", "ceil", "round", "sign"}

_MOVES: dict[str, Callable[[np.ndarray, dict[str, Any]], np.ndarray]] = {
    "reshape": lambda a, p: a.transpose(p["dimensions"] or range(a.ndim)).reshape(p["new_sizes"]),
    "squeeze": lambda a, p: a.squeeze(p["dimensions"]),
    "expand_dims": lambda a, p: np.expand_dims(a, p["dimensions"]),
    "transpose": lambda a, p: a.transpose(p["permutation"]),
    "rev": lambda a, p: np.flip(a, p["dimensions"]),
    "slice": lambda a, p: a[
        tuple(slice(*bounds) for bounds in zip(p["start_indices"], p["limit_indices"], p["strides"] or [1] * a.ndim))
    ],
    "broadcast_in_dim": lambda a, p: np.broadcast_to(
        a.reshape([dict(zip(p["broadcast_dimensions"], a.shape)).get(i, 1) for i in range(len(p["shape"]))]),
        p["shape"],
    ),
}
_ELEMENTWISE = frozenset(
    [
        "abs",
        "add",
        "add_any",
        "and",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "cbrt",
        "ceil",
        "clamp",
        "convert_element_type",
        "copy",
        "cos",
        "cosh",
        "digamma",
        "div",
        "eq",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "igamma",
        "integer_pow",
        "is_finite",
        "le",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "not",
        "or",
        "pow",
        "real_imag",
        "reduce_precision",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "stop_gradient",
        "sub",
        "tan",
        "tanh",
        "xor",
    ]
)
# Calls whose inputs are those of their body, and where the body is kept.
_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"} | {
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def dependencies(jaxpr: Any, input_names: Sequence[str], smooth: bool = False) -> list[frozenset[str]]:
    """Which holes and inputs each output of a program depends on.

    Args:
        jaxpr: a jaxpr with holes.
        input_names: a label for each of its inputs.
        smooth: count only what can move the output a little: not what goes through a comparison, a whole number, a
            step function or a `stop_gradient`.

    Returns:
        One set of labels per output.
    """
    labels: dict[str, int] = {}

    def bit(name: str) -> int:
        return 1 << labels.setdefault(name, len(labels))

    found = _Walk(bit, smooth).follow(jaxpr, [bit(name) for name in input_names])
    wholes = [_whole(bits) for bits in found]
    return [frozenset(name for name, place in labels.items() if bits >> place & 1) for bits in wholes]


class _Walk:
    def __init__(self, bit: Callable[[str], int], smooth: bool):
        self.bit = bit
        self.smooth = smooth

    def follow(self, jaxpr: Any, inputs: Sequence[Bits]) -> list[Bits]:
        """The bits of a program's outputs."""
        env: dict[Any, Bits] = dict(zip(jaxpr.invars, inputs, strict=True))

        def read(v: Any) -> Bits:
            return 0 if isinstance(v, jex.Literal) else env.get(v, 0)

        for eqn in jaxpr.eqns:
            name = hole_names(eqn)
            results = [self.bit(name)] if name is not None else self.equation(eqn, [read(v) for v in eqn.invars])
            for v, bits in zip(eqn.outvars, results, strict=True):
                env[v] = 0 if self.smooth and not _is_real(v) else bits
        return [read(v) for v in jaxpr.outvars]

    def equation(self, eqn: Any, sources: list[Bits]) -> list[Bits]:
        """The bits of an equation's outputs, from those of its inputs."""
        name, params = eqn.primitive.name, eqn.params
        if self.smooth and (name in _STEPS or (name == "mul" and any(_is_zero(v) for v in eqn.invars))):
            return [0] * len(eqn.outvars)
        if name in _CALLS and _CALLS[name] in params:
            return self.follow(_body(params[_CALLS[name]]), sources)
        if name == "cond":
            branches = [self.follow(_body(b), sources[1:]) for b in params["branches"]]
            chosen = 0 if self.smooth else _whole(sources[0])
            return [reduce(_either, parts, chosen) for parts in zip(*branches)]
        if name == "scan":
            body = _body(params["jaxpr"])
            # What a loop's parts are called differs between versions of JAX; what it stacks has one axis more outside.
            carried = sum(v.aval.ndim == b.aval.ndim for v, b in zip(eqn.outvars, body.outvars))
            fixed = sum(v.aval.ndim == b.aval.ndim for v, b in zip(eqn.invars, body.invars)) - carried
            return self.loop(body, sources, fixed, carried, 0)
        if name == "while":
            tests, fixed = params["cond_nconsts"], params["body_nconsts"]
            carried = len(sources) - tests - fixed
            if self.smooth:
                asked = 0
            else:
                # How long it runs is part of the answer; the state that it asks about is in the answer anyway.
                asked = reduce(or_, map(_whole, sources[:tests]), 0)
            body = _body(params["body_jaxpr"])
            return [_either(bits, asked) for bits in self.loop(body, sources[tests:], fixed, carried, asked)]
        if all(isinstance(bits, int) for bits in sources) and name not in ("stack", "concatenate"):
            return [reduce(or_, map(_whole, sources), 0)] * len(eqn.outvars)
        if max(v.aval.size for v in (*eqn.invars, *eqn.outvars)) <= _LONGEST:
            moved = _moved(eqn, sources)
            if moved is not None:
                return [_simple(moved)]
        return [reduce(or_, map(_whole, sources), 0)] * len(eqn.outvars)

    def loop(self, body: Any, sources: list[Bits], fixed: int, carried: int, asked: int) -> list[Bits]:
        """The bits after any number of rounds: carries may depend on what other carries were."""
        flat: list[Bits] = [_whole(bits) for bits in sources]
        while True:
            results = [_whole(bits) for bits in self.follow(body, flat)]
            after: list[Bits] = [
                _either(_either(a, b), asked) for a, b in zip(flat[fixed : fixed + carried], results[:carried])
            ]
            if after == flat[fixed : fixed + carried]:
                return [*after, *results[carried:]]
            flat[fixed : fixed + carried] = after


def _moved(eqn: Any, sources: list[Bits]) -> np.ndarray | None:
    """Element by element, for equations that keep elements apart; ``None`` for the others."""
    name, params = eqn.primitive.name, eqn.params
    arrays = [_spread(bits, v) for bits, v in zip(sources, eqn.invars)]
    shape = eqn.outvars[0].aval.shape
    if name in _MOVES and len(arrays) == 1:
        return _MOVES[name](arrays[0], params)
    if name == "stack":
        return np.stack(arrays, params["axis"])
    if name == "concatenate":
        return np.concatenate(arrays, params["dimension"])
    if name in _ELEMENTWISE and all(a.shape in ((), shape) for a in arrays):
        return np.broadcast_to(np.asarray(reduce(np.bitwise_or, arrays), object), shape)
    if name.startswith("reduce_") and "axes" in params and len(arrays) == 1:
        return np.asarray(np.bitwise_or.reduce(arrays[0], tuple(params["axes"])), object)
    return None


def _spread(bits: Bits, v: Any) -> np.ndarray:
    return bits if isinstance(bits, np.ndarray) else np.full(v.aval.shape, bits, object)


def _simple(bits: np.ndarray) -> Bits:
    """A whole number where all elements agree."""
    flat = bits.ravel()
    return int(flat[0]) if flat.size and all(b == flat[0] for b in flat) else bits


def _whole(bits: Bits) -> int:
    return bits if isinstance(bits, int) else reduce(or_, bits.ravel().tolist(), 0)


def _either(a: Bits, b: Bits) -> Bits:
    return a | b if isinstance(a, int) and isinstance(b, int) else _whole(a) | _whole(b)


def _body(jaxpr: Any) -> Any:
    return jaxpr.jaxpr if isinstance(jaxpr, jex.ClosedJaxpr) else jaxpr


def _is_real(v: Any) -> bool:
    return bool(jnp.issubdtype(v.aval.dtype, np.inexact))


def _is_zero(v: Any) -> bool:
    return isinstance(v, jex.Literal) and np.size(v.val) == 1 and not np.any(v.val)
