"""A hole: the place in a traced program where a latent's coordinate goes."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.core import ShapedArray
from jax.extend import core as jex

_hole = jex.Primitive("taut_hole")


@_hole.def_abstract_eval
def _(*, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    return ShapedArray(shape, np.dtype(dtype))


def hole(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """An abstract array that `Program.evaluate` fills in; it exists only inside a trace."""
    return _hole.bind(name=name, shape=tuple(shape), dtype=str(np.dtype(dtype)))


def hole_names(eqn: Any) -> str | None:
    """The name of the hole that an equation makes, or ``None`` for any other equation."""
    return eqn.params["name"] if eqn.primitive is _hole else None
