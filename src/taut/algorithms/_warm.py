"""Beginning a stochastic run at given parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._precision import real_dtype, scope
from taut.algorithms._optimizer import optimizer_for
from taut.algorithms._svi import SVI, Learned, State
from taut.guides import Guide
from taut.problem import Problem


def warm_state(
    svi: SVI, problem: Problem, guide: Guide, key: int | jax.Array, params: Mapping[str, Any], model: np.ndarray
) -> State:
    """The state of an `SVI` before its first step, at given parameters instead of the guide's own start.

    Args:
        svi, problem, guide, key: what will run.
        params: the guide's parameters.
        model: unconstrained values of the model's parameters, ``float[P]``.
    """
    state = svi.init(problem, guide, key)
    with scope(problem.precision):
        learned = Learned(
            {name: jnp.asarray(params[name], real_dtype()) for name in state.learned.guide},
            jnp.asarray(model, real_dtype()),
        )
        memory = optimizer_for(svi.optimizer, learned).init(learned)
    return state._replace(learned=learned, optimizer=memory, average=learned, best=learned)
