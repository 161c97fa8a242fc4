"""``python -m benchmarks.streaming.worker FILE STEPS SPARE``: one fit of the file in this process, as one line of JSON.

Once everything is imported and compiled the kernel is told to refuse this process more than SPARE bytes beside what it
then has (``RLIMIT_DATA``), so that data which do not fit in memory cannot be kept by mistake.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

# Before pyarrow is imported: its own allocators reserve address space far ahead, which a limit would count.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

import taut
from benchmarks.streaming.made import COLUMNS
from taut import dist
from taut.algorithms import Run

SIZE, RATED = 10_000, 300  # rows of a batch; steps of a run that is timed


def model(x: Any, y: Any) -> None:
    """A logistic regression with an intercept."""
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([COLUMNS + 1]).to_event(1))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Bernoulli(logits=w[0] + x @ w[1:]), obs=y)


def fit(path: Path, steps: int) -> taut.Fit:
    """The fit of a file: a run of given length, and draws weighed by a pass over all rows."""
    batches = taut.data.Batches(path, size=SIZE, plate="rows")
    svi = taut.algorithms.SVI(steps=steps, tolerance=0.0)
    return taut.fit(model, batches, guide=taut.guides.MeanField(), algorithm=svi, verify=False)


def trained(path: Path, steps: int) -> float:
    """Rows per second of the run alone."""
    problem = taut.Problem(model, taut.data.Batches(path, size=SIZE, plate="rows"))
    began = time.perf_counter()
    Run()(taut.algorithms.SVI(steps=steps, tolerance=0.0), problem, taut.guides.MeanField(), 0)
    return steps * SIZE / (time.perf_counter() - began)


def plain(path: Path) -> float:
    """Rows per second of going through the file with pyarrow and nothing else."""
    import pyarrow.parquet

    began, rows = time.perf_counter(), 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for part in file.iter_batches(SIZE, columns=["x", "y"]):
            rows += part.num_rows
    return rows / (time.perf_counter() - began)


def status(name: str) -> int:
    """Bytes, as the kernel counts them for this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def main(arguments: list[str]) -> int:
    """Fit, and tell memory, time and what was found."""
    path, steps, spare = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    # Everything is compiled, and memory is what a run of some length needs.
    fit(path, 800)
    before = status("VmRSS")
    resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + spare, -1))
    began = time.perf_counter()
    found = fit(path, steps)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
    # In turn, so that what else the machine does meets both.
    rates = [(plain(path), trained(path, RATED), plain(path)) for _ in range(2)]
    told = {
        "before": before,
        "peak": peak,
        "seconds": seconds,
        "plain": float(np.median([r for first, _, last in rates for r in (first, last)])),
        "trained": float(np.median([r for _, r, _ in rates])),
        "ratios": [mine / ((first + last) / 2) for first, mine, last in rates],
        "draws": found.held,
        "elbo": found.elbo,
        "mean": np.asarray(found["w"].mean).tolist(),
        "sd": np.asarray(found["w"].sd).tolist(),
    }
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
