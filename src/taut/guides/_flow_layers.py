"""Layers of a flow, from flowjax: the one file that imports it, when a flow is first used."""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._precision import real_dtype, scope

Kind = Literal["coupling", "autoregressive"]
Transformer = Literal["affine", "spline"]

_INTERVAL = 5.0  # sds of the base within which a spline bends; beyond it is the identity
_MOST_STRETCH = 5.0  # log of the largest factor of one affine map: every real parameter gives an invertible one
# Parts of flowjax's paths that say nothing to a reader.
_SILENT = ("bijections", "bijection", "conditioner", "masked_autoregressive_mlp", "args", "arr")


class Shape(NamedTuple):
    """What decides the layers of a flow, besides its dimension.

    Attributes:
        kind: what a coordinate's map depends on: half of the others, or those before it.
        layers: how many.
        transformer: what the networks move: an affine map of each coordinate, or a spline and an affine map.
        width, depth: hidden units and hidden layers of the networks.
        knots: of a spline.
    """

    kind: Kind
    layers: int
    transformer: Transformer
    width: int
    depth: int
    knots: int


class Layers(NamedTuple):
    """A bijection of ``float[D]`` taken apart: names and initial values of what is learned, and the rest."""

    start: dict[str, np.ndarray]
    treedef: Any
    static: Any

    def bijection(self, params: Any) -> Any:
        """The bijection with given parameters; traceable."""
        leaves = [jnp.asarray(params[name], real_dtype()) for name in self.start]
        return _module("equinox").combine(jax.tree.unflatten(self.treedef, leaves), self.static)


def layers_of(shape: Shape, dim: int) -> Layers:
    """The layers in the precision in force; the identity at their initial values."""
    return _layers(shape, dim, real_dtype().name)


@lru_cache(maxsize=64)
def _layers(shape: Shape, dim: int, dtype: str) -> Layers:
    # A compilation may be under way, and what is kept here must hold no tracers of it: a thread has none.
    with ThreadPoolExecutor(1) as own:
        return own.submit(_made, shape, dim, dtype).result()


def _made(shape: Shape, dim: int, dtype: str) -> Layers:
    with scope("float64" if dtype == "float64" else "float32"):
        eqx, bijections = _module("equinox"), _module("flowjax.bijections")
        chain = bijections.Chain(_chain(bijections, shape, dim))
        learned, static = eqx.partition(chain, eqx.is_inexact_array)
        paths, treedef = jax.tree_util.tree_flatten_with_path(learned)
        start = {_name(path): np.asarray(leaf) for path, leaf in paths}
        assert len(start) == len(paths)
        return Layers(start, treedef, jax.tree.map(lambda x: np.asarray(x) if isinstance(x, jax.Array) else x, static))


def _chain(bijections: Any, shape: Shape, dim: int) -> list[Any]:
    """Every coordinate by itself, then the layers that join them, each in an order of its own that is undone after."""
    found = [_elementwise(bijections, shape, dim)]
    if dim == 1:  # nothing to depend on: one more map of the one coordinate
        return [*found, _elementwise(bijections, shape, dim)]
    rng = np.random.default_rng(0)
    for layer in range(shape.layers):
        order = np.arange(dim)[::-1] if layer % 2 else rng.permutation(dim) if layer else np.arange(dim)
        found.append(bijections.Permute(order.copy()))
        found.append(_joint(bijections, shape, dim, jax.random.key(layer)))
        found.append(bijections.Permute(np.argsort(order)))
    return found


def _joint(bijections: Any, shape: Shape, dim: int, key: Any) -> Any:
    common = {
        "transformer": _scalar(bijections, shape, shape.transformer),
        "dim": dim,
        "nn_width": shape.width,
        "nn_depth": shape.depth,
        "nn_activation": jnp.tanh,
    }
    if shape.kind == "coupling":
        return _at_identity(bijections.Coupling(key, untransformed_dim=dim // 2, **common), lambda c: c.conditioner)
    made = bijections.MaskedAutoregressive(key, **common)
    return _at_identity(made, lambda c: c.masked_autoregressive_mlp)


def _at_identity(layer: Any, network: Any) -> Any:
    """The layer with a last linear map of zeros: its transformers are then what they are by themselves."""
    last = network(layer).layers[-1]
    zeros = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if _module("equinox").is_inexact_array(leaf) else leaf, last)
    return _module("equinox").tree_at(lambda made: network(made).layers[-1], layer, zeros)


def _scalar(bijections: Any, shape: Shape, kind: Transformer) -> Any:
    """An invertible map of one number, the identity at first."""
    stretch = _module("paramax").Parameterize(_bounded_exp, jnp.zeros((), real_dtype()))
    affine = _module("equinox").tree_at(lambda a: a.scale, bijections.Affine(), stretch)
    if kind == "affine":
        return bijections.Chain([affine])
    return bijections.Chain([bijections.RationalQuadraticSpline(knots=shape.knots, interval=_INTERVAL), affine])


def _elementwise(bijections: Any, shape: Shape, dim: int) -> Any:
    """A spline and an affine map for every coordinate."""
    eqx = _module("equinox")
    one = _scalar(bijections, shape, "spline")
    several = jax.tree.map(lambda x: jnp.repeat(x[None], dim, axis=0) if eqx.is_inexact_array(x) else x, one)
    return bijections.Vmap(several, in_axes=eqx.if_array(0))


def _bounded_exp(log_scale: Any) -> Any:
    return jnp.exp(_MOST_STRETCH * jnp.tanh(log_scale / _MOST_STRETCH))


def _name(path: Any) -> str:
    """A path in flowjax's modules without what says nothing: ``"flow.2.layers.0.weight"``."""
    words = ["flow"]
    skip = False
    for key in path:
        word = str(getattr(key, "name", getattr(key, "idx", key)))
        if not skip and word not in _SILENT:
            words.append(word)
        skip = word == "args"
    return ".".join(words)


def _module(name: str) -> Any:
    try:  # by name: types are checked where flowjax is absent too
        return importlib.import_module(name)
    except ImportError as error:
        raise TautError(
            "missing-extra",
            found=f"no package {error.name}",
            expected="flowjax, for taut.guides.Flow",
            remedy="pip install 'taut[flows]'",
        ) from error
