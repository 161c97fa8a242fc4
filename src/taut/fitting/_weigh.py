"""From a solution to weighed draws: what every verdict and every summary rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from taut._keys import generator
from taut.algorithms import Solution
from taut.guides import Delta, Flat, MCDropout, bind
from taut.problem import Problem

BATCHES = 4

# Numbers kept per fit, draws times scalars: half a gigabyte, which holds the draws that the tails of weights are read
# from. Where these would be fewer than `_ENOUGH`, as for the weights of a network, a quarter of a gigabyte, but a few
# draws for each batch.
MOST_NUMBERS, FEW_NUMBERS, _ENOUGH, _FEWEST = 2**26, 2**25, 1000, 4

# Coordinates past which densities are computed without their gradients, which would fill the memory.
_LARGE = 20_000

# Draws of a fit that is not weighed because its user had no time for it.
_UNWEIGHED = 400


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
    per_batch = kept(problem, rows) // BATCHES
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


def kept(problem: Problem, rows: int) -> int:
    """How many draws a fit keeps: as many as asked for, but at most `MOST_NUMBERS` numbers; see there.

    Args:
        problem: the problem.
        rows: how many draws are asked for.

    Returns:
        A multiple of `BATCHES`.
    """
    names = [name for name, site in problem.program.sites.items() if site.kind == "deterministic"]
    names += [*problem.latents, *problem.params]
    scalars = sum(math.prod(problem.program.shapes.get(name, ())) for name in names)
    if scalars <= MOST_NUMBERS // _ENOUGH:
        return BATCHES * max(_ENOUGH // BATCHES, min(rows, MOST_NUMBERS // max(scalars, 1)) // BATCHES)
    return BATCHES * max(_FEWEST, min(rows, FEW_NUMBERS // scalars) // BATCHES)


def kept_note(weighed: Weighed, rows: int) -> tuple[str, ...]:
    """A sentence, where fewer draws are kept than were asked for."""
    count = max((len(value) for value in weighed.values.values()), default=rows)
    if count >= rows // BATCHES * BATCHES or count == 1:  # one row of what is no draw: the model's parameters
        return ()
    return (
        f"{count:,} draws are kept, where {rows:,} were asked for: more would take more time or memory than the fit",
    )


def without_weights(problem: Problem, solution: Solution, rows: int, key: int | jax.Array) -> Weighed:
    """A few draws from q and no weights, where there was no time for them; arguments as for `weigh_solution`."""
    guide, few = bind(solution.guide, problem), min(_UNWEIGHED, kept(problem, rows))
    point, _ = guide.draws(problem, solution.params, few, generator(key, 1000))
    if not isinstance(point, Flat):
        return Weighed(dict(point), {}, None, as_drawn=True)
    values = values_of(problem, solution, point.coordinates, np.asarray(point.centredness, float))
    return Weighed(values, {}, None)


def values_of(problem: Problem, solution: Solution, z: np.ndarray, centredness: np.ndarray) -> dict[str, np.ndarray]:
    """Draws on the real line as values in the model's own space, with deterministic sites and parameters."""
    return problem.constrain(*_with_params(problem, solution, z, centredness))


def _weigh_flat(
    problem: Problem, solution: Solution, z: np.ndarray, centredness: np.ndarray, log_q: np.ndarray
) -> Weighed:
    values = values_of(problem, solution, z, centredness)
    coordinates = coordinates_of(problem, z, values)
    if isinstance(solution.guide, Delta | MCDropout):
        return Weighed(values, coordinates, None)
    return Weighed(values, coordinates, _log_p(problem, solution, z, centredness).reshape(log_q.shape) - log_q)


def _log_p(problem: Problem, solution: Solution, z: np.ndarray, centredness: np.ndarray) -> np.ndarray:
    points, lam = _with_params(problem, solution, z, centredness)
    if problem.dim <= _LARGE:
        return problem.kernel()(points, lam)[0]
    (densities,) = problem.kernel().outputs(("density",), points, lam)
    problem.kernel().gradients += len(z)
    return np.sum([np.asarray(density, float) for density in densities.values()], axis=0)


def _with_params(
    problem: Problem, solution: Solution, z: np.ndarray, centredness: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points with the model's parameters behind their latents, and the centredness of both."""
    params = np.broadcast_to(solution.model_params, (len(z), problem.num_params))
    points = np.concatenate([z, params], axis=1) if problem.num_params else z
    return points, np.concatenate([centredness[: problem.dim], np.ones(problem.num_params)])


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
