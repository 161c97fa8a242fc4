"""From a solution to weighed draws: what every verdict and every summary rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from taut._keys import generator
from taut.algorithms import Solution
from taut.guides import Delta, Flat, MCDropout, bind
from taut.problem import Problem

BATCHES = 4

# Numbers kept per fit (draws times scalars): past this the deterministic sites would fill the memory.
_MOST_NUMBERS = 2**27


class Weighed(NamedTuple):
    """Fresh draws from q with their weights.

    Attributes:
        values: latents, deterministic sites and parameters by name, ``(S, *shape)``.
        coordinates: latents on a scale where a mean and an sd describe them, ``(S, *shape)``: on the real line, or
            for hierarchical latents in the model's own space.
        log_weights: ``log p - log q``, ``float64[BATCHES, S / BATCHES]``; ``None`` for a point.
        as_drawn: whether ``coordinates`` are the values themselves, of a guide that draws in the model's own space.
    """

    values: dict[str, np.ndarray]
    coordinates: dict[str, np.ndarray]
    log_weights: np.ndarray | None
    as_drawn: bool = False


def weigh_solution(problem: Problem, solution: Solution, rows: int, key: int | jax.Array) -> Weighed:
    """Draw from q afresh, in independent batches, and weigh the draws.

    Args:
        problem: the problem on its full data.
        solution: what an algorithm found.
        rows: number of draws $S$; fewer are kept when the sites are very many.
        key: the fit's key; the draws use a stream of their own.
    """
    scalars = sum(int(np.prod(shape)) for shape in problem.program.shapes.values())
    per_batch = max(250, min(rows, _MOST_NUMBERS // max(scalars, 1)) // BATCHES)
    guide = bind(solution.guide, problem)
    batches = [guide.draws(problem, solution.params, per_batch, generator(key, 1000 + b)) for b in range(BATCHES)]
    log_q = np.stack([log_q for _, log_q in batches])
    first = batches[0][0]
    if isinstance(first, Flat):
        z = np.concatenate([point.coordinates for point, _ in batches])
        return _weigh_flat(problem, solution, z, np.asarray(first.centredness, float), log_q)
    values = {name: np.concatenate([point[name] for point, _ in batches]) for name in problem.latents}
    log_p, derived = problem.kernel().at_values(values, solution.model_params)
    return Weighed(problem.in_order(derived), dict(values), log_p.reshape(log_q.shape) - log_q, as_drawn=True)


def _weigh_flat(
    problem: Problem, solution: Solution, z: np.ndarray, centredness: np.ndarray, log_q: np.ndarray
) -> Weighed:
    params = np.broadcast_to(solution.model_params, (len(z), problem.num_params))
    lam = np.concatenate([centredness[: problem.dim], np.ones(problem.num_params)])
    points = np.concatenate([z, params], axis=1) if problem.num_params else z
    values = problem.constrain(points, lam)
    coordinates = coordinates_of(problem, z, values)
    if isinstance(solution.guide, Delta | MCDropout):
        return Weighed(values, coordinates, None)
    log_p, _ = problem.kernel()(points, lam)
    return Weighed(values, coordinates, log_p.reshape(log_q.shape) - log_q)


def coordinates_of(problem: Problem, z: np.ndarray, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Latents on the scale where moments are compared; see `Weighed`."""
    return {
        name: values[name]
        if latent.hierarchical
        else z[:, problem.layout[name]].reshape(len(z), *latent.coordinate_shape)
        for name, latent in problem.latents.items()
    }


def one_row(values: Mapping[str, np.ndarray], names: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Parameters do not vary over draws: keep one row of each."""
    return {name: v[:1] if name in names else v for name, v in values.items()}
