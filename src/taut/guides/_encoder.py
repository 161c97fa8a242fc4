"""An encoder: a function with parameters, given by the user as a module or as a function with initial values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError

PREFIX = "encoder"


class Encoder(NamedTuple):
    """An encoder taken apart.

    Attributes:
        given: what the user gave.
        module: whether that holds its parameters itself.
        call: ``(params, *row) -> outputs`` of one row, where ``params`` is a list of arrays.
        names: of these arrays.
        start: from a key to their initial values.
    """

    given: Callable[..., Any]
    module: bool
    call: Callable[..., Any]
    names: tuple[str, ...]
    start: Callable[[Any], list[np.ndarray]]


def take_apart(encoder: Any, init: Any) -> Encoder:
    """Tell an encoder's parameters from what is fixed in it.

    Args:
        encoder: a callable pytree, such as an Equinox module, whose real arrays are learnt; or a function
            ``(params, *row)``.
        init: for a function: its first parameters, a pytree of arrays, or a function from a JAX key to one.

    Raises:
        TautError: ``bad-argument``.
    """
    if not callable(encoder):
        raise _refused(f"encoder={type(encoder).__name__}", "a module, or a function of parameters and a row")
    if init is None:
        return _module(encoder)
    made = init(jax.random.key(0)) if callable(init) else init
    entries, treedef = jax.tree_util.tree_flatten_with_path(made)
    if not entries or not all(_real(leaf) for _, leaf in entries):
        raise _refused(
            f"init with {len(entries)} leaves, of which {sum(_real(v) for _, v in entries)} are real arrays",
            "a pytree of real arrays, or a function from a key to one",
        )

    def call(params: list[Any], *row: Any) -> Any:
        return encoder(jax.tree_util.tree_unflatten(treedef, params), *row)

    def start(key: Any) -> list[np.ndarray]:
        return [np.asarray(v, float) for v in jax.tree.leaves(init(key) if callable(init) else init)]

    return Encoder(encoder, False, call, tuple(PREFIX + jax.tree_util.keystr(path) for path, _ in entries), start)


def names_of_rows(encoder: Encoder, data: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The data that a function's arguments after the first are named after; ``None`` where one is not in the data."""
    if encoder.module:
        return None
    try:
        parameters = list(inspect.signature(encoder.given).parameters.values())[1:]
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    names = tuple(p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD)
    return names if names and all(name in data for name in names) else None


def check_call(encoder: Encoder, takes: tuple[str, ...]) -> None:
    """Refuse to give an encoder another number of rows than it takes.

    Raises:
        TautError: ``bad-argument``.
    """
    given = takes if encoder.module else ("params", *takes)
    try:
        inspect.signature(encoder.given).bind(*given)
    except TypeError as error:
        raise TautError(
            "bad-argument",
            site="encoder",
            found=f"encoder({', '.join(given)}): {error}",
            expected="an encoder that takes one row of each of these data",
            remedy=f'takes="{takes[0]}", or the encoder with an argument for each: ({", ".join(given)})',
        ) from None
    except ValueError:
        return  # a callable that does not say what it takes


def outputs_by_site(found: Any, sizes: Mapping[str, int]) -> dict[str, tuple[Any, Any]]:
    """Locations and log scales of each site from what an encoder returned for many rows.

    Args:
        found: a pair ``(loc, log_scale)``, one array of both, or such for each site by name; all with rows first.
        sizes: numbers per row of each site, in program order.

    Returns:
        ``float[rows, size]`` twice, for each site.

    Raises:
        TautError: ``bad-argument``.
    """
    if isinstance(found, Mapping):
        if set(found) != set(sizes):
            raise _shapes(f"outputs for {', '.join(map(str, found))}", sizes)
        return {name: outputs_by_site(found[name], {name: size})[name] for name, size in sizes.items()}
    total = sum(sizes.values())
    if isinstance(found, tuple | list) and len(found) == 2:
        loc, log_scale = (_flat(part) for part in found)
    elif isinstance(found, jax.Array | np.ndarray) and _flat(found).shape[1] == 2 * total:
        loc, log_scale = jnp.split(_flat(found), 2, axis=1)
    else:
        raise _shapes(_described(found), sizes)
    if loc.shape[1] != total or log_scale.shape[1] != total:
        raise _shapes(_described(found), sizes)
    edges = np.cumsum([0, *sizes.values()])
    return {n: (loc[:, a:b], log_scale[:, a:b]) for n, a, b in zip(sizes, edges, edges[1:], strict=False)}


def _module(encoder: Any) -> Encoder:
    entries, treedef = jax.tree_util.tree_flatten_with_path(encoder)
    learned = [i for i, (_, leaf) in enumerate(entries) if _real(leaf)]
    if not learned:
        raise _refused(
            f"{getattr(encoder, '__name__', type(encoder).__name__)}, which holds no arrays to learn",
            "a module with arrays in it, or a function with initial parameters",
        )
    fixed = [leaf for _, leaf in entries]

    def call(params: list[Any], *row: Any) -> Any:
        leaves = list(fixed)
        for i, value in zip(learned, params, strict=True):
            leaves[i] = value
        return jax.tree_util.tree_unflatten(treedef, leaves)(*row)

    def start(key: Any) -> list[np.ndarray]:
        return [np.asarray(fixed[i], float) for i in learned]

    names = tuple(PREFIX + jax.tree_util.keystr(entries[i][0]) for i in learned)
    return Encoder(encoder, True, call, names, start)


def _real(leaf: Any) -> bool:
    return isinstance(leaf, float) or (
        isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)
    )


def _flat(part: Any) -> Any:
    part = jnp.asarray(part)
    return part.reshape(part.shape[0], -1)


def _described(found: Any) -> str:
    shapes = [str(tuple(np.shape(part)[1:])) for part in jax.tree.leaves(found)]
    return f"outputs of shape {', '.join(shapes)} for a row"


def _shapes(found: str, sizes: Mapping[str, int]) -> TautError:
    total = sum(sizes.values())
    what = ", ".join(f"{name} ({size})" for name, size in sizes.items())
    return TautError(
        "bad-argument",
        site="encoder",
        found=found,
        expected=f"for each row loc and log_scale of {what}: two arrays of {total}, one of {2 * total}, or by site",
        remedy=f"an encoder that ends in: return loc, log_scale    # {total} numbers each",
    )


def _refused(found: str, expected: str) -> TautError:
    return TautError(
        "bad-argument",
        site="encoder",
        found=found,
        expected=expected,
        remedy='taut.guides.Amortised("rows", lambda p, x: (p["w"] @ x, p["s"]), init=dict(w=w0, s=s0)), or an '
        "equinox.Module in place of function and init",
    )
