"""The fixed-draw fit of a low-rank Gaussian: for latents too many for a matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from taut._draws import pool
from taut._errors import TautError
from taut._keys import generator
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._centring import optimal_centring, recentre
from taut.algorithms._deterministic import evaluator, impossible_start
from taut.algorithms._fixed_draws import curvature_scale, init, maximise
from taut.algorithms._large_starts import LargeStarts, explore_large
from taut.algorithms._low_rank_shape import round_shape
from taut.algorithms._low_rank_steps import Fitted, gain, low_rank_round, tested
from taut.algorithms._mean_field import mean_field_draws
from taut.algorithms._starts import Evaluate, given_starts
from taut.guides import Guide, LowRank
from taut.problem import Problem

EXPLORE, MEAN_FIELD, CENTRE, ROUND, DONE = range(5)
# Half-width of differences of gradients, in scales.
_WHITE = 512  # latents past which the first mean field, only a start, has few draws
_DIFFERENCE = {"float64": 1e-3, "float32": 3e-2}
_CENTRINGS = 2
_SMALL_MOVE = 0.02  # of a centredness
_MEAN_FIELD_STEPS = 100
_MEAN_FIELD_TOLERANCE = 0.05  # nats: the rounds that follow do better than more steps
_LEAST_GAIN = 0.02  # nats


class LowRankState(NamedTuple):
    """Where a run stands: key, phase, coordinates, starts, the best fit so far, what to say of it, and counts."""

    key: Any
    phase: int
    centredness: np.ndarray
    starts: LargeStarts | None
    fitted: Fitted | None
    units: np.ndarray
    rounds: int
    status: str
    gradients: int
    history: tuple[Progress, ...]


@dataclass(frozen=True)
class LowRankDraws(Algorithm):
    r"""Maximise the ELBO of a low-rank Gaussian over fixed draws, with no D x D matrix anywhere.

    1. L-BFGS climbs; the best mean-field Gaussian met along them; where the model has hierarchies, half of the climbs
       are made in centred coordinates (many latents with data of their own often have no useful mode in the others).
    2. The mean-field fit on 64 orthogonal draws, and for hierarchies the centredness that it asks for.
    3. Rounds of low-rank natural steps: the far eigenpairs $(\lambda_k, V_k)$ of
       $A = -E_q[S\,\nabla^2\log p\,S]$ by Lanczos on differences of averaged gradients, its diagonal by random signs,

       $$C = S\,\big(I + V(\lambda^{-1/2} - 1)V^\top\big),$$

       and the mean by L-BFGS in that frame; a round stays while the ELBO on fresh draws rises by more than its standard
       error. The number of directions is what the eigenvalues ask for, up to the guide's rank.

    Args:
        starts: climbs.
        rounds: most rounds.

    Source: Ong, Nott, Smith (2018), Gaussian variational approximation with a factor covariance structure, for the
    family; Stein's identity and Lanczos for the rest.

    Example:
        >>> import numpy as np, taut
        >>> from taut import dist
        >>> def model(y):
        ...     x = taut.sample("x", dist.Normal(0.0, 1.0).expand([600]).to_event(1))
        ...     taut.sample("y", dist.Normal(x.sum(), 1.0), obs=y)
        >>> fit = taut.fit(model, dict(y=10.0), guide=taut.guides.LowRank(3), verify=False)
        >>> round(float(fit.log_evidence), 3)                # N(10; 0, 601)
        -4.201
    """

    starts: int = 8
    rounds: int = 4

    def guide(self, problem: Problem) -> Guide:
        """See `Algorithm`."""
        return LowRank(centredness=0.0)

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> LowRankState:
        """See `Algorithm`."""
        if not isinstance(guide, LowRank):
            raise TautError(
                "bad-combination",
                found=f"LowRankDraws with {type(guide).__name__}",
                expected="a LowRank guide",
                remedy="guide=taut.guides.LowRank(rank=10)",
            )
        lam = guide.centredness
        centredness = np.asarray(lam, float) if isinstance(lam, tuple) else problem.centredness(lam)
        return LowRankState(key, EXPLORE, centredness, None, None, np.empty(0), 0, "converged", 0, ())

    def step(self, problem: Problem, guide: Guide, state: LowRankState) -> tuple[LowRankState, Progress]:
        """All climbs, the mean-field fit, one round of centring, or one low-rank round."""
        assert isinstance(guide, LowRank)
        rng = generator(state.key, 10 * state.phase + state.rounds)
        if state.phase == EXPLORE:
            return self._explore(problem, guide, state, rng)
        if state.phase == MEAN_FIELD:
            assert state.starts is not None
            point, scale = state.starts.point, state.starts.scale
            evaluate = evaluator(problem, state.centredness)
            units = curvature_scale(evaluate, point, problem.num_params)
            fitted, status = _mean_field(evaluate, point, scale, units, rng, self._test(state))
            phase = CENTRE if self._centres(problem, guide) else ROUND
            state = state._replace(fitted=fitted, units=units, phase=phase, rounds=0, status=status)
            return self._record(state, fitted, fitted.gradients, "fit")
        assert state.fitted is not None
        if state.phase == CENTRE:
            return self._centre(problem, state, rng)
        evaluate = evaluator(problem, state.centredness)
        new = low_rank_round(
            evaluate, state.fitted, state.units, rng, self._test(state),
            most=min(guide.rank, problem.dim), difference=_DIFFERENCE[problem.precision],
        )  # fmt: skip
        rise, se = gain(state.fitted.fresh, new.fresh)
        kept = rise > 0 or not np.isfinite(state.fitted.fresh.elbo)
        over = not rise > max(se, _LEAST_GAIN)
        ended = over or state.rounds + 1 >= self.rounds
        state = state._replace(
            fitted=new if kept else state.fitted,
            rounds=state.rounds + 1,
            phase=DONE if ended else ROUND,
            status="converged" if over else "budget" if ended else state.status,
        )
        assert state.fitted is not None
        return self._record(state, state.fitted, new.gradients, "round")

    def terminate(self, problem: Problem, guide: Guide, state: LowRankState) -> str | None:
        """See `Algorithm`."""
        return state.status if state.phase == DONE else None

    def finish(self, problem: Problem, guide: Guide, state: LowRankState, status: str) -> Solution:
        """See `Algorithm`; an interrupted run gives the best Gaussian met so far."""
        assert isinstance(guide, LowRank)
        d = problem.dim
        family = replace(guide, centredness=tuple(float(x) for x in state.centredness[:d]))
        if state.fitted is None:
            start = state.starts
            point = np.zeros(d + problem.num_params) if start is None else start.point
            shape = round_shape(point[:d], np.ones(d) if start is None else start.scale)
            fitted, gap, modes = None, None, None
            own = point[d:]
        else:
            fitted = state.fitted
            shape, own = fitted.shape, fitted.point
            gap = (fitted.elbo - fitted.fresh.elbo, fitted.fresh.elbo_se)
            assert state.starts is not None
            modes = (1 + state.starts.others, state.starts.reached, state.starts.starts)
        basis, stretch = shape.basis, shape.stretch
        if not len(stretch):  # a guide has at least one direction; one of stretch 1 changes nothing
            basis, stretch = np.eye(d, 1), np.ones(1)
        return Solution(
            guide=family,
            params=LowRank.from_moments(shape.mean, shape.scale, basis, np.log(stretch)),
            model_params=own,
            status=status if fitted is None or np.isfinite(fitted.fresh.elbo) else "nonfinite",
            history=state.history,
            gap=gap,
            modes=modes,
        )

    def _explore(
        self, problem: Problem, guide: LowRank, state: LowRankState, rng: np.random.Generator
    ) -> tuple[LowRankState, Progress]:
        ways = [state.centredness]
        if self._centres(problem, guide):
            ways = [problem.centredness(0.0), problem.centredness(1.0)]
        found = [
            explore_large(
                evaluator(problem, way), problem.dim + problem.num_params, rng, -(-self.starts // len(ways)),
                params=problem.num_params, difference=_DIFFERENCE[problem.precision],
                given=given_starts(problem, guide, way, rng, self.starts),
            )
            for way in ways
        ]  # fmt: skip
        if all(f.never_finite == f.starts for f in found):
            raise impossible_start(problem, found[0].point, ways[0], self.starts)
        best = int(np.argmax([f.elbo for f in found]))
        gradients = sum(f.gradients for f in found)
        state = state._replace(phase=MEAN_FIELD, starts=found[best], centredness=ways[best], gradients=gradients)
        return state, Progress("starts", gradients, found[best].elbo, np.inf)

    def _centres(self, problem: Problem, guide: LowRank) -> bool:
        """Whether the coordinates of hierarchies are the algorithm's to choose: they are unless a tuple says them."""
        return bool(problem.hierarchical.any()) and guide.centredness == 0.0

    def _centre(self, problem: Problem, state: LowRankState, rng: np.random.Generator) -> tuple[LowRankState, Progress]:
        fitted, d = state.fitted, problem.dim
        assert fitted is not None
        u = pool(512, d, rng)
        rows = np.concatenate(
            [fitted.shape.out(u), np.broadcast_to(fitted.point, (len(u), problem.num_params))], axis=1
        )
        location, log_scale = problem.hierarchies(rows, state.centredness)
        usable = np.isfinite(log_scale).all(axis=1) & np.isfinite(location).all(axis=1)
        where = np.flatnonzero(problem.hierarchical[:d])
        done = state._replace(phase=ROUND, rounds=0)
        if usable.sum() < len(u) // 2:
            return done, Progress("centring", state.gradients, fitted.fresh.elbo, fitted.fresh.elbo_se)
        rows, location, log_scale = rows[usable], location[usable][:, where], log_scale[usable][:, where]
        old = state.centredness[where]
        new = optimal_centring(fitted.shape.scale, where, old, log_scale.mean(axis=0))
        if np.max(np.abs(new - old)) < _SMALL_MOVE:
            return done, Progress("centring", state.gradients, fitted.fresh.elbo, fitted.fresh.elbo_se)
        rows[:, where] = recentre(rows[:, where], location, log_scale, old, new)
        centredness = state.centredness.copy()
        centredness[where] = new
        point = np.concatenate([rows[:, :d].mean(0), fitted.point])
        scale = np.minimum(rows[:, :d].std(0), 4.0 * fitted.shape.scale)
        scale[~problem.hierarchical[:d]] = fitted.shape.scale[~problem.hierarchical[:d]]
        evaluate = evaluator(problem, centredness)
        again, status = _mean_field(evaluate, point, scale, state.units, rng, self._test(state))
        spent = again.gradients
        if not again.fresh.elbo > fitted.fresh.elbo:
            return self._record(done, fitted, spent, "centring")
        rounds = state.rounds + 1
        phase = CENTRE if rounds < _CENTRINGS else ROUND
        state = state._replace(
            fitted=again, centredness=centredness, phase=phase, status=status, rounds=rounds if phase == CENTRE else 0
        )
        return self._record(state, again, spent, "centring")

    def _record(self, state: LowRankState, fitted: Fitted, gradients: int, label: str) -> tuple[LowRankState, Progress]:
        spent = state.gradients + gradients
        progress = Progress(label, spent, fitted.fresh.elbo, fitted.fresh.elbo_se)
        return state._replace(gradients=spent, history=(*state.history, progress)), progress

    def _test(self, state: LowRankState) -> np.random.Generator:
        """The same fresh draws for every fit of a run, so that their differences have little noise."""
        return generator(state.key, 500)


def _mean_field(
    evaluate: Evaluate,
    point: np.ndarray,
    scale: np.ndarray,
    units: np.ndarray,
    rng: np.random.Generator,
    test: np.random.Generator,
) -> tuple[Fitted, str]:
    d = len(scale)
    state = init(
        evaluate, point[:d], scale, mean_field_draws(0, d, rng, white=_WHITE), point=point[d:], params_scale=units,
        tolerance=_MEAN_FIELD_TOLERANCE, max_steps=_MEAN_FIELD_STEPS,
    )  # fmt: skip
    state, _ = maximise(evaluate, state)
    shape = round_shape(state.mean, state.factor)
    fresh = tested(evaluate, shape, state.point, test)
    status = "nonfinite" if state.status == "nonfinite" else "converged"
    return Fitted(shape, state.point, state.elbo, fresh, state.gradients + len(fresh.log_p)), status
