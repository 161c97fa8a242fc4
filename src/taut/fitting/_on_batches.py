"""A fit on `taut.data.Batches`: which algorithm walks through them, and on what the answer is weighed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut._precision import scope
from taut.algorithms import SVI, Algorithm, Solution
from taut.fitting._by_hand import as_family
from taut.fitting._weigh import Weighed, weigh_solution, without_weights
from taut.fitting._weigh_batches import objective_over, rows_of, shared_values, weigh_batches
from taut.guides import FullRank, Guide, MeanField, bind
from taut.problem import Problem, elements

# Array elements of one evaluation over all rows, up to which the whole data are weighed and verified as ever, and
# latents up to which the default guide has a full covariance.
_WHOLE, _DENSE = 200_000, 100

# Rows up to which it has one.
_NARROW = 20_000

# Numbers to be learned past which a fit on batches is one of a network.
_NETWORK = 20_000


def choose_for_batches(
    problem: Problem, guide: Guide | Callable[..., Any] | None, algorithm: Algorithm | None
) -> tuple[Algorithm, Guide]:
    """`SVI`, and a Gaussian where no guide is given: with a full covariance where latents and rows are few.

    A posterior of very many rows is so narrow that the noise of batches swamps what they say of correlations.

    Raises:
        TautError: ``bad-combination`` for an algorithm that needs all rows at once, ``guide-missing`` for latents of
            rows without a guide.
    """
    if algorithm is not None and not isinstance(algorithm, SVI):
        name = type(algorithm).__name__
        raise TautError(
            "bad-combination",
            found=f"{name} on batches of plate {problem.batches.plate!r}" if problem.batches else name,
            expected="SVI, whose gradients may be those of a batch",
            remedy="algorithm=taut.algorithms.SVI(), or all data at once: taut.fit(model, dict(x=x, y=y))",
        )
    algorithm = SVI() if algorithm is None else algorithm
    if guide is not None:
        return algorithm, as_family(guide)
    assert problem.batches is not None
    local = rows_of(problem)
    if local:
        latent = problem.latents[local[0]]
        raise TautError(
            "guide-missing",
            site=latent.name,
            source=latent.source,
            found=f"a latent for each row of plate {problem.batches.plate!r}",
            expected="a guide for it: an encoder, or parameters for every row",
            remedy=f'guide=taut.guides.Amortised("{latent.plates[0]}", encoder), or taut.guides.MeanField()',
        )
    return algorithm, FullRank() if problem.dim <= _DENSE and problem.batches.rows <= _NARROW else MeanField()


def in_single(problem: Problem, algorithm: Algorithm, guide: Guide) -> tuple[str, ...]:
    """Whether a fit on batches is one of a network, whose noise is far above the rounding of 32 bits: a sentence, or
    nothing.

    Twice the speed and half the memory is what these bring; whether q is close is judged in 64 bits as ever.
    """
    if problem.batches is None or problem.precision != "float64" or not isinstance(algorithm, SVI):
        return ()
    count = problem.dim + problem.num_params
    if count <= _NETWORK:
        with scope(problem.precision):
            shapes = bind(guide, problem).init(problem, jax.random.key(0))
        count = max(count, problem.num_params + sum(np.size(leaf) for leaf in jax.tree.leaves(shapes)))
    if count <= _NETWORK:
        return ()
    return (f'computed in float32, for {count:,} numbers are learned; precision="float64" for twice the digits',)


def to_be_weighed(problem: Problem) -> Problem:
    """The problem that the answer is judged on: that of all rows, where they are few enough; else that of a batch."""
    batches = problem.batches
    if batches is None or batches.whole is None:
        return problem
    work = elements(problem.program.closed.jaxpr) * batches.rows / batches.size
    if work > _WHOLE:
        return problem
    return Problem(problem.model, batches.whole, precision=problem.precision, discrete=problem.discrete)


def weigh_any(problem: Problem, solution: Solution, draws: int, key: int | jax.Array) -> Weighed:
    """Weigh a solution on all data at once, or by a pass over their batches."""
    if problem.batches is None:
        return weigh_solution(problem, solution, draws, key)
    return weigh_batches(problem, solution, draws, key)


def unweighed(problem: Problem, solution: Solution, draws: int, key: int | jax.Array) -> Weighed:
    """A few draws of what belongs to no row, and no weights."""
    found = without_weights(problem, solution, draws, key)
    return found if problem.batches is None else found._replace(values=shared_values(problem, found.values))


def numbers_of_batches(
    problem: Problem, solution: Solution, weighed: Weighed, key: int | jax.Array
) -> tuple[dict[str, tuple[float, float | None, str]], tuple[str, ...]]:
    """The ELBO over an epoch where draws cannot be weighed, and a sentence that says why they cannot."""
    if problem.batches is None or weighed.log_weights is not None:
        return {}, ()
    found = objective_over(problem, solution, key)
    rows = problem.batches.rows
    note = (
        f"ELBO {found.value:,.2f} +- {found.se:.2g} nats over all {rows:,} rows, {found.value / rows:,.4f} a row; "
        f"{', '.join(rows_of(problem)) or 'q'}: too many latents to be weighed together, so that nothing here says how "
        "far q is from the posterior"
    )
    return {"ELBO": (found.value, found.se, "nats")}, (note,)
