"""The observed information at a mode, and its inverse."""

from __future__ import annotations

import numpy as np

from taut.algorithms._deterministic import evaluator
from taut.algorithms._mode_search import precise
from taut.algorithms._polish import polish
from taut.problem import Problem


def covariance_at(problem: Problem, point: np.ndarray) -> tuple[np.ndarray, float]:
    """Inverse of the negative Hessian of the log joint over all coordinates, parameters included.

    Args:
        problem: any.
        point: near a mode, ``float[dim + num_params]``; a last Newton step is taken.

    Returns:
        ``(n, n)``, NaN where the density is flat in some direction, and the log joint in nats.
    """
    evaluate = evaluator(problem, problem.centredness())
    first = polish(evaluate, point, np.eye(len(point)), **precise(problem))
    mode = polish(evaluate, first.mean, first.factor, **precise(problem))  # again, in units of its own
    covariance = mode.factor @ mode.factor.T
    return (covariance if mode.flat is None else np.full_like(covariance, np.nan)), mode.log_p
