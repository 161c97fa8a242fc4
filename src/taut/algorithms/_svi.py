"""Stochastic variational inference: noisy gradients, a loop compiled in chunks, and a test that ends it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
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
from taut.algorithms._feed import at_step, feed, sample_of_batches
from taut.algorithms._optimizer import Optimizer, optimizer_for
from taut.algorithms._rows import by_row, weights_of
from taut.gradients import Fresh, GradientEstimator, Noise, Pathwise, ScoreFunction, check_noise
from taut.guides import Guide, bind, with_model
from taut.guides import Program as GuideProgram
from taut.objectives import ELBO, Objective
from taut.problem import Problem, Program, compilations, count_compilation

# Pairs of estimates that decide whether a stage gained anything.
_PAIRS = 200

# Particles of the score function where the objective has one: each draw is measured against the others.
_SCORE_PARTICLES = 16

# Starts before a density that is not finite at the start is an error.
_STARTS = 5

# Streams of the run's key beside the steps, which are numbered from 0.
_PAIRING, _STARTING = 2**31, 2**31 + 2**16


class Learned(NamedTuple):
    """What is learned: the guide's parameters by name, the model's as a flat vector on the real line."""

    guide: dict[str, Any]
    model: Any


class State(NamedTuple):
    """Everything the next step needs.

    Attributes:
        key: ``uint32[2]``; step ``t`` uses its ``t``-th stream, so that results do not depend on the chunks.
        step: steps done.
        learned: the last finite iterate.
        optimizer: the optimiser's state.
        average: mean of the iterates in the second half of the stage.
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
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise TautError(
                    "bad-argument",
                    site=name,
                    found=f"{name}={value!r}",
                    expected="a positive whole number",
                    remedy=f"taut.algorithms.SVI({name}={type(self).__dataclass_fields__[name].default})",
                )

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
            state = self._state(problem, words, _start(problem, guide, jax_key(key)))
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
                state = self._state(problem, state.key, _start(problem, guide, key))._replace(data=state.data)
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
                words = _step_keys(state.key, state.step)
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

    def _state(self, problem: Problem, words: Any, learned: Learned) -> State:
        optimizer = optimizer_for(self.optimizer, learned)
        return State(words, 0, learned, optimizer.init(learned), learned, learned, Stages())

    def _chunk(
        self, problem: Problem, guide: Guide, state: State, until: int | None = None
    ) -> tuple[State, np.ndarray]:
        """Steps up to the next boundary: of the chunk, the epoch, the stage, or the budget."""
        begin, end = stage_bounds(state.step, self.steps)
        limit = min(state.step + self.chunk, end, end if until is None else until)
        next_ones = feed(problem, state.key, state.step, limit, self.chunk)
        here = next_ones.problem
        guide = bind(guide, here)
        optimizer = optimizer_for(self.optimizer, state.learned)
        static = (here.program, guide, *self.pair(here, guide), self.noise, optimizer, next_ones.length)
        moving = (state.learned, state.optimizer, state.average)
        bounds = np.array([state.step, state.step + next_ones.steps, (begin + end) // 2], np.int32)
        inputs = here.inputs, next_ones.leaves
        (learned, memory, average), *seen = _loop(*static, moving, state.key, bounds, inputs)
        done, broken, values = jax.device_get(seen)
        step = int(done)
        stages = state.stages._replace(status=NONFINITE) if broken else state.stages
        after = State(state.key, step, learned, memory, average, state.best, stages, state.data)
        return after, np.asarray(values, float)[: step - state.step]

    def _end_stage(self, problem: Problem, guide: Guide, state: State) -> State:
        if state.step <= self.objective.warm_up:
            # What was climbed so far is another objective: there is nothing to compare yet.
            return state._replace(best=state.average)
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), _PAIRING + state.stages.finished)
        static = (problem.program, guide, self.pair(problem, guide)[0].yardstick)
        words = jax.random.key_data(key)
        inputs = problem.inputs, sample_of_batches(problem, words, _PAIRS)
        differences = _compare(*static, state.average, state.best, words, inputs)
        stages, better = judge_stage(state.stages, np.asarray(differences, float), self.tolerance)
        if stages.status == RUNNING and state.step >= self.steps:
            stages = stages._replace(status=BUDGET)
        best = state.average if better else state.best
        optimizer = optimizer_for(self.optimizer, state.learned)
        learned, memory = optimizer.restart(state.learned, best, state.optimizer)
        return state._replace(learned=learned, optimizer=memory, average=learned, best=best, stages=stages)


def _start(problem: Problem, guide: Guide, key: jax.Array) -> Learned:
    params = {name: jnp.asarray(value, real_dtype()) for name, value in guide.init(problem, key).items()}
    model = np.zeros(0)
    if problem.num_params:
        (inits,) = problem.kernel().constants(("init",))
        model = np.concatenate([inits[name].ravel() for name in problem.params])
    return Learned(params, jnp.asarray(model, real_dtype()))


def _step_keys(words: Any, step: Any) -> tuple[Any, Any]:
    """The keys of a step: one for the draws, and the words that choose the rows of subsampled plates."""
    draws, rows = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(words), step))
    return draws, jax.random.key_data(rows)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5, 6))
def _loop(
    program: Program,
    guide: Guide,
    objective: Objective,
    gradient: GradientEstimator,
    noise: Noise,
    optimizer: Optimizer,
    chunk: int,
    moving: Any,
    words: Any,
    bounds: Any,
    inputs: Any,
) -> Any:
    count_compilation()
    begin, limit, averaged_from = bounds

    def loss(learned: Learned, step: Any) -> Any:
        draws, rows = _step_keys(words, step)
        here = at_step(inputs, step - begin, rows)
        weights = weights_of(program, guide, draws, here, objective, noise, step)
        return gradient.surrogate(objective, weights, with_model(guide, learned.guide, learned.model), learned.model)

    def advance(carry: Any) -> Any:
        (learned, memory, average), step, _ = carry
        value, slope = jax.value_and_grad(loss)(learned, step)
        if objective.falls:
            slope = jax.tree.map(jnp.negative, slope)
        finite = jnp.isfinite(value)
        for leaf in jax.tree.leaves(slope):
            finite &= jnp.all(jnp.isfinite(leaf))
        moved, remembered = optimizer.update(slope, memory, learned)
        count = jnp.maximum(step + 1 - averaged_from, 1).astype(value.dtype)
        mean = jax.tree.map(lambda a, x: jnp.where(step < averaged_from, x, a + (x - a) / count), average, moved)
        new = (moved, remembered, mean)
        # The last finite state stays when a step breaks.
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, (learned, memory, average))
        return (kept, step + finite.astype(step.dtype), ~finite), value

    def body(carry: Any, _: Any) -> Any:
        _, step, broken = carry
        idle = jnp.asarray(jnp.nan, real_dtype())
        return jax.lax.cond((step < limit) & ~broken, advance, lambda c: (c, idle), carry)

    opening = (moving, begin, jnp.zeros((), bool))
    (moving, step, broken), values = jax.lax.scan(body, opening, None, length=chunk)
    return moving, step, broken, values


@partial(jax.jit, static_argnums=(0, 1, 2))
def _compare(
    program: Program, guide: Guide, objective: Objective, new: Learned, old: Learned, words: Any, inputs: Any
) -> Any:
    """Differences of the objective between two fits on the same draws and rows, ``float[_PAIRS]``."""
    count_compilation()

    def one(step: Any) -> Any:
        draws, rows = _step_keys(words, step)
        stacked = [len(leaf) for leaf in inputs[1].values()]
        here = at_step(inputs, step % stacked[0] if stacked else 0, rows)

        def estimate(learned: Learned) -> Any:
            weights = weights_of(program, guide, draws, here, objective)
            params = with_model(guide, learned.guide, learned.model)
            return objective.estimate(weights(params, params, learned.model))

        return estimate(new) - estimate(old)

    return jax.lax.map(one, jnp.arange(_PAIRS))


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
