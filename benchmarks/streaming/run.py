"""``python -m benchmarks.streaming.run [--rows 1000000 3000000 10000000]``: a logistic regression larger than memory.

Makes Parquet files (80 bytes of ``x`` in each row), fits each in a process of its own that may take no more than 600 MB
beside what it has when everything is compiled, and tells the peak of memory, rows per second of training against plain
iteration over the same file, and the posterior against the exact one: Newton's method over the whole file. The exit
status is 1 if memory grows with the rows, or a mean is off.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.streaming import made
from benchmarks.streaming.worker import SIZE

STEPS, SPARE = 6400, 600_000_000
# Bytes that the peak of the longest file may lie above that of the shortest.
GROWTH = 150_000_000


def newton(path: Path, steps: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Mode and precision of the posterior, by Newton's method with the sums over all rows; exact but for rounding."""
    import pyarrow.parquet

    size = made.COLUMNS + 1
    w = np.zeros(size)
    for _ in range(steps):
        precision, slope = np.eye(size), -w
        with pyarrow.parquet.ParquetFile(path) as file:
            for part in file.iter_batches(65_536):
                x = part.column("x").flatten().to_numpy().reshape(-1, made.COLUMNS).astype(float)
                x = np.concatenate([np.ones((len(x), 1)), x], axis=1)
                p = 1 / (1 + np.exp(-x @ w))
                slope = slope + x.T @ (part.column("y").to_numpy() - p)
                precision += (x * (p * (1 - p))[:, None]).T @ x
        move = np.linalg.solve(precision, slope)
        w = w + move
        if np.abs(move).max() < 1e-9:
            break
    return w, precision


def measured(path: Path, rows: int, steps: int, truth: bool) -> dict[str, Any]:
    """One fit, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.streaming.worker", str(path), str(steps), str(SPARE)]
    told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    told |= {"rows": rows, "file": path.stat().st_size}
    if truth:
        mode, precision = newton(path)
        sd = np.sqrt(np.diag(np.linalg.inv(precision)))
        told["off"] = float(np.abs((np.array(told["mean"]) - mode) / sd).max())
        # A mean over the last quarter of the steps knows what their rows say: sd * sqrt(N / rows), of which four.
        told["allowed"] = max(0.3, 4 * float(np.sqrt(rows / (steps / 4 * SIZE))))
        # What a mean-field q can say at best: the sd of a weight given the others.
        told["sd_ratio"] = float(np.median(np.array(told["sd"]) * np.sqrt(np.diag(precision))))
    return told


def main(arguments: list[str] | None = None) -> int:
    """Make the files, fit them, tell; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming.run", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--folder", type=Path, help="where to make the files; a temporary folder by default")
    options = parser.parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for rows in sorted(options.rows):
            path = Path(folder) / "rows.parquet"
            made.write(path, rows)
            told = measured(path, rows, options.steps, truth=True)
            found.append(told)
            path.unlink()
            print(
                f"{rows:>11,} rows, {told['file'] / 1e6:.0f} MB: peak {told['peak'] / 1e6:,.0f} MB "
                f"({(told['peak'] - told['before']) / 1e6:+,.0f} MB since everything was compiled), "
                f"{options.steps:,} steps and {told['draws']} weighed draws in {told['seconds']:.1f} s; training "
                f"{told['trained'] / 1e6:.2f} M rows/s, plain iteration {told['plain'] / 1e6:.2f} M rows/s, ratio "
                f"{np.median(told['ratios']):.2f} (triples {min(told['ratios']):.2f} to {max(told['ratios']):.2f}); "
                f"means within {told['off']:.2f} sd of Newton's method (the noise of so many steps allows "
                f"{told['allowed']:.2f}), sds {told['sd_ratio']:.2f} of the best of a mean-field q",
                flush=True,
            )
    grown = found[-1]["peak"] - found[0]["peak"]
    print(f"the peak grew by {grown / 1e6:+,.0f} MB from the shortest file to the longest; allowed {GROWTH / 1e6:.0f}")
    return int(grown > GROWTH or any(told["off"] > told["allowed"] for told in found))


if __name__ == "__main__":
    sys.exit(main())
