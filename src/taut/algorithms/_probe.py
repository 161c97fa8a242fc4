"""Looking beyond q: climbs from far outside it, and one more component for each mode that q does not cover."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from taut._draws import haar_rows
from taut._keys import generator
from taut.algorithms._algorithm import Solution
from taut.algorithms._deterministic import COMPARABLE, evaluator
from taut.algorithms._levels import climb
from taut.algorithms._modes import same_mode
from taut.algorithms._polish import polish
from taut.algorithms._smc_target import Components
from taut.algorithms._starts import Evaluate, explore, triangular
from taut.guides import FullRank, GaussianMixture
from taut.problem import Problem

_AXIS_PROBES = 64  # most; six for each axis otherwise
_ROUND_PROBES = 16
_REACH = (4.0, 40.0)  # sds of q at which a climb begins
_MOST = 3  # modes that are added
_LARGEST = 150  # dimensions beyond which climbs have no dense inverse Hessians, and axes are too many to try


class Found(NamedTuple):
    """A mode outside q: Gaussian ``point (D,)``, ``factor (D, D)``, with its ELBO on a few draws, nats."""

    point: np.ndarray
    factor: np.ndarray
    elbo: float


def outside(evaluate: Evaluate, components: Components, elbo: float, rng: np.random.Generator) -> list[Found]:
    r"""Modes of comparable mass that q does not cover, found by climbs from points far out along single axes.

    A probe starts at a draw of q that is moved by 4 to 40 sds, most of them along one coordinate and some in a random
    direction of q's frame; far out in all directions at once every narrow mode has lost its basin. Climbs run in the
    frame of q, where most end at its own mode within ten steps. One that converges elsewhere is polished, and counts
    if its Laplace ELBO comes within 7 nats of q's.

    Args:
        evaluate: the density, ``(n, D)``.
        components: q.
        elbo: of q, nats.
        rng: generator.

    Returns:
        Distinct modes, best first.
    """
    k = int(np.argmax(components.log_weights))
    mean, factor = components.means[k], components.factors[k]
    d = len(mean)
    # Along axes: every sign and every third of the reach, or as many of these as may be tried.
    tries = rng.permutation(6 * d)[:_AXIS_PROBES]
    axes, signs, third = tries % d, 1.0 - 2.0 * (tries // d % 2), tries // (2 * d)
    along = np.zeros((len(tries), d))
    along[np.arange(len(tries)), axes] = signs * np.linalg.norm(factor, axis=1)[axes]
    ways = haar_rows(_ROUND_PROBES // 2, d, rng)
    ways = np.concatenate([ways, -ways]) @ factor.T
    share = [
        (third + rng.uniform(size=len(tries))) / 3,
        rng.permutation(np.arange(_ROUND_PROBES) + 0.5) / _ROUND_PROBES,
    ]
    low, high = np.log(_REACH)
    reach = np.exp(low + (high - low) * np.concatenate(share))
    x = rng.standard_normal((len(reach), d)) @ factor.T
    x += np.concatenate([along, ways]) * reach[:, None]
    inverse = components.inverses[k]

    def framed(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_p, gradient = evaluate(mean + rows @ factor.T)
        return log_p, gradient @ factor

    log_p, _ = framed(x @ inverse.T)
    x = x[np.isfinite(log_p)]
    if not len(x):
        return []
    starts = explore(framed, d, rng, given=x @ inverse.T, ticks=100, draws=4)
    found: list[Found] = []
    known = list(zip(components.means, components.factors, strict=True))
    for row in np.argsort(-starts.end_log_p):
        point, root = mean + factor @ starts.ends[row], triangular(factor @ starts.end_factors[row])
        if not starts.converged[row] or any(same_mode(point, root, m, c) for m, c in known):
            continue
        polished = polish(evaluate, point, root)
        known.append((polished.mean, polished.factor))
        if not polished.converged or any(same_mode(polished.mean, polished.factor, m, c) for m, c in known[:-1]):
            continue
        laplace = float(
            evaluate(polished.mean[None])[0][0]
            + 0.5 * d * np.log(2 * np.pi)
            + np.log(np.diagonal(polished.factor)).sum()
        )
        if laplace > elbo - COMPARABLE:
            found.append(Found(polished.mean, polished.factor, laplace))
    return sorted(found, key=lambda f: -f.elbo)


def widened(problem: Problem, solution: Solution, key: int | jax.Array, *, cover: bool) -> Solution:
    """The solution with a component for each mode that probes found outside it; the same object if none did.

    Args:
        problem: the problem on its full data.
        solution: any; only a `FullRank` or `GaussianMixture` fit of a model without parameters is looked at.
        key: the fit's key.
        cover: whether q may become a mixture; otherwise the modes are only counted.
    """
    if not isinstance(solution.guide, FullRank | GaussianMixture) or problem.num_params or problem.dim > _LARGEST:
        return solution
    components = Components(solution.guide, solution.params)
    lam = np.asarray(solution.guide.centredness, float) * np.ones(problem.dim)
    evaluate = evaluator(problem, np.where(problem.hierarchical, lam, 1.0))
    rng = generator(key, 4000)
    with np.errstate(over="ignore", invalid="ignore"):  # far out, densities and their slopes may leave the numbers
        log_w = _log_weights(solution, problem, components, evaluate, rng, 64)
        more = outside(evaluate, components, float(log_w.mean()), rng)
    if not more:
        return solution
    if not cover:
        # Probes know q's own mode only: what they found may be what the starts had found, and is counted once.
        found_before, reached, starts = solution.modes or (1, 0, 0)
        return replace(solution, modes=(max(found_before, 1 + len(more)), reached, starts))
    fits = [climb(evaluate, found.point, found.factor, rng, levels=1) for found in more[:_MOST]]
    log_z = [_evidence(f.fresh.log_p - f.fresh.log_q) for f in fits]
    here = _evidence(_log_weights(solution, problem, components, evaluate, rng, 1000))
    parts = np.concatenate([here + components.log_weights, log_z])
    weights = np.exp(parts - parts.max())
    params = GaussianMixture.from_moments(
        weights,
        np.concatenate([components.means, [f.state.mean for f in fits]]),
        np.concatenate([components.factors, [f.state.factor for f in fits]]),
    )
    shares = ", ".join(f"{w:.2g}" for w in weights[len(components.means) :] / weights.sum())
    note = f"climbs from far outside q found {len(fits)} more mode(s), of mass {shares}, which q now covers"
    guide = GaussianMixture(len(weights), solution.guide.centredness)
    return replace(solution, guide=guide, params=params, notes=(*solution.notes, note))


def _log_weights(
    solution: Solution,
    problem: Problem,
    components: Components,
    evaluate: Evaluate,
    rng: np.random.Generator,
    rows: int,
) -> np.ndarray:
    z = np.asarray(solution.guide.draws(problem, solution.params, rows, rng)[0].coordinates)
    return evaluate(z)[0] - components.density(z)[0]


def _evidence(log_weights: np.ndarray) -> float:
    return float(np.logaddexp.reduce(log_weights) - np.log(len(log_weights)))
