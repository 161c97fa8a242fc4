"""Many gradient estimates at one place, to see how noisy they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._keys import jax_key
from taut._precision import real_dtype, scope
from taut.algorithms._combinations import check_combination
from taut.algorithms._failures import check_pair
from taut.algorithms._rows import weights_of
from taut.algorithms._svi import SVI
from taut.gradients import (
    Antithetic,
    DoublyReparam,
    GradientEstimator,
    Noise,
    Orthogonal,
    Pathwise,
    QuadraticControl,
    ScoreFunction,
    StickingTheLanding,
    VarGrad,
    Wake,
    check_noise,
)
from taut.guides import Guide, bind
from taut.objectives import Objective
from taut.problem import Problem, Program, count_compilation

# What a run could use instead, at the same number of draws.
_OTHERS = (
    {"gradient": StickingTheLanding()},
    {"gradient": Pathwise()},
    {"gradient": DoublyReparam()},
    {"gradient": QuadraticControl()},
    {"gradient": ScoreFunction()},
    {"gradient": VarGrad()},
    {"gradient": Wake()},
    {"noise": Antithetic()},
    {"noise": Orthogonal()},
)
_CHUNK = 64


def gradient_draws(
    problem: Problem,
    guide: Guide,
    algorithm: SVI,
    params: Mapping[str, Any],
    model: np.ndarray,
    count: int,
    key: int | jax.Array = 0,
) -> dict[str, np.ndarray]:
    """Independent estimates of the gradient as a run takes it: new draws, and new rows of subsampled plates.

    Args:
        problem, guide, algorithm: what runs.
        params: the guide's parameters.
        model: unconstrained values of the model's parameters.
        count: how many estimates.
        key: an integer or a JAX key.

    Returns:
        By parameter name, ``(count, *shape)``; the model's parameters by theirs, on the real line.

    Raises:
        TautError: what the algorithm refuses.
    """
    guide = bind(guide, problem)
    objective, estimator = algorithm.pair(problem, guide)
    check_pair(problem, guide, estimator)
    check_combination(problem, guide, objective, estimator, algorithm.noise, algorithm.steps)
    with scope(problem.precision):
        keys = jax.random.split(jax_key(key), -(-count // _CHUNK) * _CHUNK).reshape(-1, _CHUNK)
        real = {name: jnp.asarray(value, real_dtype()) for name, value in params.items()}
        at = jnp.asarray(model, real_dtype())
        static = (problem.program, guide, objective, estimator, algorithm.noise)
        parts = [jax.device_get(_slopes(*static, real, at, some, problem.inputs)) for some in keys]
    found = {name: np.concatenate([p[0][name] for p in parts])[:count] for name in real}
    in_model = np.concatenate([p[1] for p in parts])[:count]
    start = 0
    for param in problem.params.values():
        found[param.name] = in_model[:, start : start + param.size]
        start += param.size
    return found


def alternatives(problem: Problem, guide: Guide, algorithm: SVI) -> list[tuple[str, SVI]]:
    """The same run with another estimator or other noise, as far as the table allows it: its code, and itself."""
    guide = bind(guide, problem)
    objective, estimator = algorithm.pair(problem, guide)
    found = []
    for change in _OTHERS:
        gradient, noise = change.get("gradient", estimator), change.get("noise", algorithm.noise)
        assert isinstance(gradient, GradientEstimator) and isinstance(noise, Noise)
        if type(gradient) is type(estimator) and type(noise) is type(algorithm.noise):
            continue
        try:
            inner = getattr(objective, "objective", objective)
            gradient.valid_for(inner)
            check_noise(type(gradient).__name__, inner, type(noise).__name__, noise.sort)
            check_pair(problem, guide, gradient)
            check_combination(problem, guide, objective, gradient, noise, algorithm.steps)
        except TautError:
            continue
        part, choice = next(iter(change.items()))
        fields = {"objective": inner, "gradient": gradient, "noise": noise, "steps": algorithm.steps}
        found.append((f"{part}=taut.gradients.{type(choice).__name__}()", SVI(**fields)))
    return found


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _slopes(
    program: Program,
    guide: Guide,
    objective: Objective,
    estimator: GradientEstimator,
    noise: Noise,
    params: Any,
    model: Any,
    keys: Any,
    inputs: Any,
) -> Any:
    count_compilation()
    leaves, consts = inputs

    def one(key: Any) -> Any:
        draws, rows = jax.random.split(key)
        here = [*leaves[:-1], jax.random.key_data(rows)], consts

        def loss(params: Any, model: Any) -> Any:
            weights = weights_of(program, guide, draws, here, objective, noise)
            return estimator.surrogate(objective, weights, params, model)

        return jax.grad(loss, argnums=(0, 1))(params, model)

    return jax.lax.map(one, keys)
