"""The verification of a low-rank q: particles annealed in its own frame, since no matrix of their spread can be had."""

from __future__ import annotations

from typing import cast

import jax

from taut.algorithms import SMCResult, Solution, anneal
from taut.diagnostics import Weighing
from taut.fitting._verify import Verified, _compared
from taut.fitting._weigh import Weighed
from taut.guides import LowRank
from taut.problem import Problem, elements

_CLOSE = 0.1  # nats: importance weights alone say enough of such a q, and of the evidence
# 128 particles in an island and 24 moves: the largest of a thousand scalars' spreads stays under the limit of 0.15.
_PARTICLES, _MOVES = 512, 12
# Array elements that one run may compute, some minutes on one core.
_MOST_WORK = 2 * 10**11
_MOST_GRADIENTS = 1_000_000


def verify_large(
    problem: Problem, solution: Solution, weighed: Weighed, weighing: Weighing | None, key: int | jax.Array
) -> tuple[Verified | None, tuple[str, ...]]:
    """Carry draws of a low-rank q to the posterior, where importance weights do not settle what q is worth.

    Arguments and result are those of `verify_solution`.
    """
    if not isinstance(solution.guide, LowRank) or weighing is None or weighing.kl < _CLOSE:
        return None, ()
    most = min(_MOST_GRADIENTS, _MOST_WORK // max(1, elements(problem.program.closed.jaxpr)))
    try:
        found = anneal(problem, solution, key, particles=_PARTICLES, moves=_MOVES, most_gradients=most)
    except KeyboardInterrupt:
        return None, ("the verification was interrupted; the verdict rests on importance weights",)
    if found.capped:
        note = f"annealing was given up after {found.gradients:,} gradients; the verdict rests on importance weights"
        return None, (note,)
    return _compared(problem, weighed, cast(SMCResult, found), found.gradients), ()
