"""What a reader sees of a running fit: how far, how good, how fast."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from taut import report
from taut.algorithms import SVI, Algorithm, FlowSVI, Progress, Run
from taut.fitting._held_out import Watch
from taut.fitting._smooth import LAST, pooled
from taut.guides import Guide, bind
from taut.problem import Problem


@contextmanager
def progress_line(
    algorithm: Algorithm, problem: Problem, guide: Guide, run: Run, watch: Watch | None, wanted: bool | None
) -> Iterator[None]:
    """A live line for algorithms that take a while; nothing for the others, which are done before one could be read.

    The objective is the mean over the last `LAST` records, with the noise that is left in it.

    Args:
        algorithm, problem, guide: what runs.
        run: whose steps are shown.
        watch: what looks at held-out rows, if anything does.
        wanted: show it; by default only in a terminal.
    """
    if wanted is False or (wanted is None and not (isinstance(algorithm, SVI | FlowSVI) and sys.stderr.isatty())):
        yield
        return
    stochastic, total = isinstance(algorithm, SVI), algorithm.steps if isinstance(algorithm, SVI) else None
    batches = problem.batches
    rows, batch = (0, 0) if batches is None else (batches.total, batches.size)
    draws = algorithm.pair(problem, bind(guide, problem))[0].draws if isinstance(algorithm, SVI) else 1
    recent: list[Progress] = []
    with report.Progress(total, type(algorithm).__name__, enabled=True, rows=rows, batch=batch) as line:

        def show(record: Progress) -> None:
            recent.append(record)
            del recent[:-LAST]
            value, se = pooled(recent) if stochastic else (record.elbo, record.se)
            held = None
            if watch is not None and watch.rows:
                held = watch.rows[-1][1] / rows, watch.rows[-1][2] / rows
            line.update(record.gradients // draws, value, se, held_out=held)

        run.on_step = show
        yield
