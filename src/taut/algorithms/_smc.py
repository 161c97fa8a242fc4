"""Sequential Monte Carlo from q to the posterior: q's verification, and draws where q itself will not do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from taut._keys import generator
from taut.algorithms._smc_checks import Drift, Round, Scale, drift, funnel_index
from taut.algorithms._smc_moves import (
    Cloud,
    Frames,
    adapted,
    hmc,
    leapfrogs,
    next_temperature,
    relative_variance,
    resampled,
    tuned,
)
from taut.algorithms._smc_target import Components, Target
from taut.guides import FullRank, GaussianMixture, Guide, MeanField
from taut.problem import Problem

ISLANDS = 4
_SHORT, _LONG = 1.57, 4.7
_ROUNDS = (1, 1, 2, 4)
_SNAPSHOTS = 16  # most states of a round that are kept as draws
_MOST_TEMPERATURES = 200
_NEGLIGIBLE = 0.1  # mean centredness below which moves at 0 would repeat those made


@dataclass(frozen=True)
class SMCSettings:
    """How much work an SMC run may do.

    Attributes:
        particles: P, a multiple of 4; 512 and 1,024 fill the kernel's blocks.
        moves: of the first round at the posterior's end, $n_0$; rounds have $n_0, n_0, 2 n_0, 4 n_0$.
        share: relative effective sample size that a step of temperature keeps.
        most_gradients: no move is begun that would exceed it.
    """

    particles: int = 512
    moves: int = 8
    share: float = 0.9
    most_gradients: int = 4_000_000


class SMCResult(NamedTuple):
    """What an SMC run found.

    Attributes:
        points: states of the last round, ``(T P, D + num_params)``, all of one moment together; equal weights.
        particles: P; the islands are the quarters of each moment, in order.
        centredness: coordinates of the points.
        log_evidence: $\\log Z$, nats.
        log_evidence_se: its standard error: from the islands, or from the weights if that is larger.
        island_log_evidence: one for each island.
        island_sd: their standard deviation, nats.
        drift: between the last two rounds.
        converged: whether that drift is nothing.
        capped: whether the limit on gradients ended the run.
        acceptance: mean of the last round.
        temperatures: how many lay between q and the posterior.
        gradients: evaluations used.
        funnel_index: see `funnel_index`.
    """

    points: np.ndarray
    particles: int
    centredness: np.ndarray
    log_evidence: float
    log_evidence_se: float
    island_log_evidence: tuple[float, ...]
    island_sd: float
    drift: Drift | None
    converged: bool
    capped: bool
    acceptance: float
    temperatures: int
    gradients: int
    funnel_index: int


def smc_applicable(guide: Guide) -> bool:
    """Whether SMC can start from a guide: a Gaussian on the real line, or a mixture of them."""
    return isinstance(guide, FullRank | MeanField | GaussianMixture)


def smc(
    problem: Problem,
    guide: Guide,
    params: Mapping[str, Any],
    model_params: np.ndarray,
    key: int | jax.Array = 0,
    settings: SMCSettings | None = None,
) -> SMCResult:
    r"""Carry draws of q to the posterior along $p^\beta q^{1-\beta}$, and move them there until they rest.

    Temperatures are chosen so that each keeps 90 % of the particles; four islands are resampled apart, so that their
    evidences tell each other's error; particles move by Hamiltonian dynamics in q's frame, later in their own. At the
    posterior the trajectories alternate between a quarter and three quarters of a period, and between the guide's
    coordinates of hierarchies and the non-centred ones. The run has converged when averages over rounds of moves stay.

    Args:
        problem: the problem on its full data.
        guide: a Gaussian family or a mixture; see `smc_applicable`.
        params: its parameters.
        model_params: unconstrained values of the model's own parameters, held fixed, ``float[num_params]``.
        key: an integer or a JAX key.
        settings: the work allowed.

    Returns:
        `SMCResult`.

    Source: Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers; Lee and Whiteley (2016) for islands.
    """
    return _Run(problem, guide, params, model_params, key, settings or SMCSettings()).result()


class _Run:
    def __init__(
        self,
        problem: Problem,
        guide: Guide,
        params: Mapping[str, Any],
        model_params: np.ndarray,
        key: int | jax.Array,
        settings: SMCSettings,
    ):
        self.settings = settings
        self.rng = generator(key, 3000)
        self.components = Components(guide, params)
        self.target = Target(problem, model_params, self.components)
        size = settings.particles // ISLANDS
        drawn = [guide.draws(problem, params, size, generator(key, 3001 + i))[0] for i in range(ISLANDS)]
        self.lam = np.asarray(drawn[0].centredness, float)
        self.lam = np.concatenate([self.lam[: problem.dim], np.ones(problem.num_params)])
        where = problem.hierarchical
        self.swaps = bool(where.any() and self.lam[where].mean() > _NEGLIGIBLE)
        self.zero = problem.centredness(0.0)
        z = np.concatenate([point.coordinates for point in drawn])
        self.begun = z
        self.groups = self.components.density(z)[2]
        self.cloud = self.target.cloud(z, self.lam, with_q=True)
        self.frames = Frames(self.components.factors, self.groups)
        self.step = {False: problem.dim**-0.25, True: problem.dim**-0.25}
        self.island_log_z = np.zeros(ISLANDS)
        self.relative_variance = 0.0
        self.temperatures = 0
        self.capped = False

    def result(self) -> SMCResult:
        self._temper()
        previous: Round | None = None
        found: Drift | None = None
        snapshots, acceptance, converged = [self.cloud.z], 0.0, False
        alive = np.isfinite(self.island_log_z).all()
        self.scale = Scale(self.cloud.z)
        for factor in _ROUNDS if alive and not self.capped else ():
            done = self._round(factor * self.settings.moves)
            if done is None:
                break
            now, snapshots, acceptance = done
            if previous is not None:
                found = drift(previous, now, self.scale(self.begun))
                if converged := found.settled:
                    break
            previous = now
        z = np.concatenate(snapshots)
        points = self.target.whole(z)
        island_sd = float(self.island_log_z.std(ddof=1)) if alive else np.inf
        return SMCResult(
            points=points,
            particles=self.settings.particles,
            centredness=self.lam,
            log_evidence=float(np.logaddexp.reduce(self.island_log_z) - np.log(ISLANDS)),
            # Four islands may agree by chance: no better than the weights themselves allow.
            log_evidence_se=float(max(island_sd / np.sqrt(ISLANDS), np.sqrt(self.relative_variance))),
            island_log_evidence=tuple(self.island_log_z.tolist()),
            island_sd=island_sd,
            drift=found,
            converged=converged,
            capped=self.capped,
            acceptance=acceptance,
            temperatures=self.temperatures,
            gradients=self.target.gradients,
            funnel_index=self._funnel_index(z),
        )

    def _temper(self) -> None:
        beta = 0.0
        while beta < 1.0:
            log_ratio = self.cloud.log_p - self.cloud.log_q
            after = next_temperature(beta, log_ratio, self.settings.share)
            self._resample((after - beta) * log_ratio)
            beta = after
            self.temperatures += 1
            if not np.isfinite(self.island_log_z).all():
                return
            if self.temperatures > 1:
                self.frames = adapted(self.components.factors, self.groups, self.cloud.z)
            if self.temperatures >= _MOST_TEMPERATURES or self._too_dear(self.step[False], _SHORT):
                self.capped = True
                return
            self._move(beta, _SHORT)

    def _resample(self, log_weights: np.ndarray) -> None:
        size = len(log_weights) // ISLANDS
        which = []
        self.relative_variance += relative_variance(log_weights) / len(log_weights)
        for i in range(ISLANDS):
            part = slice(i * size, (i + 1) * size)
            # Mode by mode: systematic resampling then keeps the share of each mode to within a particle.
            mine = i * size + np.lexsort((log_weights[part], self.groups[part]))
            kept, log_mean = resampled(log_weights[mine], self.rng)
            which.append(mine[kept])
            self.island_log_z[i] += log_mean
        order = np.concatenate(which)
        self.cloud, self.groups = self.cloud.take(order), self.groups[order]
        self.frames = self.frames._replace(groups=self.groups)

    def _too_dear(self, step: float, trajectory: float) -> bool:
        cost = self.settings.particles * (leapfrogs(step, trajectory) + 2)
        return self.target.gradients + cost > self.settings.most_gradients

    def _move(self, beta: float, trajectory: float) -> float:
        with_q = beta < 1.0
        self.cloud, acceptance = hmc(
            lambda z: self.target.cloud(z, self.lam, with_q=with_q),
            self.cloud, beta, self.frames, self.step[False], trajectory, self.rng,
        )  # fmt: skip
        self.step[False] = tuned(self.step[False], acceptance)
        return acceptance

    def _move_apart(self, trajectory: float) -> float:
        """A move in non-centred coordinates; a particle that cannot be written in them rests."""
        z = self.target.swapped(self.cloud.z, self.lam, self.zero)
        known = np.isfinite(z).all(axis=1)
        z[~known] = z[known][0] if known.any() else 0.0
        there = self.target.cloud(z, self.zero, with_q=False)
        if self.apart is None:
            scale = np.maximum(z.std(0), 1e-12)
            self.apart = adapted(np.broadcast_to(np.diag(scale), self.components.factors.shape), self.groups, z)
        moved, acceptance = hmc(
            lambda x: self.target.cloud(x, self.zero, with_q=False),
            there, 1.0, self.apart, self.step[True], trajectory, self.rng,
        )  # fmt: skip
        self.step[True] = tuned(self.step[True], acceptance)
        back = self.target.swapped(moved.z, self.zero, self.lam)
        again = self.target.cloud(np.where(np.isfinite(back), back, self.cloud.z), self.lam, with_q=False)
        good = known & np.isfinite(back).all(axis=1) & np.isfinite(again.log_p)
        self.cloud = Cloud(
            *(
                np.where(good[:, None] if new.ndim == 2 else good, new, old)
                for new, old in zip(again, self.cloud, strict=True)
            )
        )
        return acceptance

    def _round(self, moves: int) -> tuple[Round, list[np.ndarray], float] | None:
        self.frames = adapted(self.components.factors, self.groups, self.cloud.z)
        self.apart: Frames | None = None
        first, second = np.zeros_like(self.cloud.z), np.zeros_like(self.cloud.z)
        keep = {round(x) for x in np.linspace(0, moves - 1, min(moves, _SNAPSHOTS))}
        snapshots, accepted = [], 0.0
        for k in range(moves):
            apart = self.swaps and k % 4 in (1, 2)
            trajectory = _LONG if k % 2 else _SHORT
            if self._too_dear(self.step[apart], trajectory):
                self.capped = True
                return None
            accepted += self._move_apart(trajectory) if apart else self._move(1.0, trajectory)
            x = self.scale(self.cloud.z)
            first += x
            second += x * x
            if k in keep:
                snapshots.append(self.cloud.z)
        return Round(first / moves, second / moves), snapshots, accepted / moves

    def _funnel_index(self, z: np.ndarray) -> int:
        index = funnel_index(z)
        if self.swaps and index:
            other = self.target.swapped(z, self.lam, self.zero)
            if np.isfinite(other).all():
                index = min(index, funnel_index(other))
        return index
