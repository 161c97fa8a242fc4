r"""Weighing q on data that are visited in batches: one pass over the rows, whatever their number.

With all latents outside of the batches' plate, $\log p(x, z_s) = \sum_b \frac{|b|}{N} \hat{\mathcal L}_b(z_s)$ exactly,
so that draws of q are weighed as ever. Latents of rows are too many to be weighed together: there the objective's own
mean over an epoch is what can be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut._keys import generator, jax_key
from taut._precision import real_dtype, scope
from taut.algorithms import Solution, at_step, by_row, feed, log_p, weights_of
from taut.fitting._weigh import BATCHES, Weighed, coordinates_of, kept, values_of
from taut.guides import Delta, Flat, Guide, bind, with_model
from taut.guides import Program as GuideProgram
from taut.objectives import ELBO, Objective
from taut.problem import ROWS, Problem, Program, count_compilation, elements

# Array elements that a pass over the data may compute for all draws together, some seconds; those that any pass may;
# and those of one batch that are in memory at once.
_MOST_ELEMENTS, _FREE_ELEMENTS, _AT_ONCE = 2e10, 1e9, 2**22
# Draws that cost no more than one gradient of the fit, draws that are weighed however short the fit was, and batches
# that are stacked.
_PER_GRADIENT, _FEWEST, _CHUNK = 8, 32, 32


class Estimate(NamedTuple):
    """The mean of an objective over an epoch, in nats, and its standard error."""

    value: float
    se: float


def rows_of(problem: Problem) -> list[str]:
    """The latents that belong to rows of the batches."""
    assert problem.batches is not None
    return [name for name, latent in problem.latents.items() if problem.batches.plate in latent.plates]


def weigh_batches(problem: Problem, solution: Solution, rows: int, key: int | jax.Array) -> Weighed:
    """Draw from q afresh and weigh the draws by one pass over all data; without weights where rows have latents.

    Args:
        problem: the problem of a batch.
        solution: what an algorithm found.
        rows: number of draws; fewer where the data are many.
        key: the fit's key.
    """
    guide, local = bind(solution.guide, problem), rows_of(problem)
    assert problem.batches is not None
    if isinstance(guide, GuideProgram) and len(local) == len(problem.latents):
        # What it draws belongs to the rows of one batch; what the model learned, to all.
        return Weighed(_learned(problem, solution, 1), {}, None)
    each = _count(problem, rows) // BATCHES
    parts: Any = [guide.draws(problem, solution.params, each, generator(key, 1000 + b)) for b in range(BATCHES)]
    first = parts[0][0]
    if isinstance(first, Flat):
        z = np.concatenate([point.coordinates for point, _ in parts])
        lam = np.asarray(first.centredness, float)
        values = values_of(problem, solution, z, lam)
        coordinates = coordinates_of(problem, z, values)
        points: Any = Flat(z, np.broadcast_to(lam, (len(z), len(lam))))
    else:
        points = {name: np.concatenate([point[name] for point, _ in parts]) for name in problem.latents}
        values, coordinates = points | _learned(problem, solution, len(next(iter(points.values())))), dict(points)
    values = shared_values(problem, values)
    coordinates = {name: value for name, value in coordinates.items() if name not in local}
    if local or isinstance(guide, Delta) or not guide.evaluable:
        return Weighed(values, coordinates, None)
    log_q = np.stack([log_q for _, log_q in parts])
    total = np.zeros(log_q.size)
    for here, steps, share, inputs in _pass(problem, key):
        with scope(problem.precision):
            together = max(1, _AT_ONCE // max(1, elements(here.program.closed.jaxpr)))
            found = _densities(here.program, min(together, log_q.size), points, solution.model_params, inputs)
        total += share * np.asarray(found, float)[:steps].sum(axis=0)
    problem.kernel().gradients += log_q.size
    return Weighed(values, coordinates, total.reshape(log_q.shape) - log_q)


def _count(problem: Problem, rows: int) -> int:
    """How many draws are weighed: no more than the memory holds, nor than the fit itself took time for."""
    batches = problem.batches
    assert batches is not None
    passes = batches.rows / batches.size
    work = max(1.0, elements(problem.program.closed.jaxpr) * passes)
    of_fit = max(_PER_GRADIENT * problem.kernel().gradients / passes, _FREE_ELEMENTS / work)
    affordable = max(_FEWEST, int(min(of_fit, _MOST_ELEMENTS / work)))
    return min(kept(problem, rows), affordable // BATCHES * BATCHES)


def objective_over(
    problem: Problem, solution: Solution, key: int | jax.Array, objective: Objective | None = None
) -> Estimate:
    """An objective at the solution, averaged over an epoch of the problem's batches.

    Args:
        problem: the problem of a batch, of the fit's own data or of others.
        solution: what an algorithm found.
        key: of the draws.
        objective: by default the ELBO.
    """
    objective = ELBO() if objective is None else objective
    values, shares = [], []
    words = jax.random.key_data(jax.random.fold_in(jax_key(key), 77))
    done = 0
    for here, steps, share, inputs in _pass(problem, key):
        guide = bind(solution.guide, here)
        static = (here.program, guide, by_row(here, guide, objective))
        with scope(here.precision):
            found = _estimates(*static, dict(solution.params), solution.model_params, words, done, inputs)
        found = np.asarray(found, float)[:steps]
        values.append(found)
        shares.append(np.full(len(found), share))
        done += len(found)
    value, share = np.concatenate(values), np.concatenate(shares)
    # An epoch visits every row: what is left of noise is that of the draws, which two estimates per batch tell.
    se = float(np.sqrt(np.sum((share * (value[:, 0] - value[:, 1])) ** 2))) / 2
    return Estimate(float(share @ value.mean(axis=1)), se)


def reads_row_numbers(problem: Problem, solution: Solution, key: int | jax.Array) -> bool:
    """Whether an objective changes when rows get other numbers: the guide has then learned something for each."""
    assert problem.batches is not None
    here, _, _, (known, leaves) = next(_pass(problem, key))
    place = len(jax.tree.leaves({name: value for name, value in here.arrays.items() if name < ROWS}))
    other = {**leaves, place: (np.asarray(leaves[place]) + 1) % max(problem.batches.total, 1)}
    words = jax.random.key_data(jax_key(key))
    guide = bind(solution.guide, here)
    with scope(here.precision):
        static = (here.program, guide, ELBO())
        found = [
            _estimates(*static, dict(solution.params), solution.model_params, words, 0, (known, rows))
            for rows in (leaves, other)
        ]
    return not np.array_equal(*(np.asarray(value) for value in found), equal_nan=True)


def _pass(problem: Problem, key: int | jax.Array) -> Iterator[tuple[Problem, int, float, Any]]:
    """All batches of an epoch, a stack at a time: pattern, how many are real, the share of each, what a step reads."""
    batches = problem.batches
    assert batches is not None
    words = np.asarray(jax.random.key_data(jax.random.fold_in(jax_key(key), 99)))
    step, end = 0, len(batches)
    while step < end:
        with scope(problem.precision):
            part = feed(problem, words, step, end, _CHUNK)
        size = batches.size if part.problem is problem else batches.rows - (end - 1) * batches.size
        yield part.problem, part.steps, size / batches.rows, (part.problem.inputs, part.leaves)
        step += part.steps


def shared_values(problem: Problem, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What does not belong to rows: a fit keeps no draws of theirs."""
    assert problem.batches is not None
    local = rows_of(problem)
    plates = {name: {p.name for p in site.plates} for name, site in problem.program.sites.items()}
    kept = {n: v for n, v in values.items() if n not in local and problem.batches.plate not in plates.get(n, ())}
    deterministic = {n for n in kept if n not in problem.latents and n not in problem.params}
    reached = {n for n in deterministic if _reads_rows(problem, n)}
    return {n: v for n, v in kept.items() if n not in reached}


def _learned(problem: Problem, solution: Solution, draws: int) -> dict[str, np.ndarray]:
    """The model's own parameters, which are the same in every draw."""
    whole = np.concatenate([np.zeros(problem.dim), np.asarray(solution.model_params, float)])[None]
    values = problem.constrain(whole) if problem.params else {}
    return {name: np.broadcast_to(values[name], (draws, *values[name].shape[1:])) for name in problem.params}


def _reads_rows(problem: Problem, name: str) -> bool:
    """Whether a deterministic site is made of the rows of one batch."""
    arrays = set() if problem.batches is None else set(problem.batches.first().columns)
    reach = problem.program.reach.get("value", {}).get(name, frozenset())
    return any(r.removeprefix("data:") in arrays for r in reach if r.startswith("data:"))


@partial(jax.jit, static_argnums=(0, 1))
def _densities(program: Program, together: int, points: Any, model: Any, inputs: Any) -> Any:
    count_compilation()
    real = jax.tree.map(lambda v: jnp.asarray(v, real_dtype()), points)
    model = jnp.asarray(model, real_dtype())
    words = jnp.zeros(2, jnp.uint32)

    def one(index: Any) -> Any:
        here = at_step(inputs, index, words)
        # Some draws at a time: a network's layers for all of them would not fit in memory.
        return jax.lax.map(lambda point: log_p(program, point, model, here), real, batch_size=together)

    length = len(next(iter(inputs[1].values())))
    return jax.lax.map(one, jnp.arange(length))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _estimates(
    program: Program, guide: Guide, objective: Objective, params: Any, model: Any, words: Any, done: Any, inputs: Any
) -> Any:
    count_compilation()
    params = jax.tree.map(lambda v: jnp.asarray(v, real_dtype()), params)
    model = jnp.asarray(model, real_dtype())

    def one(index: Any) -> Any:
        here = at_step(inputs, index, jnp.zeros(2, jnp.uint32))
        there = with_model(guide, params, model)

        def estimate(key: Any) -> Any:
            weights = weights_of(program, guide, key, here, objective)
            return objective.estimate(weights(there, there, model))

        keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(words), done + index))
        return jnp.stack([estimate(keys[0]), estimate(keys[1])])

    length = len(next(iter(inputs[1].values())))
    return jax.lax.map(one, jnp.arange(length))
