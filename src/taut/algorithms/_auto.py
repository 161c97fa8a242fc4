"""The default: a full-rank Gaussian in well-chosen coordinates, or a mixture of them, without a question asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from taut._draws import pool
from taut._keys import generator
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._centring import matched_gaussian, optimal_centring, recentre
from taut.algorithms._deterministic import DONE, FixedDraws, State, best_fit, comparable, evaluator
from taut.algorithms._fixed_draws import positions
from taut.algorithms._levels import Climb, climb
from taut.algorithms._low_rank import LowRankDraws, LowRankState
from taut.algorithms._modes import distinct
from taut.guides import FullRank, GaussianMixture, Guide, LowRank, MeanField
from taut.problem import Problem

# A change of centredness below this is not worth another fit.
_SMALL_MOVE = 0.02


class AutoState(NamedTuple):
    """Where a run stands: the deterministic run, and how many rounds of centring it has had (-1: no more)."""

    run: State
    rounds: int


@dataclass(frozen=True)
class Auto(Algorithm):
    r"""The automatic fit: non-centred starts, a fixed-draw Gaussian, centring in closed form, a mixture of modes.

    1. `FixedDraws` with every hierarchy non-centred (a centred funnel has no mode to start from).
    2. Each hierarchical coordinate takes the centredness that the fit itself asks for,
       $\lambda_j = 1 - s_j^{-2\lambda_j} / (\Sigma_q^{-1})_{jj}$, and the Gaussian is fitted again; the better
       ELBO stays.
    3. When starts found modes of comparable mass, q is the mixture of their Gaussians, weighted by their evidence.

    Args:
        fixed_draws: settings of the deterministic algorithm.
        rounds: most rounds of centring.
        full_rank_limit: above this number of latents the Gaussian is low-rank, and `LowRankDraws` fits it.
        rank: most directions of that Gaussian.
    """

    fixed_draws: FixedDraws = FixedDraws()
    rounds: int = 2
    full_rank_limit: int = 500
    rank: int = 100

    def guide(self, problem: Problem) -> Guide:
        """The family that a problem gets."""
        return FullRank(centredness=0.0) if problem.dim <= self.full_rank_limit else LowRank(self.rank, 0.0)

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> AutoState | LowRankState:
        """See `Algorithm`."""
        if isinstance(guide, LowRank):
            return LowRankDraws().init(problem, guide, key)
        rounds = self.rounds if problem.hierarchical.any() else 0
        return AutoState(self.fixed_draws.init(problem, guide, key), rounds)

    def step(
        self, problem: Problem, guide: Guide, state: AutoState | LowRankState
    ) -> tuple[AutoState | LowRankState, Progress]:
        """A phase of the deterministic algorithm, or one round of centring."""
        if isinstance(state, LowRankState):
            return LowRankDraws().step(problem, guide, state)
        if state.run.phase != DONE:
            run, progress = self.fixed_draws.step(problem, guide, state.run)
            return state._replace(run=run), progress
        run, moved = self._centre(problem, state)
        fitted = best_fit(run)
        progress = Progress("centring", run.gradients, fitted.fresh.elbo, fitted.fresh.elbo_se)
        return AutoState(run, state.rounds - 1 if moved else 0), progress

    def terminate(self, problem: Problem, guide: Guide, state: AutoState | LowRankState) -> str | None:
        """See `Algorithm`."""
        if isinstance(state, LowRankState):
            return LowRankDraws().terminate(problem, guide, state)
        status = self.fixed_draws.terminate(problem, guide, state.run)
        if status is None or (state.rounds > 0 and status == "converged" and len(comparable(state.run.fits)) == 1):
            return None
        return status

    def finish(self, problem: Problem, guide: Guide, state: AutoState | LowRankState, status: str) -> Solution:
        """See `Algorithm`."""
        if isinstance(state, LowRankState):
            return LowRankDraws().finish(problem, guide, state, status)
        run = state.run
        solution = self.fixed_draws.finish(problem, guide, run, status)
        moved = tuple(float(x) for x in run.centredness)
        family = FullRank(moved) if isinstance(guide, FullRank) else MeanField(moved)
        solution = _with_guide(solution, family)
        kept = [run.fits[k] for k in comparable(run.fits)] if run.fits else []
        if len(kept) < 2 or not isinstance(guide, FullRank):
            return solution
        means, factors = [f.state.mean for f in kept], [f.state.factor for f in kept]
        kept = [kept[k] for k in distinct(means, factors, [f.fresh.elbo for f in kept])]
        if len(kept) < 2:
            return solution
        log_z = np.array([_log_evidence(f) for f in kept])
        weights = np.exp(log_z - log_z.max())
        weights /= weights.sum()
        params = GaussianMixture.from_moments(
            weights, np.stack([f.state.mean for f in kept]), np.stack([f.state.factor for f in kept])
        )
        shares = ", ".join(f"{w:.2g}" for w in weights)
        note = f"{len(kept)} modes of comparable mass were found; q is a mixture with weights {shares}"
        _, reached, starts = solution.modes or (1, 0, 0)
        return Solution(
            guide=GaussianMixture(len(kept), moved),
            params=params,
            model_params=solution.model_params,
            status=solution.status,
            history=solution.history,
            gap=solution.gap,
            modes=(1, reached, starts),
            flat=solution.flat,
            notes=(*solution.notes, note),
        )

    def _centre(self, problem: Problem, state: AutoState) -> tuple[State, bool]:
        run, d = state.run, problem.dim
        fitted = best_fit(run)
        rng = generator(run.key, 100 + state.rounds)
        rows = positions(fitted.state.mean, fitted.state.factor, fitted.state.point, pool(max(512, 4 * d), d, rng))
        location, log_scale = problem.hierarchies(rows, run.centredness)
        usable = np.isfinite(log_scale).all(axis=1) & np.isfinite(location).all(axis=1)
        where = np.flatnonzero(problem.hierarchical)
        if usable.sum() <= d:
            return run, False
        rows, location, log_scale = rows[usable], location[usable][:, where], log_scale[usable][:, where]
        old = run.centredness[where]
        new = optimal_centring(fitted.state.factor, where, old, log_scale.mean(axis=0))
        if np.max(np.abs(new - old)) < _SMALL_MOVE:
            return run, False
        rows[:, where] = recentre(rows[:, where], location, log_scale, old, new)
        centredness = run.centredness.copy()
        centredness[where] = new
        mean, factor = matched_gaussian(rows[:, :d])
        if fitted.state.factor.ndim == 1:
            factor = np.linalg.norm(factor, axis=1)
        point = fitted.state.point if problem.num_params else None
        settings = self.fixed_draws
        again = climb(
            evaluator(problem, centredness),
            mean,
            factor,
            rng,
            point=point,
            params_scale=fitted.state.params_scale if problem.num_params else None,
            levels=settings.levels,
            max_steps=settings.steps,
        )
        gradients = run.gradients + again.gradients
        if not again.fresh.elbo > fitted.fresh.elbo:
            return run._replace(gradients=gradients), False
        return run._replace(centredness=centredness, fits=(again,), gradients=gradients), True


def _with_guide(solution: Solution, guide: Guide) -> Solution:
    return Solution(**{**vars(solution), "guide": guide})


def _log_evidence(fitted: Climb) -> float:
    log_weights = fitted.fresh.log_p - fitted.fresh.log_q
    return float(np.logaddexp.reduce(log_weights) - np.log(len(log_weights)))
