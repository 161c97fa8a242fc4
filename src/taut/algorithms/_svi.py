"""Stochastic variational inference: noisy gradients, a loop compiled in chunks, and a test that ends it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut._arguments import whole_number
from taut._keys import jax_key
from taut._precision import real_dtype, scope
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._closed_form import check_closed_form, closed_sites
from taut.algorithms._closed_pairs import families_closed
from taut.algorithms._combinations import check_combination, default_estimator
from taut.algorithms._convergence import (
    BUDGET,
    NONFINITE,
    RUNNING,
    STATUS,
    Stages,
    judge_stage,
    stage_bounds,
)
from taut.algorithms._failures import check_pair, check_same_data, diagnose, impossible_start
from taut.algorithms._feed import feed, sample_of_batches
from taut.algorithms._last_finite import last_finite
from taut.algorithms._leaves import Learned, cut, is_cut, joined
from taut.algorithms._optimizer import Optimizer, optimizer_for
from taut.algorithms._rows import by_row
from taut.algorithms._svi_loop import PAIRS, compare, loop, step_keys
from taut.gradients import Fresh, GradientEstimator, Noise, Pathwise, ScoreFunction, check_noise
from taut.guides import Guide, bind, with_model
from taut.guides import Program as GuideProgram
from taut.objectives import ELBO, Objective
from taut.problem import Problem, compilations

# Particles of the score function where the objective has one: each draw is measured against the others.
_SCORE_PARTICLES = 16

# Starts before a density that is not finite at the start is an error.
_STARTS = 5

# Streams of the run's key beside the steps, which are numbered from 0.
_PAIRING, _STARTING = 2**31, 2**31 + 2**16


class State(NamedTuple):
    """Everything the next step needs.

    Attributes:
        key: ``uint32[2]``; step ``t`` uses its ``t``-th stream, so that results do not depend on the chunks.
        step: steps done.
        learned: the last finite iterate.
        optimizer: the optimiser's state, by site where `is_cut` says so.
        average: mean of the iterates in the second half of the stage; of many parameters, of every eighth.
        best: the best average of the stages so far.
        stages: what these say.
        data: the fingerprint of the data; ``None`` is not compared.
    """

    key: Any
    step: int
    learned: Learned
    optimizer: Any
    average: Learned
    best: Learned
    stages: Stages
    data: Any = None


@dataclass(frozen=True)
class SVI(Algorithm):
    r"""Maximise an objective by noisy gradients, $\phi_{t+1} = \phi_t + \text{step}(\hat\nabla \mathcal L(\phi_t))$.

    For minibatches, guides written as programs, and models too large for the deterministic algorithm. Stages of
    doubling length are each averaged over their second half (Polyak and Ruppert) and compared in pairs; the run ends
    when a stage gains nothing (``converged``), when its gain is lost in its noise twice in a row (``plateaued``), when
    a loss or a gradient is not finite (``nonfinite``), when two stages in a row lose (``diverged``), or when the steps
    are used up (``budget``).

    Args:
        objective: what is maximised.
        gradient: how it is differentiated; by default `StickingTheLanding` where that is unbiased, else
            `DoublyReparam`, with fixed or dependent noise `Pathwise`; for guides with draws that do not follow their
            parameters (discrete sites, mixtures with learned weights) `ScoreFunction`, with 16 particles where the
            objective has one; `Wake` for wake-sleep. What may be combined stands in `taut.gradients.TABLE`.
        noise: where the noise of smooth guides comes from: `Fresh`, `Antithetic`, `Orthogonal`, `QuasiMonteCarlo`,
            `Fixed`.
        optimizer: an optax optimiser; the default needs no step size.
        steps: most steps.
        chunk: steps per call of the compiled loop; it does not change the result.
        tolerance: the gain of a stage that does not matter, in nats.

    Raises:
        TautError: ``bad-combination`` for an estimator that would get the objective's gradient wrong.

    Source: Kucukelbir et al. (2017), Automatic differentiation variational inference; Welandawe et al. (2022), Robust,
    automated, and accurate black-box variational inference, for averages and stages.

    Example:
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> problem = taut.Problem(model, dict(y=10.0))
        >>> svi, guide = taut.algorithms.SVI(), taut.guides.MeanField()
        >>> solution = taut.algorithms.Run()(svi, problem, guide, 0)
        >>> solution.status, round(float(solution.params["loc"][0]), 2)
        ('converged', 8.0)
    """

    objective: Objective = ELBO()
    gradient: GradientEstimator | None = None
    optimizer: Any = None
    steps: int = 25_600
    chunk: int = 400
    tolerance: float = 0.01
    noise: Noise = Fresh()

    def __post_init__(self) -> None:
        self.estimator.valid_for(self.objective)
        check_noise(type(self.estimator).__name__, self.objective, type(self.noise).__name__, self.noise.sort)
        for name in ("steps", "chunk"):
            usual = f"taut.algorithms.SVI({name}={type(self).__dataclass_fields__[name].default})"
            object.__setattr__(self, name, whole_number(name, getattr(self, name), usual))

    @property
    def estimator(self) -> GradientEstimator:
        """The gradient estimator in force."""
        return self.gradient or default_estimator(self.objective, self.noise)

    def pair(self, problem: Problem, guide: Guide) -> tuple[Objective, GradientEstimator]:
        """The objective and the estimator for a guide that is bound to its problem.

        Importance-weighted bounds are taken row by row where the model's and the guide's rows are independent.
        """
        objective, estimator = self.objective, self._estimator(guide)
        if self.gradient is None and objective.draws == 1 and isinstance(estimator, ScoreFunction):
            # One particle of anything is the ELBO; a mean keeps what else it has, such as a schedule.
            mean: Any = objective if objective.averages else ELBO()
            objective = replace(mean, particles=_SCORE_PARTICLES)
        return by_row(problem, guide, objective), estimator

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> State:
        """See `Algorithm`.

        Raises:
            TautError: what the guide's check refuses, and ``bad-combination``.
        """
        guide = bind(guide, problem)
        check_pair(problem, guide, self._estimator(guide))
        check_combination(problem, guide, *self.pair(problem, guide), self.noise, self.steps)
        if self.objective.closed_form:
            check_closed_form(guide)
        with scope(problem.precision):
            words = jax.random.key_data(jax_key(key))
            state = self.begin(problem, guide, words, _start(problem, guide, jax_key(key)))
        return state._replace(data=problem.fingerprint)

    def resume(self, state: State) -> State:
        """See `Algorithm`: a run that used up its steps goes on where there are more of them."""
        if state.stages.status == BUDGET and state.step < self.steps:
            return state._replace(stages=state.stages._replace(status=RUNNING))
        return state

    def step(self, problem: Problem, guide: Guide, state: State, until: int | None = None) -> tuple[State, Progress]:
        """One chunk: the state after it, and the objective's mean over it with its standard error.

        Args:
            problem, guide, state: see `Algorithm`.
            until: where to end at the latest; the result does not depend on it.

        Raises:
            TautError: ``impossible-start`` when the objective is not finite at several starts, ``batch-total`` for
                batches fed one by one to a model that does not know how many rows there are in all.
        """
        check_same_data(problem, state.data)
        guide = bind(guide, problem)
        before = compilations()
        with scope(problem.precision):
            after, values = self._chunk(problem, guide, state, until)
            for attempt in range(1, _STARTS):
                if not (after.step == 0 and after.stages.status == NONFINITE):
                    break
                key = jax.random.fold_in(jax.random.wrap_key_data(state.key), _STARTING + attempt)
                state = self.begin(problem, guide, state.key, _start(problem, guide, key))._replace(data=state.data)
                after, values = self._chunk(problem, guide, state, until)
            if after.step == 0:
                raise impossible_start(problem, guide, after.learned.guide, after.learned.model, after.key, _STARTS)
            if after.stages.status == RUNNING and after.step == stage_bounds(after.step - 1, self.steps)[1]:
                after = self._end_stage(problem, guide, after)
        kernel = problem.kernel()
        kernel.gradients += len(values) * self.pair(problem, guide)[0].draws
        kernel.compilations += compilations() - before
        se = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf
        mean = float(np.mean(values)) if len(values) else np.nan
        return after, Progress("svi", after.step * self.pair(problem, guide)[0].draws, mean, se)

    def terminate(self, problem: Problem, guide: Guide, state: State) -> str | None:
        """See `Algorithm`."""
        return STATUS[state.stages.status]

    def finish(self, problem: Problem, guide: Guide, state: State, status: str) -> Solution:
        """See `Algorithm`: the best average, or the last finite iterate of a run that broke."""
        guide = bind(guide, problem)
        learned = state.learned if status == "nonfinite" or state.stages.finished == 0 else state.best
        notes = (_gain_note(state),) if np.isfinite(state.stages.gain) and status != "nonfinite" else ()
        if self.objective.closed_form:
            notes += (_closed_note(problem, guide, learned.guide),)
        if status == "nonfinite":
            with scope(problem.precision):
                words = step_keys(state.key, state.step)
                notes = (diagnose(problem, guide, *self.pair(problem, guide), learned, words, state.step),)
        return Solution(
            guide=guide,
            params={n: np.asarray(v) for n, v in with_model(guide, learned.guide, learned.model).items()},
            model_params=np.asarray(learned.model),
            status=status,
            notes=notes,
        )

    def _estimator(self, guide: Guide) -> GradientEstimator:
        if self.gradient is not None:
            return self.gradient
        if not guide.evaluable or guide.by_rows:
            return Pathwise()
        return default_estimator(self.objective, self.noise, still=bool(guide.still))

    def begin(self, problem: Problem, guide: Guide, words: Any, learned: Learned) -> State:
        """The state before the first step at given parameters.

        Args:
            problem, guide: see `Algorithm`; the guide is bound.
            words: of the run's key.
            learned: the parameters.
        """
        _, optimizer, seen = self._optimizer(problem, guide, learned)
        return State(words, 0, learned, optimizer.init(seen), learned, learned, Stages())

    def _optimizer(self, problem: Problem, guide: Guide, learned: Learned) -> tuple[bool, Optimizer, Learned]:
        """Whether what is learned is moved by site, what moves it, and how that sees it."""
        by_site = is_cut(guide, *self.pair(problem, guide), learned)
        seen = cut(problem.program, guide, learned) if by_site else learned
        return by_site, optimizer_for(self.optimizer, seen), seen

    def _chunk(
        self, problem: Problem, guide: Guide, state: State, until: int | None = None
    ) -> tuple[State, np.ndarray]:
        """Steps up to the next boundary: of the chunk, the epoch, the stage, or the budget."""
        begin, end = stage_bounds(state.step, self.steps)
        limit = min(state.step + self.chunk, end, end if until is None else until)
        next_ones = feed(problem, state.key, state.step, limit, self.chunk, resident=True)
        here = next_ones.problem
        guide = bind(guide, here)
        by_site, optimizer, seen = self._optimizer(here, guide, state.learned)
        how = (next_ones.length, by_site, optimizer.marks(seen))
        static = (here.program, guide, *self.pair(here, guide), self.noise, optimizer, *how)
        moving = (state.learned, state.optimizer, state.average)
        inputs = here.inputs, next_ones.leaves

        def run(limit: int) -> tuple[Any, int, bool, np.ndarray]:
            if limit == state.step:
                return moving, limit, True, np.zeros(0)
            bounds = np.array([state.step, limit, (begin + end) // 2, end], np.int32)
            moved, *seen = loop(*static, moving, state.key, bounds, inputs)
            done, finite, values = jax.device_get(seen)
            return moved, int(done), bool(finite), np.asarray(values, float)[: int(done) - state.step]

        found = run(state.step + next_ones.steps)
        stages = state.stages
        if not found[2]:
            stages = stages._replace(status=NONFINITE)
            found = last_finite(run, state.step, found[1])
        (learned, memory, average), step, _, values = found
        after = State(state.key, step, learned, memory, average, state.best, stages, state.data)
        return after, values

    def _end_stage(self, problem: Problem, guide: Guide, state: State) -> State:
        if state.step <= self.objective.warm_up:
            # What was climbed so far is another objective: there is nothing to compare yet.
            return state._replace(best=state.average)
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), _PAIRING + state.stages.finished)
        static = (problem.program, guide, self.pair(problem, guide)[0].yardstick)
        words = jax.random.key_data(key)
        inputs = problem.inputs, sample_of_batches(problem, words, PAIRS)
        differences = compare(*static, state.average, state.best, words, inputs)
        stages, better = judge_stage(state.stages, np.asarray(differences, float), self.tolerance)
        if stages.status == RUNNING and state.step >= self.steps:
            stages = stages._replace(status=BUDGET)
        best = state.average if better else state.best
        by_site, optimizer, seen = self._optimizer(problem, guide, state.learned)
        if by_site:
            learned, memory = optimizer.restart(seen, cut(problem.program, guide, best), state.optimizer)
            learned = joined(problem.program, guide, learned)
        else:
            learned, memory = optimizer.restart(state.learned, best, state.optimizer)
        return state._replace(learned=learned, optimizer=memory, average=learned, best=best, stages=stages)


def _start(problem: Problem, guide: Guide, key: jax.Array) -> Learned:
    params = {name: jnp.asarray(value, real_dtype()) for name, value in guide.init(problem, key).items()}
    model = np.zeros(0)
    if problem.num_params:
        (inits,) = problem.kernel().constants(("init",))
        model = np.concatenate([inits[name].ravel() for name in problem.params])
    return Learned(params, jnp.asarray(model, real_dtype()))


def _closed_note(problem: Problem, guide: Guide, params: Any) -> str:
    program = problem.program
    if isinstance(guide, GuideProgram):
        with scope(problem.precision):
            closed = families_closed(program, guide, params, problem.inputs)
    else:
        closed = closed_sites(program, guide)
    sampled = [name for name in problem.latents if name not in closed]
    return (
        f"KL in closed form for {', '.join(closed) or 'the entropy alone'}; sampled for {', '.join(sampled) or 'none'}"
    )


def _gain_note(state: State) -> str:
    s = state.stages
    return f"the last stage, up to step {state.step}, gained {s.gain:.2g} +- {s.gain_se:.1g} nats"
