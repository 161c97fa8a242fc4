"""Batches after the first: what preflight asks of the data is asked of every row, once, as it is first visited."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._precision import scope
from taut.problem._kernel import Kernel
from taut.problem._preflight import check_data
from taut.problem._problem import Problem
from taut.problem._program import Program


def check_later(problem: Problem, leaves: dict[int, Any]) -> None:
    """Refuse batches with observations outside of their support, or with numbers that are not finite.

    Args:
        problem: the problem of a batch of that size.
        leaves: by place among the problem's inputs, values of several batches, stacked.

    Raises:
        TautError: as for the first batch: ``soft-targets``, ``data-support``, ``data-nonfinite``.
    """
    program = problem.program
    known, _ = problem.inputs
    finite = np.ones(len(next(iter(leaves.values()))), bool)
    for place, stack in leaves.items():
        # Missing values that the first batch had too are masked, or filled in by the model.
        if np.issubdtype(stack.dtype, np.floating) and np.isfinite(np.asarray(known[place])).all():
            finite &= np.isfinite(stack).reshape(len(stack), -1).all(axis=1)
    masking = program.fixed("mask")
    names = tuple(
        n
        for n in program.fixed()
        if not isinstance(program.constraints.get(n, dist.constraints.real), type(dist.constraints.real))
        and (n in masking or n not in program.outputs["mask"])
    )
    inside = finite
    if names:
        with scope(problem.precision):
            inside = finite & np.asarray(_inside(program, names, leaves, problem.inputs))
    for index in np.flatnonzero(~inside):
        here = {place: np.asarray(stack)[index] for place, stack in leaves.items()}
        kernel: Kernel = copy.copy(problem.kernel())
        kernel._inputs = [here.get(place, leaf) for place, leaf in enumerate(known)]
        treedef = jax.tree.structure(dict(problem.arrays))
        check_data(jax.tree.unflatten(treedef, kernel._inputs[:-1]), {}, program, kernel)


@partial(jax.jit, static_argnums=(0, 1))
def _inside(program: Program, names: tuple[str, ...], leaves: Any, inputs: Any) -> Any:
    """Whether all observations of each batch lie in their supports, ``bool[batches]``."""
    known, consts = inputs

    def one(here: dict[int, Any]) -> Any:
        given = [here.get(place, leaf) for place, leaf in enumerate(known)]
        observed, masks = program.evaluate(["observed", "mask"], {}, given, consts, names=names)
        flags = []
        for name, value in observed.items():
            soft = "soft-targets" in program.sites[name].allow
            inside = dist.contains(dist.constraints.unit_interval if soft else program.constraints[name], value)
            mask = jnp.asarray(masks.get(name, True))
            flags.append(jnp.all(inside | ~mask.reshape(mask.shape + (1,) * (inside.ndim - mask.ndim))))
        return jnp.all(jnp.stack(flags))

    return jax.lax.map(one, leaves)
