"""The evidence of a problem of many latents: annealing from a low-rank q, in q's own frame, without a matrix."""

from __future__ import annotations

from typing import NamedTuple, cast

import jax
import numpy as np
from scipy import stats

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
_ROUNDS = (1, 1, 2, 4)
_MOST_NUMBERS = 2**25  # kept of the moves at the posterior
_MOVE = 0.03  # of a scale: a drift that does not matter


class Annealed(NamedTuple):
    """What annealing found; every name that `SMCResult` has too means the same.

    points: the particles of the last two rounds where these agree, ``(T P, D + num_params)``, all of one moment
    together. particles: P. centredness: coordinates of the points. log_evidence and its standard error, nats: from the
    islands, or from the weights if that is larger. converged: whether averages over rounds of moves at the posterior
    stay; ``False`` without such moves. capped: whether a limit ended it. acceptance: of the last move. temperatures:
    between q and the posterior. gradients: used. funnel_index: 0, not looked at.
    """

    points: np.ndarray
    particles: int
    centredness: np.ndarray
    log_evidence: float
    log_evidence_se: float
    island_log_evidence: tuple[float, ...]
    converged: bool
    capped: bool
    acceptance: float
    temperatures: int
    gradients: int
    funnel_index: int = 0


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
    moves: int = 0,
    most_gradients: int = 4_000_000,
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
        moves: $n_0$, moves of the first round at the posterior, where rounds of $n_0, n_0, 2n_0, 4n_0$ moves are made
            until no average over a round differs from that over the last; 0 for the evidence alone.
        most_gradients: nothing is begun beyond it.

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
    lam = np.concatenate([lam[: problem.dim], np.ones(problem.num_params)])
    evaluate = evaluator(problem, lam)
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

    while beta < 1.0 and temperatures < _MOST_TEMPERATURES and np.isfinite(log_z).all() and gradients < most_gradients:
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
    reached = bool(beta == 1.0 and np.isfinite(log_z).all())
    most_kept = max(1, _MOST_NUMBERS // cloud.z.size)
    rounds, converged = [[cloud.z]], False
    for factor in _ROUNDS if reached and moves else ():
        rounds.append([])
        for _ in range(factor * moves):
            if gradients > most_gradients:
                break
            cloud, step, acceptance = move(cloud, 1.0, step)
            rounds[-1].append(cloud.z)
        if gradients > most_gradients:
            break
        rounds = rounds[-2:]
        if converged := len(rounds[0]) > 1 and _at_rest(*(np.stack([shape.white(z) for z in r]) for r in rounds)):
            break
    # What is at rest may be pooled.
    kept_points = rounds[0] + rounds[1] if converged else rounds[-1]
    kept_points = kept_points[:: -(-len(kept_points) // most_kept)]
    spread = float(log_z.std(ddof=1) / np.sqrt(_ISLANDS)) if reached else np.inf
    z = np.concatenate(kept_points)
    return Annealed(
        points=np.concatenate([z, np.broadcast_to(own, (len(z), len(own)))], axis=1),
        particles=size * _ISLANDS,
        centredness=lam,
        log_evidence=float(np.logaddexp.reduce(log_z) - np.log(_ISLANDS)) if reached else float("nan"),
        log_evidence_se=max(spread, float(np.sqrt(variance))),
        island_log_evidence=tuple(log_z.tolist()),
        converged=converged,
        capped=not reached or gradients > most_gradients,
        acceptance=acceptance,
        temperatures=temperatures,
        gradients=gradients,
    )


def _at_rest(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether no average of a whitened latent or of its square moved from one round to the next, given how many are
    looked at; each round ``(moves, P, D)``."""
    first = np.stack([before.mean(0), (before**2).mean(0)])
    change = np.stack([now.mean(0), (now**2).mean(0)]) - first
    mean, se = change.mean(1), change.std(1, ddof=1) / np.sqrt(change.shape[1])
    sure = float(stats.norm.isf(0.01 / mean.size))
    return bool(np.all(np.abs(mean) < np.array([[_MOVE], [2 * _MOVE]]) + sure * se))
