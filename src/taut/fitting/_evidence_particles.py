"""The log evidence from draws of the posterior: particles carried from q, bridged to it, and annealed back."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from taut import diagnostics
from taut._errors import TautError
from taut._keys import jax_key
from taut.algorithms import (
    Annealed,
    SMCResult,
    SMCSettings,
    Solution,
    anneal,
    bridge,
    log_weights_at,
    reverse_anneal,
    smc,
    smc_applicable,
)
from taut.diagnostics import EvidenceLine, Pool
from taut.guides import GaussianMixture, LowRank
from taut.problem import Problem

_SETTINGS = SMCSettings(particles=1024, moves=16)
_SETTINGS_MODES = SMCSettings(particles=2048, moves=16)
_MOVES_LARGE, _MOST_GRADIENTS_LARGE = 12, 1_000_000
_SNAPSHOTS = 4  # of a run, that are weighed
_FUNNEL = 3  # what a verdict asks of moved draws too
_LOOSE = 0.5  # nats: an EUBO further than this from SMC's estimate is tightened by annealing back
_BACK = "reverse annealing"
_MOST_LATENTS = 500  # of annealing back, whose Gaussian has a full covariance


class Moved(NamedTuple):
    """A run from q to the posterior.

    result: as it came. states: some of its moments, ``(T, P, D + num_params)``. log_weights: ``log p - log q`` there,
    ``(T, P)``. trouble: why these are no draws of the posterior; empty if they are.
    """

    result: SMCResult | Annealed
    states: np.ndarray
    log_weights: np.ndarray
    trouble: str


def can_move(solution: Solution) -> bool:
    """Whether particles can be carried from q: it is Gaussian on the real line, and there is somewhere to go."""
    known = smc_applicable(solution.guide) or isinstance(solution.guide, LowRank)
    return known and solution.status != "nonfinite" and not solution.flat


def check_annealing(problem: Problem) -> None:
    """Refuse to anneal back more latents than a full covariance can be learnt of.

    Raises:
        TautError: ``bad-combination``.
    """
    if problem.dim > _MOST_LATENTS:
        raise TautError(
            "bad-combination",
            site="method",
            found=f"method='annealing' with {problem.dim:,} latents",
            expected=f"at most {_MOST_LATENTS}: particles must tell the covariance of all of them",
            remedy='fit.evidence(method="smc")',
        )


def refuse_to_move(solution: Solution, method: str) -> TautError:
    """The error for a method that needs particles, where there can be none."""
    found = f"particles from a {type(solution.guide).__name__} guide"
    if smc_applicable(solution.guide) or isinstance(solution.guide, LowRank):
        flat = f"a posterior that does not fall off along {', '.join(solution.flat)}"
        found = flat if solution.flat else "a fit that stopped at a value that is not finite"
    return TautError(
        "bad-combination",
        site="method",
        found=f"method={method!r} with {found}",
        expected="a fit with a Gaussian guide on the real line, a mixture of them, or LowRank",
        remedy='fit.evidence(method="weights")',
    )


def move(problem: Problem, solution: Solution, key: int | jax.Array) -> Moved:
    """Carry particles from q to the posterior, by a key of their own: not those that the verdict saw."""
    guide, fresh = solution.guide, jax.random.fold_in(jax_key(key), 4002)
    given = (problem, guide, solution.params, solution.model_params)
    if isinstance(guide, LowRank):
        result = anneal(problem, solution, fresh, moves=_MOVES_LARGE, most_gradients=_MOST_GRADIENTS_LARGE)
    else:
        result = smc(*given, fresh, _SETTINGS_MODES if isinstance(guide, GaussianMixture) else _SETTINGS)
    states = result.points.reshape(-1, result.particles, result.points.shape[1])
    states = states[np.unique(np.linspace(0, len(states) - 1, _SNAPSHOTS).astype(int))]
    found = log_weights_at(*given, states.reshape(-1, states.shape[2]), result.centredness)
    log_weights = found.reshape(states.shape[:2])
    trouble = ""
    if result.capped:
        trouble = f"was given up after {result.gradients:,} gradients"
    elif not result.converged:
        trouble = f"still drifts after {result.gradients:,} gradients"
    elif result.funnel_index >= _FUNNEL:
        trouble = "met a funnel that its moves may not enter"
    elif not np.isfinite(log_weights).all():
        trouble = "reached points where q has no density"
    return Moved(result, states, log_weights, trouble)


def from_particles(
    problem: Problem, solution: Solution, moved: Moved, pool: Pool, method: str, key: int | jax.Array,
    rng: np.random.Generator,
) -> list[EvidenceLine]:  # fmt: skip
    """Lines from below (annealing from q), near (SMC, a bridge) and above (EUBO, annealing back).

    Args:
        problem: the problem on its full data.
        solution: what an algorithm found.
        moved: particles.
        pool: log weights of q's draws, not by row.
        method: the one that was asked for.
        key: an integer or a JAX key.
        rng: generator.
    """
    result, rest = moved.result, not moved.trouble
    settled = "particles at rest"
    islands = np.asarray(result.island_log_evidence)
    lines = []
    on_the_way = getattr(result, "annealed_log_evidence", result.log_evidence)
    if not result.capped and np.isfinite(on_the_way):
        se = float(islands.std(ddof=1) / np.sqrt(len(islands)))
        lines.append(EvidenceLine("annealing from q", "below", float(on_the_way), se, True))
    if np.isfinite(result.log_evidence):
        se = float(result.log_evidence_se)
        lines.append(EvidenceLine("SMC", "near", float(result.log_evidence), se, rest, settled))
    if not np.isfinite(moved.log_weights).all():
        return lines
    if method == "bridge":
        found = bridge(moved.log_weights, pool.flat[:, 0])
        if np.isfinite(found.log_evidence):
            lines.append(EvidenceLine("bridge to q", "near", found.log_evidence, found.se, rest, settled))
    above = diagnostics.from_posterior(moved.log_weights, pool, rng, rest)
    lines.append(above)
    loose = above.value - result.log_evidence > _LOOSE
    if rest and (method == "annealing" or loose) and problem.dim <= _MOST_LATENTS:
        again = jax.random.fold_in(jax_key(key), 4003)
        back = reverse_anneal(problem, solution.model_params, moved.states, result.centredness, again)
        if back.finished:
            values = back.log_weights
            parts = np.array([part.mean() for part in np.array_split(values, len(islands))])
            se = max(values.std(ddof=1) / np.sqrt(len(values)), parts.std(ddof=1) / np.sqrt(len(parts)))
            lines.append(EvidenceLine(_BACK, "above", float(values.mean()), float(se), rest, settled))
    return lines
