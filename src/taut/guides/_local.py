r"""Local latents under subsampled plates: parameters for all N rows, of which each step uses the chosen B.

The program at hand has B rows of a plate, or all of them; the *wide* vector has all rows either way. A coordinate of a
chosen row stands for N/B of its like, in $\log q$ exactly as in $\log p$, so that the mean over batches is the ELBO of
all rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut.problem import DISCRETE, Latent, Program


class Place(NamedTuple):
    """Where the coordinates of a program stand among those of all rows.

    Attributes:
        index: ``int[dim]``: the place of each in the wide vector.
        each: ``float[dim]``: how many coordinates each stands for.
    """

    index: Any
    each: np.ndarray


def wide_shape(program: Program, latent: Latent) -> tuple[int, ...]:
    """The shape of a latent's coordinate when every plate has all of its rows."""
    shape = list(latent.coordinate_shape)
    for axis, frame in _axes(program, latent):
        shape[axis] = frame.size
    return tuple(shape)


def wide_layout(program: Program) -> dict[str, slice]:
    """Where each latent stands in the wide vector."""
    layout, start = {}, 0
    for name, latent in program.latents.items():
        size = math.prod(wide_shape(program, latent))
        layout[name] = slice(start, start + size)
        start += size
    return layout


def wide_dim(program: Program) -> int:
    """Number of coordinates when every plate has all of its rows."""
    return sum(math.prod(wide_shape(program, latent)) for latent in program.latents.values())


def place(program: Program, inputs: Any) -> Place | None:
    """Where the program's coordinates stand; ``None`` where it has all rows of every latent. Traceable.

    Args:
        program: the traced model.
        inputs: `Problem.inputs`, whose last leaf chooses the rows.

    Raises:
        TautError: ``bad-argument`` for a program of chosen rows without its inputs.
    """
    axes = {name: _axes(program, latent) for name, latent in program.latents.items()}
    if not any(axes.values()):
        return None
    if inputs is None:
        raise _no_inputs()
    rows = program.evaluate("rows", {}, *inputs)
    index, count = [], []
    for name, part in wide_layout(program).items():
        latent = program.latents[name]
        at: Any = np.arange(part.start, part.stop).reshape(wide_shape(program, latent))
        each = 1.0
        for axis, frame in axes[name]:
            at = jnp.take(at, rows[frame.name], axis=axis)
            each *= frame.size / frame.length
        index.append(jnp.ravel(at))
        count.append(np.full(latent.size, each))
    return Place(jnp.concatenate(index), np.concatenate(count))


def chosen_rows(program: Program, latent: Latent, value: Any, inputs: Any) -> Any:
    """What a guide has for all rows of a latent, its batch axes first, at the chosen ones. Traceable."""
    axes = _axes(program, latent)
    if axes and inputs is None:
        raise _no_inputs()
    rows = program.evaluate("rows", {}, *inputs) if axes else {}
    for axis, frame in axes:
        value = jnp.take(value, rows[frame.name], axis=axis)
    return value


def rows_each(program: Program, latent: Latent) -> float:
    """For how many rows each of a latent's stands."""
    return math.prod(frame.size / frame.length for _, frame in _axes(program, latent))


def at_place(there: Place | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """Wide parameters, each ``float[wide]``, at the chosen rows."""
    return dict(params) if there is None else {name: value[there.index] for name, value in params.items()}


def each_counts(there: Place | None) -> Any:
    """How many coordinates each stands for; 1 where all are there."""
    return 1.0 if there is None else there.each


def _no_inputs() -> TautError:
    return TautError(
        "bad-argument",
        site="inputs",
        found="a guide of local latents without the data",
        expected="the problem's inputs, which say at which rows it stands",
        remedy="guide.log_prob(program, params, point, inputs=problem.inputs)",
    )


def _axes(program: Program, latent: Latent) -> list[tuple[int, Any]]:
    """The axes of a latent's coordinate that are rows of subsampled plates, with the plates."""
    if latent.transform == DISCRETE:
        return []
    batch = len(latent.shape) - latent.event_dim
    frames = program.sites[latent.name].plates
    return [(batch + p.dim, p) for p in frames if p.name in program.outputs["rows"] and p.length < p.size]
