"""The contract of an algorithm: a way to find q, one step at a time."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from taut.guides import FullRank, Guide
from taut.problem import Problem


class Progress(NamedTuple):
    """What a reader of a running fit wants: gradient evaluations so far, the objective in nats and its error."""

    label: str
    gradients: int
    elbo: float
    se: float


@dataclass(frozen=True)
class Solution:
    """What an algorithm found.

    Attributes:
        guide: the family, possibly another than was asked for (a mixture when modes differ).
        params: its parameters, plain arrays.
        model_params: unconstrained values of the model's own parameters, ``float[P]``.
        status: ``"converged"``, ``"plateaued"``, ``"budget"``, ``"nonfinite"`` or ``"interrupted"``.
        history: ``Progress`` records, in order.
        gap: fitted minus fresh-draw ELBO in nats and its standard error, where an algorithm fits to fixed draws.
        modes: ``(distinct comparable modes, starts at the best, starts)``, where several starts were made.
        flat: names of the directions in which the posterior does not fall off, if any were met.
        notes: sentences for the result.
        state: the last state, from which the run can go on.
    """

    guide: Guide
    params: dict[str, Any]
    model_params: np.ndarray
    status: str
    history: tuple[Progress, ...] = ()
    gap: tuple[float, float] | None = None
    modes: tuple[int, int, int] | None = None
    flat: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    state: Any = field(default=None, repr=False)


class Algorithm(abc.ABC):
    """A way to find q. State is a value: everything the next step needs, in a plain pytree of arrays and numbers.

    Laws, which the conformance suite checks: stepping a saved state gives bit-identical results; a second run on new
    data of the same shapes compiles nothing.
    """

    def guide(self, problem: Problem) -> Guide:
        """The family that this algorithm fits where the user asks for none."""
        return FullRank()

    @abc.abstractmethod
    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> Any:
        """The state before the first step."""

    def resume(self, state: Any) -> Any:
        """The state with which a run that ended goes on; the identity unless an ending must be undone."""
        return state

    @abc.abstractmethod
    def step(self, problem: Problem, guide: Guide, state: Any) -> tuple[Any, Progress]:
        """One step: the next state, and what a reader wants to know of this one."""

    @abc.abstractmethod
    def terminate(self, problem: Problem, guide: Guide, state: Any) -> str | None:
        """Why to stop here (a status), or ``None`` to go on."""

    @abc.abstractmethod
    def finish(self, problem: Problem, guide: Guide, state: Any, status: str) -> Solution:
        """The solution that a state stands for."""


@dataclass
class Run:
    """A loop over an algorithm that can be interrupted without loss.

    Args:
        on_step: called with each step's `Progress`.
        on_state: called with each state and the history so far, and at the end with ``True`` besides.
        until: says of a state where the next step of a compiled loop must end at the latest; for `SVI`.
    """

    on_step: Callable[[Progress], None] | None = None
    on_state: Callable[..., None] | None = None
    until: Callable[[Any], int] | None = None
    history: list[Progress] = field(default_factory=list)

    def __call__(
        self, algorithm: Algorithm, problem: Problem, guide: Guide, key: int | jax.Array, state: Any = None
    ) -> Solution:
        """Step until the algorithm stops itself or the user does (Ctrl-C), and return what was found.

        Args:
            algorithm, problem, guide, key: what runs.
            state: where to go on from; by default a new run is begun.
        """
        state = algorithm.init(problem, guide, key) if state is None else algorithm.resume(state)
        try:
            while (status := algorithm.terminate(problem, guide, state)) is None:
                limit: dict[str, Any] = {} if self.until is None else {"until": self.until(state)}
                state, progress = algorithm.step(problem, guide, state, **limit)
                self.history.append(progress)
                if self.on_step is not None:
                    self.on_step(progress)
                if self.on_state is not None:
                    self.on_state(state, self.history)
        except KeyboardInterrupt:
            status = "interrupted"
        if self.on_state is not None:
            self.on_state(state, self.history, True)
        return replace(algorithm.finish(problem, guide, state, status), state=state)
