"""Latents under a mask: which of them others read where they have no prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._precision import real_dtype

if TYPE_CHECKING:
    from taut.problem._program import Program

# Points at which the slope is looked at: zero at both only where nothing is read.
_LOOKS = 2


def read_where_masked(program: Program, leaves: list[Any]) -> list[str]:
    """The latents with rows that a mask takes the prior from, and that other densities depend on all the same.

    Such rows have a flat prior in the model's own space; those that nothing reads have none, and need none.

    Args:
        program: the traced model, in which masked rows have a density of their own.
        leaves: its data.
    """
    plain = program.reach["plain"]
    names = [n for n in program.outputs["masked"] if any(n in plain[other] for other in plain if other != n)]
    if not names:
        return []
    inputs, consts = [*leaves, jnp.zeros(2, jnp.uint32)], program.closed.consts
    rng = np.random.default_rng(0)
    found: set[str] = set()
    for _ in range(_LOOKS):
        holes = {
            s.name: jnp.asarray(0.5 * rng.normal(size=s.coordinate_shape), real_dtype())
            for s in (*program.latents.values(), *program.params.values())
        }
        holes |= {n + "/centredness": jnp.ones(s.coordinate_shape, real_dtype()) for n, s in program.latents.items()}
        values, masks = program.evaluate(["value", "masked"], holes, inputs, consts)

        def total(values: Any, holes: Any = holes) -> Any:
            return sum(program.evaluate("plain", holes, inputs, consts, values=values).values())

        slopes = jax.grad(total)({n: values[n] for n in names})
        for name, slope in slopes.items():
            mask = masks[name].reshape(masks[name].shape + (1,) * (slope.ndim - masks[name].ndim))
            if np.any(np.asarray(jnp.where(mask, 0.0, slope)) != 0.0):
                found.add(name)
    return [n for n in names if n in found]
