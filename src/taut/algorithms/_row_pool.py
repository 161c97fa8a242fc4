"""Log-weights of many draws from q by row of independent data, for figures that are made after the fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from taut._keys import jax_key
from taut._precision import real_dtype, scope
from taut.algorithms._algorithm import Solution
from taut.algorithms._rows import ByRow, by_row, weights_of
from taut.guides import bind
from taut.objectives import IWAE
from taut.problem import Problem

_CHUNK = 500
_MOST_NUMBERS = 2**24  # kept in all


def row_log_weights(
    problem: Problem, solution: Solution, draws: int, key: int | jax.Array = 0, *, least: int = 2
) -> np.ndarray | None:
    r"""$\log p(x_i, z_i) - \log q(z_i)$ of fresh draws, where the model's and the guide's rows are independent.

    Args:
        problem: the problem on its full data.
        solution: what an algorithm found.
        draws: how many at most; fewer where the rows are very many.
        key: an integer or a JAX key.
        least: but no fewer than this.

    Returns:
        ``float64[draws, rows]``, or ``None`` where the rows are not independent.
    """
    guide = bind(solution.guide, problem)
    objective = by_row(problem, guide, IWAE(particles=_CHUNK))
    if not isinstance(objective, ByRow):
        return None
    draws = min(draws, max(least, _MOST_NUMBERS // objective.rows.length))
    with scope(problem.precision):
        params = {name: jnp.asarray(value, real_dtype()) for name, value in solution.params.items()}
        model = jnp.asarray(solution.model_params, real_dtype())

        def some(one: jax.Array) -> jax.Array:
            weights = weights_of(problem.program, guide, one, problem.inputs, objective)
            return weights(params, params, model)

        keys = jax.random.split(jax_key(key), -(-draws // _CHUNK))
        run = jax.jit(some)
        return np.concatenate([np.asarray(run(one), float) for one in keys])[:draws]
