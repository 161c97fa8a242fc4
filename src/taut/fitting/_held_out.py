"""Rows that a run does not learn from, looked at along the way: whether what it gains holds for others too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from taut._arguments import whole_number
from taut._errors import TautError
from taut.algorithms import SVI, Algorithm, Progress, Run, Solution, stage_bounds
from taut.data import Batches
from taut.fitting._smooth import pooled
from taut.fitting._weigh_batches import Estimate, objective_over, reads_row_numbers
from taut.guides import Guide, bind
from taut.problem import Problem

# Looks at the data in each stage of a run: at 100, 200, 300, 400, 500, 600, 700, 800, 1000, 1200 steps and so on.
_LOOKS = 4


@dataclass(frozen=True, eq=False)
class HeldOut:
    r"""Rows that a run does not learn from, and how often it looks at them.

    Their objective is on the scale of the fit's own: $M$ held-out rows stand for all $N$, as those of a batch do,

    $$\frac{N}{M} \sum_{i=1}^M \ell_i + \ell_{\text{global}},$$

    by one pass over them, with the same noise every time, so that what changes is the fit.

    Args:
        data: `taut.data.Batches`, or what they are made of: columns, a data frame, the path of a Parquet file. They
            then share plate, size, transform and ``shared`` with the data of the fit.
        every: steps from one look to the next; by default four looks in each stage, whose lengths double.

    Raises:
        TautError: ``bad-argument`` for a number of steps that is none.

    Example:
        >>> held_out = taut.HeldOut(dict(y=np.arange(10.0)), every=1000)
    """

    data: Any = field(repr=False)
    every: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None:
            object.__setattr__(self, "every", whole_number("every", self.every, "taut.HeldOut(data, every=1000)"))

    def next_look(self, step: int) -> int:
        """The first look after so many steps."""
        if self.every is not None:
            return (step // self.every + 1) * self.every
        begin, part = _quarters(step)
        return begin + ((step - begin) // part + 1) * part

    def is_look(self, step: int) -> bool:
        """Whether there is a look after so many steps."""
        return step > 0 and self.next_look(step - 1) == step


class Watch:
    """The looks of one run.

    Args:
        held: the rows, and how often they are looked at.
        problem: the problem of the fit.
        algorithm: what runs.
        guide: the family.
        key: the run's; the noise of a look has a stream of its own.

    Attributes:
        rows: gradients so far, objective, its standard error, of each look.

    Raises:
        TautError: ``bad-combination`` for fits that do not go through batches, and for guides that have learned
            something for every row; what `Batches` and `Problem` raise.
    """

    def __init__(self, held: Any, problem: Problem, algorithm: Algorithm, guide: Guide, key: int | jax.Array):
        self.held = held if isinstance(held, HeldOut) else HeldOut(held)
        if problem.batches is None or not isinstance(algorithm, SVI):
            raise _refusal(
                f"held_out with {type(algorithm).__name__} on data that are no batches",
                "SVI on taut.data.Batches, whose plate says what a row is",
                'taut.fit(model, taut.data.Batches(dict(x=x, y=y), size=128, plate="rows"), held_out=dict(x=x2, y=y2))',
            )
        self.batches = _batches(self.held.data, problem.batches)
        self.problem = Problem(problem.model, self.batches, precision=problem.precision, discrete=problem.discrete)
        self.guide, self.key = bind(guide, self.problem), key
        self.objective, self.steps = algorithm.objective.yardstick, algorithm.steps
        self.draws = algorithm.pair(problem, bind(guide, problem))[0].draws
        self.rows: list[tuple[float, float, float]] = []
        self._checked = False

    @property
    def identity(self) -> str:
        """Tells these looks from others."""
        words = self.problem.fingerprint
        return f"{int(words[0]):08x}{int(words[1]):08x}, {self.batches.rows} rows, every {self.held.every or 'quarter'}"

    @property
    def looks(self) -> np.ndarray:
        """The looks so far, ``float64[T, 3]``."""
        return np.array(self.rows, float).reshape(-1, 3)

    def attach(self, run: Run, looks: np.ndarray, state: Any) -> None:
        """Look along a run; one that goes on from a state takes over the looks before it."""
        keep = run.on_state

        def on_state(now: Any, *rest: Any) -> None:
            self._look(now)
            if keep is not None:
                keep(now, *rest)

        run.on_state, run.until = on_state, lambda now: self.held.next_look(now.step)
        if state is None:
            return
        for gradients, value, se in looks.tolist():
            step = round(gradients / self.draws)
            if step <= state.step and self.held.is_look(step):
                self.rows.append((gradients, value, se))
        self._look(state)  # what was interrupted while it was looked at

    def _look(self, state: Any) -> None:
        """Look at the rows if it is time to: at the average of the iterates, or the best one where a stage ends."""
        gradients = float(state.step * self.draws)
        if not self.held.is_look(state.step) or any(row[0] == gradients for row in self.rows):
            return
        ended = state.step == stage_bounds(state.step - 1, self.steps)[1]
        now = state.best if ended and state.stages.finished else state.average
        found = self.at(now.guide, now.model)
        self.rows.append((gradients, found.value, found.se))

    def at(self, params: Any, model: Any) -> Estimate:
        """The objective of the held-out rows at a guide's parameters and the model's."""
        learned = {name: np.asarray(value) for name, value in params.items()}
        solution = Solution(self.guide, learned, np.asarray(model), "budget")
        if not self._checked and reads_row_numbers(self.problem, solution, self.key):
            raise _refusal(
                f"held_out with a {type(self.guide).__name__} that has parameters for every row",
                "a guide that reaches rows which it has not seen: one with an encoder, or without latents of rows",
                f'guide=taut.guides.Amortised("{self.batches.plate}", encoder)',
            )
        self._checked = True
        return objective_over(self.problem, solution, self.key, self.objective)


def overfits(looks: np.ndarray, history: Sequence[Progress], rows: int, draws: int = 1) -> tuple[str, ...]:
    """A sentence, where the objective of held-out rows fell while the fit's own rose, both beyond their noise.

    Args:
        looks: gradients, objective, its standard error, ``float64[T, 3]``.
        history: what the run said of itself.
        rows: $N$, for nats of a row.
        draws: gradients of a step.
    """
    if len(looks) < 3 or not np.isfinite(looks).all():
        return ()
    best, last = int(np.argmax(looks[:, 1])), len(looks) - 1
    fell = looks[best, 1] - looks[last, 1]
    if best == last or fell <= 2 * math.hypot(looks[best, 2], looks[last, 2]):
        return ()
    before = pooled([p for p in history if (looks[best - 1, 0] if best else 0) < p.gradients <= looks[best, 0]])
    after = pooled([p for p in history if looks[last - 1, 0] < p.gradients <= looks[last, 0]])
    if not after[0] - before[0] > 2 * math.hypot(before[1], after[1]):
        return ()
    step = round(looks[best, 0] / draws)
    return (
        f"overfits since step {step:,}: from there on the objective of held-out rows fell by {fell / rows:.4g} nats a "
        f"row to {looks[last, 1] / rows:.4g}, while that of the fit's own rows rose by "
        f"{(after[0] - before[0]) / rows:.4g} to {after[0] / rows:.4g}; SVI(steps={step}) ends there, and a prior on "
        "what is learned as a point restrains it",
    )


def told(
    watch: Watch, solution: Solution, history: Sequence[Progress]
) -> tuple[dict[str, tuple[float, float | None, str]], tuple[str, ...]]:
    """The objective of held-out rows at the solution, in nats of a row, and what the looks say together."""
    found = watch.at(solution.params, solution.model_params)
    rows = watch.batches.total
    now = float(history[-1].gradients) if history else 0.0
    looks = np.array([*(row for row in watch.rows if row[0] < now), (now, found.value, found.se)])
    figure = (found.value / rows, found.se / rows, "nats a row")
    return {"held out": figure}, overfits(looks, history, rows, watch.draws)


def _batches(given: Any, fitted: Batches) -> Batches:
    own = given
    if not isinstance(given, Batches):
        own = Batches(given, 1, fitted.plate, shared=fitted.shared, transform=fitted.transform)
    if own.plate != fitted.plate:
        raise _refusal(
            f"held-out rows of plate {own.plate!r}",
            f"rows of plate {fitted.plate!r}, as in the fit",
            f'taut.data.Batches(..., plate="{fitted.plate}")',
        )
    size = min(own.rows, own.size if isinstance(given, Batches) else fitted.size)
    return own.resized(size, fitted.rows)


def _quarters(step: int) -> tuple[int, int]:
    """Where the stage of a step begins, whatever the budget, and a quarter of its length."""
    begin, end = stage_bounds(step, 2**62)
    return begin, (end - begin) // _LOOKS


def _refusal(found: str, expected: str, remedy: str) -> TautError:
    return TautError("bad-combination", site="held_out", found=found, expected=expected, remedy=remedy)
