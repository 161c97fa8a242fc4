r"""When a noisy climb is over: the gain of the last stage against its own noise, in nats.

Two fits are compared on the same draws (and the same rows of the data), so that what they have in common cancels: the
noise of the difference falls with their distance, while the noise of each estimate does not. Stages double in length,
so a slow but steady climb gains more in each; nats have no units to tune.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RUNNING, CONVERGED, PLATEAUED, BUDGET, NONFINITE, DIVERGED = range(6)
STATUS = (None, "converged", "plateaued", "budget", "nonfinite", "diverged")

# Steps of the first stage; each next one ends at twice the steps.
FIRST_STAGE = 400

# Stages before a run may be called converged, and before noise may be called a plateau.
FEWEST_STAGES = 3
FEWEST_NOISY_STAGES = 5

# Nats that two stages in a row must lose, each against the best average before, to count as running away.
_LOST = 1.0


class Stages(NamedTuple):
    """What the stages so far say.

    Attributes:
        finished: how many.
        gain: objective of the last stage's average minus that of the best one before, in nats.
        gain_se: its standard error.
        quiet: stages in a row whose gain was lost in its noise.
        status: `RUNNING`, `CONVERGED`, `PLATEAUED`, `BUDGET`, `NONFINITE` or `DIVERGED`.
    """

    finished: int = 0
    gain: float = np.inf
    gain_se: float = np.inf
    quiet: int = 0
    status: int = RUNNING


def stage_bounds(step: int, steps: int) -> tuple[int, int]:
    """Where the stage of a step begins and ends; the budget ends every stage.

    Args:
        step: steps done.
        steps: the budget.
    """
    begin, end = 0, FIRST_STAGE
    while step >= end:
        begin, end = end, 2 * end
    return begin, min(end, steps)


def judge_stage(stages: Stages, differences: np.ndarray, tolerance: float) -> tuple[Stages, bool]:
    """Add a finished stage.

    Args:
        stages: those before.
        differences: objective of the new average minus that of the best before, pair by pair, in nats.
        tolerance: a gain that does not matter, in nats.

    Returns:
        The stages, and whether the new average is the better one.
    """
    finished = stages.finished + 1
    # A difference that is not finite means that one of the two is nowhere near.
    finite = np.isfinite(differences)
    if not finite.all():
        return Stages(finished, np.inf, np.inf, 0), bool(np.mean(differences > -np.inf) > 0.5)
    gain = float(np.mean(differences))
    # In units of the largest: the squares of a fit that ran away would be infinite, and its loss no loss.
    unit = max(1.0, float(np.max(np.abs(differences))))
    se = unit * float(np.std(differences / unit, ddof=1) / np.sqrt(len(differences)))
    quiet = stages.quiet + 1 if abs(gain) <= 2 * se else 0
    status = RUNNING
    if finished >= FEWEST_STAGES:
        if abs(gain) + 2 * se < tolerance:
            status = CONVERGED
        elif quiet >= 2 and finished >= FEWEST_NOISY_STAGES:
            status = PLATEAUED
        elif max(gain + 2 * se, stages.gain + 2 * stages.gain_se) < -_LOST:
            status = DIVERGED
    return Stages(finished, gain, se, quiet, status), gain >= -2 * se
