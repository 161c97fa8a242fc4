"""A flow from the Gaussian that it begins as: fitted, bent, and kept only if fresh draws say that it is better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut._draws import paired_standard_error, pool
from taut._errors import TautError
from taut._keys import generator
from taut._precision import real_dtype, scope
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._deterministic import FixedDraws
from taut.algorithms._log_weights import log_p
from taut.algorithms._optimizer import Distance, Optimizer
from taut.algorithms._svi import SVI
from taut.algorithms._warm import warm_state
from taut.gradients import Pathwise, StickingTheLanding
from taut.guides import Flow, FullRank, Guide, NoiseGuide
from taut.objectives import ELBO
from taut.problem import Problem, Program, count_compilation

# Pairs of fresh draws on which the flow must beat the Gaussian, and by how many standard errors.
_PAIRS = 8000
_SURE = 2.0
_STREAM = 4100

# Up to here the inverse of an autoregressive flow, which goes through the coordinates one by one, costs little enough
# to be paid in every step.
_FEW = 12


@dataclass(frozen=True)
class BentOnly(Optimizer):
    """An optimiser that leaves the Gaussian alone and moves the rest, so that units of the problem do not matter."""

    inner: Optimizer = Distance()

    def init(self, params: Any) -> Any:
        """See `Optimizer`."""
        return self.inner.init(params)

    def update(self, gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """See `Optimizer`."""
        kept = {n: g if n.startswith("flow.") else jnp.zeros_like(g) for n, g in gradient.guide.items()}
        return self.inner.update(gradient._replace(guide=kept), state, params)

    def restart(self, params: Any, average: Any, state: Any) -> tuple[Any, Any]:
        """See `Optimizer`."""
        return self.inner.restart(params, average, state)


class State(NamedTuple):
    """Where a run stands: the Gaussian's state, and the flow's once that is done."""

    key: Any
    gaussian: Any
    flow: Any


@dataclass(frozen=True)
class FlowSVI(Algorithm):
    r"""Fit a Gaussian by fixed draws, begin the flow as exactly that, and train the flow by stochastic gradients.

    Both ELBOs are then taken on the same fresh noise. If the flow is not better by more than two standard errors of
    their difference, the Gaussian is the solution, and a note says so: the result is never worse than `FullRank`'s.

    Args:
        gaussian: how the Gaussian is fitted.
        particles: draws per step.
        steps: most steps of the flow's training.
        tolerance: the gain of a stage that does not matter, in nats.

    Raises:
        TautError: ``bad-combination`` with another guide than `Flow`.

    Source: the start at a fitted simpler family: Baudart and Mandel (2021), Automatic guide generation for Stan via
    NumPyro; Agrawal, Sheldon, Domke (2020), Advances in black-box VI.

    Example:
        >>> taut.fit(model, data, guide=taut.guides.Flow(), algorithm=taut.algorithms.FlowSVI())    # doctest: +SKIP
    """

    gaussian: FixedDraws = FixedDraws()
    particles: int = 16
    steps: int = 12_800
    tolerance: float = 0.01

    def guide(self, problem: Problem) -> Guide:
        """See `Algorithm`."""
        return Flow()

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> State:
        """See `Algorithm`."""
        if not isinstance(guide, Flow):
            raise TautError(
                "bad-combination",
                found=f"FlowSVI with {type(guide).__name__}",
                expected="a Flow guide",
                remedy="taut.fit(model, data, guide=taut.guides.Flow())",
            )
        # A missing extra is told before the Gaussian is fitted.
        guide.from_gaussian(problem, np.zeros(problem.dim), np.ones(problem.dim))
        return State(key, self.gaussian.init(problem, FullRank(guide.centredness, guide.start), key), None)

    def step(self, problem: Problem, guide: Guide, state: State) -> tuple[State, Progress]:
        """One phase of the Gaussian's fit, or one chunk of steps of the flow's."""
        assert isinstance(guide, Flow)
        base = FullRank(guide.centredness, guide.start)
        if state.flow is None:
            gaussian, progress = self.gaussian.step(problem, base, state.gaussian)
            state = state._replace(gaussian=gaussian)
            if self.gaussian.terminate(problem, base, gaussian) is None:
                return state, progress
            found = self._gaussian(problem, guide, state)
            params = guide.from_gaussian(problem, found.params["loc"], FullRank.factor(found.params))
            svi = self._svi(problem, guide)
            return state._replace(flow=warm_state(svi, problem, guide, state.key, params, found.model_params)), progress
        flow, progress = self._svi(problem, guide).step(problem, guide, state.flow)
        return state._replace(flow=flow), progress._replace(gradients=progress.gradients + state.gaussian.gradients)

    def terminate(self, problem: Problem, guide: Guide, state: State) -> str | None:
        """See `Algorithm`."""
        assert isinstance(guide, Flow)
        return None if state.flow is None else self._svi(problem, guide).terminate(problem, guide, state.flow)

    def finish(self, problem: Problem, guide: Guide, state: State, status: str) -> Solution:
        """See `Algorithm`: the flow, or the Gaussian where that is as good."""
        assert isinstance(guide, Flow)
        found = self._gaussian(problem, guide, state)
        if state.flow is None:
            return found
        bent = self._svi(problem, guide).finish(problem, guide, state.flow, status)
        noise = pool(_PAIRS, problem.dim, generator(state.key, _STREAM))
        base = FullRank(guide.centredness, guide.start)
        gains = log_weights(problem, guide, bent, noise) - log_weights(problem, base, found, noise)
        gain, se = float(np.mean(gains)), paired_standard_error(gains)
        if not gain > _SURE * se:
            told = f"{gain:.2g} +- {se:.1g}" if np.isfinite(gain) else "no finite number of"
            note = (
                f"the flow was {told} nats better than the Gaussian it began as on fresh draws: the Gaussian was kept"
            )
            return replace(found, notes=(*found.notes, note))
        told = (f"the flow is {gain:.2g} +- {se:.1g} nats better than the Gaussian it began as, on fresh draws",)
        if status == "budget":
            told += ("taut.fit(model, data, guide=fit.guide) goes on where the flow's steps ended",)
        # A run that broke later keeps what it had gained until then.
        return replace(bent, modes=found.modes, flat=found.flat, notes=(*bent.notes, *told))

    def _gaussian(self, problem: Problem, guide: Flow, state: State) -> Solution:
        base = FullRank(guide.centredness, guide.start)
        status = self.gaussian.terminate(problem, base, state.gaussian) or "interrupted"
        return self.gaussian.finish(problem, base, state.gaussian, status)

    def _svi(self, problem: Problem, guide: Flow) -> SVI:
        slow = guide.kind == "autoregressive" and problem.dim > _FEW
        return SVI(
            objective=ELBO(particles=self.particles),
            gradient=Pathwise() if slow else StickingTheLanding(),
            optimizer=BentOnly(),
            steps=self.steps,
            tolerance=self.tolerance,
        )


def log_weights(problem: Problem, guide: NoiseGuide, solution: Solution, noise: np.ndarray) -> np.ndarray:
    r"""$\log p(x, z) - \log q(z)$ at $z = g(\epsilon; \phi)$ for given noise, ``float64[n]``."""
    with scope(problem.precision):
        params = {name: jnp.asarray(value, real_dtype()) for name, value in solution.params.items()}
        model = jnp.asarray(solution.model_params, real_dtype())
        rows = jnp.asarray(noise, real_dtype())
        return np.asarray(_weights(problem.program, guide, params, model, rows, problem.inputs), float)


@partial(jax.jit, static_argnums=(0, 1))
def _weights(program: Program, guide: NoiseGuide, params: Any, model: Any, noise: Any, inputs: Any) -> Any:
    count_compilation()

    def one(noise: Any) -> Any:
        point, log_q = guide.push(program, params, noise, inputs)
        return log_p(program, point, model, inputs) - log_q

    return jax.lax.map(one, noise, batch_size=128)
