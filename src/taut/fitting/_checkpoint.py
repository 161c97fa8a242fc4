"""Checkpoints: the state of a long run in a file, from which the same call goes on after whatever ended it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut.algorithms import SVI, Algorithm, Progress, Run
from taut.fitting._archive import read_archive, write_archive
from taut.fitting._held_out import Watch
from taut.fitting._resume import restored
from taut.guides import Guide, bind
from taut.problem import Problem


@dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps its state, and how often.

    The same call of `taut.fit` goes on from the file if there is one, bit for bit as if nothing had ended it: Ctrl-C, a
    crash, ``kill -9``. Each write is atomic. A finished run's file stays; delete it to begin anew.

    Args:
        path: the file.
        seconds: between two writes; what is lost at worst.

    Example:
        >>> fit = taut.fit(model, data, algorithm=taut.algorithms.SVI(), checkpoint="run.state")  # doctest: +SKIP
    """

    path: str | os.PathLike[str]
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if isinstance(self.seconds, bool) or not self.seconds >= 0:
            raise TautError(
                "bad-argument",
                site="seconds",
                found=f"seconds={self.seconds!r}",
                expected="a number of seconds between two writes",
                remedy="taut.Checkpoint(path, seconds=30)",
            )


class Keeper:
    """What keeps the checkpoint of one run.

    Args:
        checkpoint: where, and how often.
        watch: what looks at held-out rows, if anything does: its looks are kept beside the state.
        clock: seconds, rising.
    """

    def __init__(self, checkpoint: Checkpoint, watch: Watch | None = None, clock: Callable[[], float] = time.monotonic):
        self.watch = watch
        self.path, self.seconds, self.clock = checkpoint.path, checkpoint.seconds, clock
        self._written = clock()
        self._who: dict[str, str] = {}

    def begin(
        self, run: Run, algorithm: Algorithm, problem: Problem, guide: Guide, key: int | jax.Array
    ) -> tuple[Any, tuple[Progress, ...], np.ndarray]:
        """State, history and looks at held-out rows in the file, or nothing; from here on the run writes its own.

        Raises:
            TautError: ``bad-combination`` for an algorithm without a state that is worth keeping, and for the file of
                another run, with what differs.
        """
        if not isinstance(algorithm, SVI):
            raise TautError(
                "bad-combination",
                site="checkpoint",
                found=f"a checkpoint of {type(algorithm).__name__}, which is done before one is due",
                expected="SVI",
                remedy="algorithm=taut.algorithms.SVI(), or leave checkpoint out",
            )
        self._who = _identity(algorithm, problem, guide, key)
        if self.watch is not None:
            self._who["held_out"] = self.watch.identity
        run.on_state = self.offer
        if not Path(self.path).exists():
            return None, (), np.zeros((0, 3))
        header, arrays = read_archive(self.path)
        self._same(header.get("checkpoint", {}))
        leaves = tuple(arrays[name] for name in sorted(arrays) if name.startswith("state/"))
        history = tuple(Progress("svi", int(g), e, s) for g, e, s in arrays["history"])
        state = restored(leaves, algorithm, problem, guide, key)
        return state, history, arrays.get("held_out", np.zeros((0, 3)))

    def offer(self, state: Any, history: list[Progress], last: bool = False) -> None:
        """Write the state if it is time to, or the run is over."""
        now = self.clock()
        if not last and now - self._written < self.seconds:
            return
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        arrays = {f"state/{index:04d}": leaf for index, leaf in enumerate(leaves)}
        arrays["history"] = np.array([[p.gradients, p.elbo, p.se] for p in history], float).reshape(-1, 3)
        if self.watch is not None:
            arrays["held_out"] = self.watch.looks
        write_archive(self.path, {"checkpoint": self._who}, arrays)
        self._written = self.clock()

    def _same(self, found: dict[str, str]) -> None:
        other = [name for name, value in self._who.items() if found.get(name) != value]
        if other:
            raise TautError(
                "bad-combination",
                site=str(self.path),
                found="the checkpoint of another run: "
                + ", ".join(f"{name} was {found.get(name, 'not said')}, is {self._who[name]}" for name in other),
                expected="the state of this model on these data, with the same guide, algorithm and key",
                remedy="another path, or delete the file to begin anew",
            )


def _identity(algorithm: Algorithm, problem: Problem, guide: Guide, key: int | jax.Array) -> dict[str, str]:
    """What must be the same for a run to go on; the steps may be more."""
    words = problem.fingerprint
    return {
        "model": str(problem.program.digest),
        "data": f"{int(words[0]):08x}{int(words[1]):08x}",
        "guide": type(bind(guide, problem)).__name__,
        "objective": str(algorithm.objective) if isinstance(algorithm, SVI) else "",
        "key": str(key) if isinstance(key, int) else str(np.asarray(jax.random.key_data(key)).tolist()),
        "precision": problem.precision,
    }
