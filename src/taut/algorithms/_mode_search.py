"""The search for a mode that MAP and Laplace share: climbs from several starts, then the polish of their ends."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from taut._errors import TautError
from taut._keys import generator
from taut.algorithms._algorithm import Progress
from taut.algorithms._deterministic import COMPARABLE, evaluator, impossible_start
from taut.algorithms._modes import Modes, find_modes
from taut.algorithms._polish import Polished
from taut.algorithms._starts import Starts, explore, given_starts
from taut.guides import FullRank, Guide
from taut.problem import Problem

# Nats. A Newton step from there squares the distance: what is left is rounding.
_TOLERANCE = {"float64": 1e-7, "float32": 1e-3}
# Half-width of differences of gradients, in standard deviations.
_DIFFERENCE = {"float64": 1e-3, "float32": 3e-2}


class Search(NamedTuple):
    """Where a search stands: the key, the coordinates, what the climbs and then the polish found, gradients so far,
    and the points that the guide wants the climbs to start from, if any."""

    key: Any
    centredness: np.ndarray
    starts: Starts | None
    modes: Modes | None
    gradients: int
    given: np.ndarray | None = None


def centredness_of(problem: Problem, lam: float | tuple[float, ...]) -> np.ndarray:
    """The coordinates that a guide asks for, ``float[dim + num_params]``."""
    return np.asarray(lam, float) if isinstance(lam, tuple) else problem.centredness(lam)


def full_rank_only(algorithm: str, problem: Problem, guide: Guide) -> FullRank:
    """The guide, for algorithms that know only full-rank Gaussians over latents.

    Raises:
        TautError: ``bad-combination`` for another family, and for a model with parameters of its own.
    """
    if not isinstance(guide, FullRank):
        raise TautError(
            "bad-combination",
            found=f"{algorithm} with {type(guide).__name__}",
            expected="a FullRank guide",
            remedy="guide=taut.guides.FullRank(centredness=0.0)",
        )
    if problem.num_params:
        raise TautError(
            "bad-combination",
            site=next(iter(problem.params)),
            found=f"{algorithm}, for a model with parameters of its own",
            expected="latents only: latents and parameters have no useful joint mode",
            remedy="algorithm=taut.algorithms.FixedDraws(), or give the parameter a prior with taut.sample",
        )
    return guide


def precise(problem: Problem) -> dict[str, Any]:
    """Tolerance and difference of the polish, as the precision allows."""
    return {"tolerance": _TOLERANCE[problem.precision], "difference": _DIFFERENCE[problem.precision]}


def begin(
    problem: Problem, lam: float | tuple[float, ...], key: int | jax.Array, guide: Guide | None = None, most: int = 8
) -> Search:
    """A search before its first step; a guide with a start of its own says where, in ``most`` points at most."""
    centredness = centredness_of(problem, lam)
    given = None if guide is None else given_starts(problem, guide, centredness, generator(key, 2), most)
    return Search(key, centredness, None, None, 0, given)


def advance(problem: Problem, search: Search, starts: int, most: int) -> tuple[Search, Progress]:
    """All climbs, or the polish of all their ends; the model's own parameters are coordinates like the others.

    Raises:
        TautError: ``impossible-start`` when no start meets a finite density.
    """
    evaluate = evaluator(problem, search.centredness)
    if search.starts is None:
        rng = generator(search.key, 0)
        found = explore(evaluate, problem.dim + problem.num_params, rng, starts=starts, given=search.given)
        if found.never_finite == len(found.points):
            raise impossible_start(problem, found.points[0], search.centredness, starts)
        search = search._replace(starts=found, gradients=found.gradients)
        return search, Progress("starts", search.gradients, float(np.max(found.end_log_p)), np.inf)
    modes = find_modes(evaluate, search.starts, generator(search.key, 1), most=most, **precise(problem))
    search = search._replace(modes=modes, gradients=search.gradients + modes.gradients)
    return search, Progress("modes", search.gradients, max(c.polished.log_p for c in modes.candidates), np.inf)


def mode_count(modes: Modes, scores: list[float], starts: int) -> tuple[int, int, int]:
    """``(modes within 7 nats of the best, starts that reached the best, starts)``; a score per candidate, nats."""
    best = int(np.argmax(scores))
    near = sum(1 for score in scores if score >= scores[best] - COMPARABLE)
    return near, modes.candidates[best].reached, starts


def flat_sites(problem: Problem, polished: Polished) -> tuple[str, ...]:
    """Names of the sites along which the density at a polished mode does not fall, in program order."""
    if polished.flat is None:
        return ()
    direction = np.abs(polished.flat)
    heavy = direction > 0.1 * direction.max()
    return tuple(name for name, part in problem.layout.items() if heavy[part].any())


def status_of(problem: Problem, polished: Polished) -> str:
    """How a polish ended, in the words of `Solution`: at a mode, on a flat ridge of them, or on its budget."""
    ridge = polished.flat is not None and polished.decrement < _TOLERANCE[problem.precision]
    return "converged" if polished.converged or ridge else "budget"
