"""A live line for long runs: it shows how far, how good, how fast, and costs nothing between two pictures."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any, SupportsFloat, TextIO

from taut.report._digits import estimate

INTERVAL = 0.1  # seconds between two updates of the screen
_WINDOW = 3.0  # seconds over which a rate is measured


class Progress:
    """A progress line, live on a terminal and one plain line elsewhere.

    `update` may be called at every step: it looks at the clock and returns, except some ten times a second. Only
    then are its arguments turned into numbers, so a device array is not waited for on the other calls.

    Args:
        total: steps of the whole run; None if the run ends on a test alone.
        label: what is running.
        stream: where to write; standard error by default.
        enabled: False writes nothing; None and True write.
        clock: seconds, rising.
        rows: rows of all data, where steps visit batches of them: the objective is then shown by row too.
        batch: rows of a step.

    Example:
        >>> with Progress(2000, "SVI") as progress:
        ...     for step in range(1, 2001):
        ...         progress.update(step, elbo=-31.5, se=0.2, rate=5000.0)
    """

    def __init__(
        self,
        total: int | None,
        label: str,
        stream: TextIO | None = None,
        enabled: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        rows: int = 0,
        batch: int = 0,
    ):
        self._total, self._label, self._clock = total, label, clock
        self._stream = sys.stderr if stream is None else stream
        self._rows, self._batch = rows, batch
        self._held: tuple[float, float] | None = None
        self._enabled = enabled is not False
        self._begun = clock()
        self._due = self._begun
        self._last: tuple[int, SupportsFloat | None, SupportsFloat | None, SupportsFloat | None] | None = None
        # When a rate was last measured, and at which step: that of the last seconds, not of the compilation before.
        self._since: tuple[float, int] | None = None
        self._rate = 0.0
        self._live = (
            _bar(self._stream, total, label, 8 if rows else 24) if self._enabled and self._stream.isatty() else None
        )

    def update(
        self,
        step: int,
        elbo: SupportsFloat | None = None,
        se: SupportsFloat | None = None,
        rate: SupportsFloat | None = None,
        held_out: tuple[float, float] | None = None,
    ) -> None:
        """Report a step.

        Args:
            step: steps done so far.
            elbo: the objective now, in nats.
            se: its standard error.
            rate: steps per second; measured here if None.
            held_out: the last objective of held-out rows and its standard error, in nats of a row.
        """
        if not self._enabled:
            return
        self._held = held_out
        self._last = (step, elbo, se, rate)
        if self._live is None:
            return
        now = self._clock()
        self._measure(now, step)
        if now < self._due:
            return
        self._due = now + INTERVAL
        self._draw(now)

    def close(self, note: str = "") -> None:
        """End the line; a second call does nothing.

        Args:
            note: how the run ended, added to the line.
        """
        if not self._enabled:
            return
        self._enabled = False
        now = self._clock()
        if self._live is not None:
            if self._last is not None:
                self._draw(now, note)
            self._live.stop()
        elif self._last is not None:
            self._stream.write(self._sentence(now, note) + "\n")
            self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _draw(self, now: float, note: str = "") -> None:
        if self._live is None or self._last is None:
            return
        step = self._last[0]
        self._live.update(
            self._live.task_ids[0],
            completed=step,
            words="  ".join(filter(None, (self._words(now), note))),
            refresh=True,
        )

    def _measure(self, now: float, step: int) -> None:
        if self._since is None:
            self._since = now, step
        elif now - self._since[0] >= _WINDOW or not self._rate:
            self._rate = (step - self._since[1]) / max(now - self._since[0], 1e-9)
            if now - self._since[0] >= _WINDOW:
                self._since = now, step

    def _words(self, now: float) -> str:
        step, elbo, se, rate = self._last or (0, None, None, None)
        speed = float(rate) if rate is not None else self._rate or step / max(now - self._begun, 1e-9)
        parts = [] if elbo is None else self._objective(float(elbo), se)
        if self._rows:
            # A terminal is narrow: the objective of a row says as much as that of all.
            parts = ["ELBO " + part if place == 0 else part for place, part in enumerate(parts[1:])]
        if math.isfinite(speed) and speed > 0:
            parts += self._speeds(speed)
        return "  ".join(parts)

    def _objective(self, elbo: float, se: SupportsFloat | None) -> list[str]:
        error = None if se is None else float(se)
        parts = ["ELBO " + estimate(elbo, error)]
        if self._rows:
            parts.append(estimate(elbo / self._rows, None if error is None else error / self._rows) + " a row")
        if self._held is not None:
            parts.append("held out " + estimate(*self._held))
        return parts

    def _speeds(self, speed: float) -> list[str]:
        parts = [f"{speed:,.{0 if speed >= 10 else 1}f} steps/s"]
        return [*parts, f"{speed * self._batch:,.0f} rows/s"] if self._batch else parts

    def _sentence(self, now: float, note: str) -> str:
        step, elbo, se, rate = self._last or (0, None, None, None)
        of = f" of {self._total:,}" if self._total is not None and self._total != step else ""
        parts = [f"{self._label}: {step:,}{of} steps in {estimate(now - self._begun, None, 's')}"]
        if elbo is not None:
            parts += self._objective(float(elbo), se)
        if self._batch:
            parts += self._speeds(float(rate) if rate is not None else step / max(now - self._begun, 1e-9))
        return ", ".join(filter(None, (*parts, note)))


def _bar(stream: TextIO, total: int | None, label: str, wide: int) -> Any:
    """A rich bar that is redrawn only when told to, or None where rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    columns = [TextColumn("{task.description}", markup=False), BarColumn(wide), MofNCompleteColumn()]
    columns += [TextColumn("{task.fields[words]}", markup=False)]
    columns += [TimeRemainingColumn(compact=True)] if total is not None else []
    bar = Bar(*columns, console=Console(file=stream, force_terminal=True), auto_refresh=False)
    bar.add_task(label, total=total, words="")
    bar.start()
    return bar
