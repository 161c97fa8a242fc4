"""Sequential Monte Carlo from q to the posterior: q's verification, and draws where q itself will not do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from taut._keys import generator
from taut.algorithms._bridge import Bridge, bridge
from taut.algorithms._smc_checks import Drift, Round, Scale, drift, funnel_index
from taut.algorithms._smc_evidence import bridged
from taut.algorithms._smc_leaves import density_map
from taut.algorithms._smc_moves import (
    Frames,
    adapted,
    hmc,
    leapfrogs,
    next_temperature,
    relative_variance,
    resampled,
    tuned,
)
from taut.algorithms._smc_scales import ScaleMap, scale_maps
from taut.algorithms._smc_target import Components, Target
from taut.algorithms._smc_ways import NonCentred, Plain, Scaled, Way
from taut.guides import FullRank, GaussianMixture, Guide, MeanField
from taut.problem import Problem

ISLANDS = 4
# Coordinates of a move: those of q; hierarchies non-centred; funnels undone as the particles show them.
PLAIN, SWAPPED, SCALED, NECK, FINE = "plain", "swapped", "scaled", "neck", "fine"
_SHORT, _LONG = 1.57, 4.7
_ROUNDS = (1, 1, 2, 4)
_BRIDGED = 4  # states of a round that the evidence is made of
_SNAPSHOTS = 16  # most states of a round that are kept as draws
_MOST_TEMPERATURES = 200
_FUNNEL = 0.25  # strength from which on a driver of scales gets coordinates of its own
_STUCK, _STUCK_SHARE = 0.15, 0.01  # acceptance that this share of the particles must exceed over a round
_FINER = 5.0  # how much shorter the steps are that loosen the others
_USEFUL = 0.8  # of q's step that coordinates of their own must allow
_NEGLIGIBLE = 0.1  # mean centredness below which moves at 0 would repeat those made


@dataclass(frozen=True)
class SMCSettings:
    """How much work an SMC run may do.

    Attributes:
        particles: P, a multiple of 4; 512 and 1,024 fill the kernel's blocks.
        moves: of the first round at the posterior's end, $n_0$; rounds have $n_0, n_0, 2 n_0, 4 n_0$.
        share: relative effective sample size that a step of temperature keeps.
        most_gradients: no move is begun that would exceed it.
        sharp: whether averages must be known well enough to show a drift of 0.15 sds; without it a run only has to show
            none, which is enough where importance weights have already bounded every error of q.
    """

    particles: int = 512
    moves: int = 8
    share: float = 0.9
    most_gradients: int = 4_000_000
    sharp: bool = True


class SMCResult(NamedTuple):
    """What an SMC run found.

    Attributes:
        points: states of the last round, ``(T P, D + num_params)``, all of one moment together; equal weights.
        particles: P; the islands are the quarters of each moment, in order.
        centredness: coordinates of the points.
        log_evidence: $\\log Z$, nats: by a bridge from the particles at rest, or what annealing gave if none was built.
        log_evidence_se: its standard error.
        annealed_log_evidence: from the weights on the way, nats: too low where q was too narrow.
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
    annealed_log_evidence: float
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
    posterior trajectories last a quarter or three quarters of a period, in the guide's coordinates of hierarchies and
    in the non-centred ones by turns; a hierarchy that no site declares gets coordinates of its own (`density_map`).
    The run has converged when averages over rounds of moves stay.

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
        z = np.concatenate([point.coordinates for point in drawn])
        self.begun = z
        self.groups = self.components.density(z)[2]
        self.cloud = self.target.cloud(z, self.lam, with_q=True)
        self.begun_ratio = self.cloud.log_p - self.cloud.log_q
        self.frames = Frames(self.components.factors, self.groups)
        self.first_step = problem.dim**-0.25
        self.step = {PLAIN: self.first_step}  # by coordinates, as they are first used
        self.apart: dict[str, Frames] = {}
        self.stiff = False
        self.maps: dict[str, ScaleMap] = {}
        self.seen: tuple[ScaleMap, ...] = ()
        with np.errstate(over="ignore", invalid="ignore"):
            found = density_map(self._posterior, self.cloud.z, self.rng)
        self.told = {SCALED: found} if found is not None else {}
        self.ways: dict[str, Way] = {PLAIN: Plain(self.target, self.lam)}
        if self.swaps:
            self.ways[SWAPPED] = NonCentred(self.target, self.lam)
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
                if converged := found.settled(sharp=self.settings.sharp) and not self.stiff:
                    break
            previous = now
        z = np.concatenate(snapshots)
        points = self.target.whole(z)
        island_sd = float(self.island_log_z.std(ddof=1)) if alive else np.inf
        annealed = float(np.logaddexp.reduce(self.island_log_z) - np.log(ISLANDS))
        # Four islands may agree by chance: no better than the weights themselves allow.
        evidence = Bridge(annealed, float(max(island_sd / np.sqrt(ISLANDS), np.sqrt(self.relative_variance))))
        if converged:
            evidence = self._bridged(snapshots) or evidence
        return SMCResult(
            points=points,
            particles=self.settings.particles,
            centredness=self.lam,
            log_evidence=evidence.log_evidence,
            log_evidence_se=evidence.se,
            annealed_log_evidence=annealed,
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

    def _bridged(self, snapshots: list[np.ndarray]) -> Bridge | None:
        """The most precise of the bridges from particles at rest to q, and to Gaussians in each kind of coordinates."""
        kept = [snapshots[i] for i in np.unique(np.linspace(0, len(snapshots) - 1, _BRIDGED).astype(int))]
        shape = (len(kept), self.settings.particles)
        rows = self.target.cloud(np.concatenate(kept), self.lam, with_q=True)
        found = [bridge((rows.log_p - rows.log_q).reshape(shape), self.begun_ratio)]
        for way in self.ways.values():
            there, known = way.enter(rows)
            if known.all() and np.isfinite(there.log_p).all():
                states = there.z.reshape(*shape, there.z.shape[1])
                log_p = partial(_log_density, way)
                found.append(bridged(states, there.log_p.reshape(shape), self.groups, log_p, self.rng))
        best = min(found, key=lambda b: b.se)
        return best if np.isfinite(best.log_evidence) and np.isfinite(best.se) else None

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
                self._learn_scales()
            name = [PLAIN, *self.maps][self.temperatures % (1 + len(self.maps))]
            if self.temperatures >= _MOST_TEMPERATURES or self._too_dear(self._step(name), _SHORT):
                self.capped = True
                return
            self._move(name, beta, _SHORT)

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

    def _move(self, name: str, beta: float, trajectory: float) -> np.ndarray:
        """One move of all particles; the probability with which each was accepted."""
        way = self.ways[PLAIN if name == FINE else name]
        here, known = way.enter(self.cloud)
        frames = self.frames if isinstance(way, Plain) else self._frames(name, here.z)
        evaluate = partial(way.evaluate, with_q=beta < 1.0)
        moved, accepted = hmc(evaluate, here, beta, frames, self._step(name), trajectory, self.rng)
        if name != FINE:
            self.step[name] = tuned(self.step[name], float(accepted.mean()))
        back, returned = way.leave(moved, self.cloud)
        good = known & returned
        self.cloud = back if good.all() else self.cloud.where(good, back)
        return np.where(good, accepted, 0.0)

    def _step(self, name: str) -> float:
        return self.step[PLAIN] / _FINER if name == FINE else self.step.setdefault(name, self.first_step)

    def _posterior(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cloud = self.target.cloud(z, self.lam, with_q=False)
        return cloud.log_p, cloud.grad_p

    def _learn_scales(self) -> None:
        """Coordinates that undo funnels: those that the density told at once, or what particles show by now."""
        self.apart = {}
        self.seen = scale_maps(self.cloud.z, least=_FUNNEL)
        found = self.told or dict(zip((SCALED, NECK), self.seen, strict=False))
        self.maps = {
            name: learnt for name, learnt in found.items()
            # Coordinates that ask for shorter steps than q's undo nothing; those of the density are known to.
            if self.told or self.step.get(name, 1.0) > _USEFUL * self.step[PLAIN]
        }  # fmt: skip
        self.ways = {name: way for name, way in self.ways.items() if name not in (SCALED, NECK)}
        self.ways |= {name: Scaled(self.target, self.lam, learnt) for name, learnt in self.maps.items()}

    def _frames(self, name: str, z: np.ndarray) -> Frames:
        """Frames for coordinates other than q's, made of the first particles seen in them."""
        if name not in self.apart:
            scale = np.maximum(z.std(0), 1e-12)
            self.apart[name] = adapted(np.broadcast_to(np.diag(scale), self.components.factors.shape), self.groups, z)
        return self.apart[name]

    def _round(self, moves: int) -> tuple[Round, list[np.ndarray], float] | None:
        self.frames = adapted(self.components.factors, self.groups, self.cloud.z)
        self._learn_scales()
        # Every kind of coordinates gets two short trajectories and a long one by turns: short ones are cheaper where a
        # posterior is nearly Gaussian, long ones fill exponential tails.
        others = [name for name in self.ways if name != PLAIN] + ([FINE] if self.stiff else [])
        names = [PLAIN, *others[:1] * 2, PLAIN, *(name for name in others[1:] for _ in range(2))]
        first, second = np.zeros_like(self.cloud.z), np.zeros_like(self.cloud.z)
        keep = {round(x) for x in np.linspace(0, moves - 1, min(moves, _SNAPSHOTS))}
        snapshots, accepted = [], np.zeros(len(self.cloud.z))
        for k in range(moves):
            name, trajectory = names[k % len(names)], _LONG if k // len(names) % 3 == 1 else _SHORT
            if self._too_dear(self._step(name), trajectory):
                self.capped = True
                return None
            accepted += self._move(name, 1.0, trajectory)
            x = self.scale(self.cloud.z)
            first += x
            second += x * x
            if k in keep:
                snapshots.append(self.cloud.z)
        accepted /= moves
        # Where no step of this length is ever accepted, particles neither enter nor leave.
        self.stiff = bool(np.quantile(accepted, _STUCK_SHARE) < _STUCK)
        return Round(first / moves, second / moves), snapshots, float(accepted.mean())

    def _funnel_index(self, z: np.ndarray) -> int:
        index = funnel_index(z)
        if self.swaps and index:
            other = self.target.swapped(z, self.lam, self.target.problem.centredness(0.0))
            if np.isfinite(other).all():
                index = min(index, funnel_index(other))
        for learnt in (*self.maps.values(), *self.seen) if index else ():
            index = min(index, funnel_index(learnt.apart(z)))
        return index


def _log_density(way: Way, x: np.ndarray) -> np.ndarray:
    return way.evaluate(x, with_q=False).log_p
