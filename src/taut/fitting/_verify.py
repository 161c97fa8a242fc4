"""From a solution to draws that SMC carried to the posterior: what the verdict compares q with, and falls back on."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from taut import diagnostics
from taut.algorithms import SMCResult, SMCSettings, Solution, smc
from taut.diagnostics import Verification, Weighing
from taut.fitting._nearby import gaussian_near
from taut.fitting._weigh import Weighed, coordinates_of
from taut.guides import GaussianMixture
from taut.problem import Problem, elements

# A q this close is only checked; any other is expected to be replaced by its moved draws.
_CLOSE = 0.1
_GLANCE = SMCSettings(particles=256, moves=4)
_LIGHT = 0.7  # k-hat below which the weights have no tail
_CHECK = SMCSettings(particles=512, moves=8)
_REPLACE = SMCSettings(particles=1024, moves=32)
_REPLACE_MODES = SMCSettings(particles=2048, moves=32)
# Array elements that one run may compute, some minutes on one core.
_MOST_WORK = 2 * 10**11
_MOST_GRADIENTS = 4_000_000


class Verified(NamedTuple):
    """Moved draws and what they say.

    Attributes:
        values: latents, deterministic sites and parameters by name, ``(T P, *shape)``.
        facts: for the verdict.
    """

    values: dict[str, np.ndarray]
    facts: Verification


def verify_solution(
    problem: Problem, solution: Solution, weighed: Weighed, weighing: Weighing | None, key: int | jax.Array
) -> tuple[Verified | None, tuple[str, ...]]:
    """Carry draws of q to the posterior: few where q is close and they agree with it, many otherwise.

    Where q is of a family that particles cannot be weighed against, they start from a Gaussian near it.

    Args:
        problem: the problem on its full data.
        solution: what an algorithm found.
        weighed: draws of q.
        weighing: what their weights say.
        key: the fit's key.

    Returns:
        `Verified`, or ``None`` where SMC has no start or met its limit on gradients; and notes.
    """
    if weighing is None:
        return None, ()
    begin, same = gaussian_near(problem, solution, key)
    if begin is None:
        return None, ()
    try:
        return _verify(problem, begin, weighed, weighing, key, same)
    except KeyboardInterrupt:
        return None, ("the verification was interrupted; the verdict rests on importance weights",)


def worth_verifying(solution: Solution) -> bool:
    """Whether a verdict can still depend on particles: not for a run that broke off, nor along a flat direction."""
    return solution.status not in ("nonfinite", "interrupted") and not solution.flat


def _verify(
    problem: Problem, solution: Solution, weighed: Weighed, weighing: Weighing, key: int | jax.Array, same: bool
) -> tuple[Verified | None, tuple[str, ...]]:
    """Particles from a solution, q itself or a Gaussian near it (not ``same``), compared with the draws of q."""
    several = isinstance(solution.guide, GaussianMixture)
    plans = [_REPLACE_MODES if several else _REPLACE]
    limits = diagnostics.Limits()
    sure = weighing.kl + 2.0 * weighing.kl_se < limits.sure
    if weighing.kl < _CLOSE and not several:
        plans.insert(0, _CHECK)
    if sure and same:
        # Weights without a tail bound every error; with one, a drift must be able to show.
        plans.insert(0, replace(_GLANCE, sharp=not weighing.khat < _LIGHT))
    most = min(_MOST_GRADIENTS, _MOST_WORK // max(1, elements(problem.program.closed.jaxpr)))
    verified = None
    spent = 0
    for plan in plans:
        settings = replace(plan, most_gradients=most)
        result = smc(problem, solution.guide, solution.params, solution.model_params, key, settings)
        spent += result.gradients
        if result.capped:
            note = f"SMC was given up after {result.gradients:,} gradients; the verdict rests on importance weights"
            return None, (note,)
        verified = _compared(problem, weighed, result, spent)
        if _clear(verified.facts, sure, limits):
            break
    return verified, ()


def _clear(facts: Verification, sure: bool, limits: diagnostics.Limits) -> bool:
    """Whether more particles would not change what is said of q: it agrees, and by more than the noise."""
    slack, shift, log_sd = (
        (-3.0, limits.shift, limits.log_sd) if sure else (2.0, limits.shift_upper, limits.log_sd_upper)
    )
    return bool(
        facts.converged
        and np.all(np.abs(facts.mean_shift) + slack * facts.mean_shift_se < shift)
        and np.all(np.abs(facts.log_sd_ratio) + slack * facts.log_sd_ratio_se < log_sd)
    )


def _compared(problem: Problem, weighed: Weighed, result: SMCResult, spent: int) -> Verified:
    values = problem.constrain(result.points, result.centredness)
    if weighed.as_drawn:
        moved = {name: values[name] for name in problem.latents}
    else:
        moved = coordinates_of(problem, result.points, values)
    drawn = {name: weighed.coordinates[name] for name in moved}
    for name, latent in () if weighed.as_drawn else problem.latents.items():
        # A verdict covers what is reported, and that is in the model's own space.
        if latent.support != "real" and not latent.hierarchical:
            drawn[f"{name} itself"], moved[f"{name} itself"] = weighed.values[name], values[name]
    names, shift, shift_se, ratio, ratio_se, spread = diagnostics.against(drawn, moved, result.particles)
    facts = Verification(
        names=names,
        mean_shift=shift,
        mean_shift_se=shift_se,
        log_sd_ratio=ratio,
        log_sd_ratio_se=ratio_se,
        island_spread=spread,
        converged=result.converged,
        log_evidence=result.log_evidence,
        log_evidence_se=result.log_evidence_se,
        funnel_index=result.funnel_index,
        gradients=spent,
    )
    return Verified(values, facts)
