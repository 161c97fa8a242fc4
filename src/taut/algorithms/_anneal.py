"""The evidence of a problem of many latents: annealing from a low-rank q, in q's own frame, without a matrix."""

from __future__ import annotations

from typing import NamedTuple, cast

import jax
import numpy as np

from taut._draws import gaussian_log_density
from taut._errors import TautError
from taut._keys import generator
from taut.algorithms._algorithm import Solution
from taut.algorithms._deterministic import evaluator
from taut.algorithms._low_rank_shape import Shape
from taut.algorithms._smc_moves import (
    Cloud,
    Frames,
    hmc,
    next_temperature,
    relative_variance,
    resampled,
    tuned,
)
from taut.guides import LowRank
from taut.problem import Problem

_ISLANDS = 4
_TRAJECTORY = 1.57
_MOST_TEMPERATURES = 100


class Annealed(NamedTuple):
    """log_evidence and its standard error, nats: from the islands, or from the weights if that is larger; points
    ``(P, D + num_params)``: the particles at the posterior, after ``settle`` moves there; acceptance of the last move;
    temperatures between q and the posterior; gradients."""

    log_evidence: float
    log_evidence_se: float
    island_log_evidence: tuple[float, ...]
    points: np.ndarray
    acceptance: float
    temperatures: int
    gradients: int


class _Frame:
    """q's own frame for `hmc`, in ``O(D r)``."""

    def __init__(self, shape: Shape):
        self.shape = shape

    def out(self, x: np.ndarray) -> np.ndarray:
        return self.shape.rotate(x) * self.shape.scale

    def back(self, g: np.ndarray) -> np.ndarray:
        return self.shape.back(g)


def anneal(
    problem: Problem,
    solution: Solution,
    key: int | jax.Array = 0,
    *,
    particles: int = 512,
    share: float = 0.9,
    settle: int = 0,
) -> Annealed:
    r"""$\log Z$ by carrying draws of a low-rank q to the posterior along $p^\beta q^{1-\beta}$.

    At each temperature the particles are weighed, the four islands resampled apart, and every particle moved once by
    Hamiltonian dynamics in the frame of q, which stays as it is: a frame learnt from fewer particles than latents
    follows their noise, and the moves then no longer leave the tempered density alone.

    $$\log\hat Z = \log\tfrac14\sum_{i=1}^4 \prod_t \tfrac1n\sum_{j} w_{ij}^{(t)},\qquad
      w^{(t)} = (p/q)^{\beta_t - \beta_{t-1}}$$

    Args:
        problem: the problem on its full data.
        solution: a fit with a `LowRank` guide.
        key: an integer or a JAX key.
        particles: P, a multiple of 4.
        share: relative effective sample size that a step of temperature keeps.
        settle: moves at the posterior, for the particles' sake.

    Returns:
        `Annealed`.

    Raises:
        TautError: ``bad-combination`` for another guide.

    Source: Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers; Neal (2001), Annealed importance sampling.
    """
    guide = solution.guide
    if not isinstance(guide, LowRank):
        raise TautError(
            "bad-combination",
            found=f"anneal from {type(guide).__name__}",
            expected="a LowRank guide",
            remedy="taut.algorithms.smc(problem, guide, params, model_params)",
        )
    rng = generator(key, 3100)
    shape = Shape(np.asarray(solution.params["loc"], float), *LowRank.parts(solution.params))
    lam = np.asarray(guide.draws(problem, solution.params, 2, rng)[0].centredness, float)
    evaluate = evaluator(problem, np.concatenate([lam[: problem.dim], np.ones(problem.num_params)]))
    own, log_det, gradients = np.asarray(solution.model_params, float), shape.log_det(), 0

    def cloud_at(z: np.ndarray) -> Cloud:
        nonlocal gradients
        gradients += len(z)
        rows = np.concatenate([z, np.broadcast_to(own, (len(z), len(own)))], axis=1) if len(own) else z
        log_p, grad_p = evaluate(rows)
        u = shape.white(z)
        log_q, grad_q = gaussian_log_density(u, log_det), -shape.rotate(u, -1) / shape.scale
        return Cloud(z, log_p, grad_p[:, : z.shape[1]], log_q, grad_q)

    # `hmc` only asks a frame for its two maps.
    frames = cast(Frames, _Frame(shape))
    size, d = particles // _ISLANDS, problem.dim
    # Independent draws: islands must not share their orthogonality.
    cloud = cloud_at(shape.out(rng.standard_normal((size * _ISLANDS, d))))
    step, beta, temperatures, acceptance = d**-0.25, 0.0, 0, 0.0
    log_z, variance = np.zeros(_ISLANDS), 0.0

    def move(cloud: Cloud, beta: float, step: float) -> tuple[Cloud, float, float]:
        moved, accepted = hmc(cloud_at, cloud, beta, frames, step, _TRAJECTORY, rng)
        mean = float(np.mean(accepted))
        return moved, tuned(step, mean), mean

    while beta < 1.0 and temperatures < _MOST_TEMPERATURES and np.isfinite(log_z).all():
        ratio = cloud.log_p - cloud.log_q
        after = next_temperature(beta, ratio, share)
        weights, which = (after - beta) * ratio, []
        variance += relative_variance(weights) / len(weights)
        for i in range(_ISLANDS):
            kept, log_mean = resampled(weights[i * size : (i + 1) * size], rng)
            which.append(i * size + kept)
            log_z[i] += log_mean
        cloud, beta, temperatures = cloud.take(np.concatenate(which)), after, temperatures + 1
        cloud, step, acceptance = move(cloud, beta, step)
    for _ in range(settle):
        cloud, step, acceptance = move(cloud, beta, step)
    reached = bool(beta == 1.0 and np.isfinite(log_z).all())
    spread = float(log_z.std(ddof=1) / np.sqrt(_ISLANDS)) if reached else np.inf
    return Annealed(
        log_evidence=float(np.logaddexp.reduce(log_z) - np.log(_ISLANDS)) if reached else float("nan"),
        log_evidence_se=max(spread, float(np.sqrt(variance))),
        island_log_evidence=tuple(log_z.tolist()),
        points=np.concatenate([cloud.z, np.broadcast_to(own, (len(cloud.z), len(own)))], axis=1),
        acceptance=acceptance,
        temperatures=temperatures,
        gradients=gradients,
    )
