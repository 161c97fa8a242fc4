"""Beginning a run at given parameters instead of an algorithm's own start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._precision import real_dtype, scope
from taut.algorithms import _deterministic
from taut.algorithms._algorithm import Algorithm
from taut.algorithms._deterministic import FixedDraws, evaluator
from taut.algorithms._modes import Candidate, Modes
from taut.algorithms._polish import polish
from taut.algorithms._svi import SVI, Learned, State
from taut.guides import Delta, FullRank, Guide, MeanField, bind
from taut.problem import Problem


def warm(
    algorithm: Algorithm,
    problem: Problem,
    guide: Guide,
    key: int | jax.Array,
    params: Mapping[str, Any],
    model: np.ndarray,
) -> Any:
    """The state of an algorithm that begins at given parameters.

    `FixedDraws` skips its starts and fits from the given Gaussian; `SVI` takes its first step from there.

    Args:
        algorithm, problem, guide, key: what will run.
        params: the guide's parameters.
        model: unconstrained values of the model's parameters, ``float[P]``.

    Raises:
        TautError: ``bad-combination`` for an algorithm that finds its own start.
    """
    if isinstance(algorithm, SVI):
        return warm_state(algorithm, problem, guide, key, params, model)
    if type(algorithm) is FixedDraws and isinstance(guide, FullRank | MeanField | Delta):
        return _fixed_draws(algorithm, problem, guide, key, params, model)
    raise TautError(
        "bad-combination",
        site="guide",
        found=f"{type(algorithm).__name__} from a fitted {type(guide).__name__}",
        expected="an algorithm that can begin at given parameters",
        remedy="taut.fit(model, data, guide=loaded, algorithm=taut.algorithms.SVI())",
    )


def warm_state(
    svi: SVI, problem: Problem, guide: Guide, key: int | jax.Array, params: Mapping[str, Any], model: np.ndarray
) -> State:
    """The state of an `SVI` before its first step, at given parameters; arguments as for `warm`."""
    state = svi.init(problem, guide, key)
    with scope(problem.precision):
        learned = Learned(
            {name: jnp.asarray(params[name], real_dtype()) for name in state.learned.guide},
            jnp.asarray(model, real_dtype()),
        )
        return svi.begin(problem, bind(guide, problem), state.key, learned)._replace(data=state.data)


def _fixed_draws(
    algorithm: FixedDraws, problem: Problem, guide: Any, key: Any, params: Mapping[str, Any], model: np.ndarray
) -> Any:
    """A run with one candidate: the given Gaussian. A point is polished, which is all there is to do."""
    state = algorithm.init(problem, guide, key)
    point = np.concatenate([np.asarray(params["loc"], float), np.asarray(model, float)])
    if isinstance(guide, FullRank):
        factor = FullRank.factor(params)
    else:
        scale = np.exp(np.asarray(params["log_scale"], float)) if isinstance(guide, MeanField) else 0.1
        factor = np.diag(np.broadcast_to(scale, problem.dim))
    polished = polish(evaluator(problem, state.centredness), point, factor)
    candidate = Candidate(point, factor, float(polished.log_p), algorithm.starts, polished, False)
    phase = _deterministic.DONE if isinstance(guide, Delta) else _deterministic.FIT
    return state._replace(phase=phase, modes=Modes([candidate], polished.gradients), gradients=polished.gradients)
