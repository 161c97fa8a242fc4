"""Fit every posterior with `taut.fit` and no options, and compare with its reference draws.

``python -m benchmarks.posteriordb.run [--posteriordb PATH] [--only NAME ...] [--jobs N] [--out FILE]``

The exit status is 1 if a fit that was called good is not (a false trust) or a fit failed, 2 if there is nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.posteriordb.models import POSTERIORS
from benchmarks.posteriordb.reference import Library, LibraryError, find
from taut._files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = ("trusted", "trusted after correction")  # every other verdict claims nothing
NOTES = """\
mean: largest |mean - reference| in reference sds; sd: smallest and largest sd / reference sd; each as natural scale /
unconstrained scale (log, logit or log gap). process: from the start of a fresh process, imports included, to the first
fit; cold: that fit alone, compilation included; warm: a second fit in the same process. A false trust is a claim with
a mean off by more than 0.1 sd, or an sd ratio outside 0.9-1.1, by more than three Monte Carlo errors of the reference;
~ marks the unconstrained scale.
"""


def measure(name: str, library: Library, seconds: float) -> dict[str, Any]:
    """Measure one posterior in a process of its own; a process that fails becomes a row that says so."""
    command = [sys.executable, "-m", "benchmarks.posteriordb.worker", name, str(library.folder), repr(time.time())]
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return {"posterior": name, "level": "failed", "error": f"no result after {seconds:g} s"}
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return {"posterior": name, "level": "failed", "error": " | ".join(said[-4:]) or f"status {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def false_trust(row: dict[str, Any]) -> bool:
    """Whether a fit that claims to be usable is beyond the limits that `compare` states."""
    return row["level"] in CLAIMS and bool(row["beyond"])


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    name = row["posterior"][:44]
    if row["level"] == "failed":
        return f"{name:44}  FAILED: {row['error']}"
    natural, free = row["natural"], row["unconstrained"]
    text = (
        f"{name:44}  {row['level']:23} {row['khat']:5.2f}  {natural['mean_error']:5.3f}/{free['mean_error']:5.3f}  "
        f"{natural['sd_low']:4.2f}-{natural['sd_high']:4.2f}/{free['sd_low']:4.2f}-{free['sd_high']:4.2f}  "
        f"{row['gradients']:>9,}  {row['seconds_process']:6.1f} {row['seconds_cold']:6.1f} {row['seconds_warm']:6.2f}"
    )
    if false_trust(row):
        text += f"\n  !!! FALSE TRUST: {', '.join(row['beyond'][:6])}"
    if row["level"] in CLAIMS and row["doubtful"]:
        text += f"\n  ? at the limit, within the reference's own noise: {', '.join(row['doubtful'][:6])}"
    return text


HEADER = (
    f"{'posterior':44}  {'verdict':23} {'k-hat':>5}  {'mean':^11}  {'sd':^19}  {'gradients':>9}  "
    f"{'process':>6} {'cold':>5} {'warm':>6}"
)


def summary(rows: list[dict[str, Any]]) -> str:
    """What the table adds up to."""
    failed = [row["posterior"] for row in rows if row["level"] == "failed"]
    false = [row["posterior"] for row in rows if false_trust(row)]
    levels = [row["level"] for row in rows]
    counts = ", ".join(f"{levels.count(level)} {level}" for level in sorted(set(levels)))
    lines = [f"{len(rows)} posteriors: {counts}; {len(false)} false trusts"]
    recompiled = [row["posterior"] for row in rows if row.get("compilations_again")]
    if recompiled:
        lines.append(f"compiled again on a second fit: {', '.join(recompiled)}")
    if false:
        lines.append(f"!!! FALSE TRUST: {', '.join(false)}")
    if failed:
        lines.append(f"!!! FAILED: {', '.join(failed)}")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """What the numbers were taken with."""
    packages = {package: version(package) for package in ("jax", "numpyro", "numpy", "scipy")}
    return packages | {"python": platform.python_version(), "machine": platform.machine(), "cpus": str(os.cpu_count())}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.posteriordb.run", description=__doc__.splitlines()[0])
    parser.add_argument("--posteriordb", metavar="PATH", help="a posteriordb checkout or a bundle of its posteriors")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="posteriors, or parts of their names")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once; times mean little above 1")
    parser.add_argument("--seconds", type=float, default=900, help="limit for one posterior")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "posteriordb.json")
    options = parser.parse_args(arguments)
    try:
        library = find(options.posteriordb)
    except LibraryError as error:
        print(error, file=sys.stderr)
        return 2
    wanted = [n for n in POSTERIORS if not options.only or any(part in n for part in options.only)]
    names = [name for name in wanted if library.has(name)]
    if not names:
        print(f"none of {', '.join(options.only or ['the posteriors'])} in {str(library.folder)!r}", file=sys.stderr)
        return 2
    print(HEADER, flush=True)
    rows = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(lambda name: measure(name, library, options.seconds), names):
            rows.append(row)
            print(line(row), flush=True)
    for missing in sorted(set(wanted) - set(names)):
        print(f"{missing:44}  not in {library.folder}")
    print(f"\n{summary(rows)}\n{NOTES}", end="")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"versions": versions(), "jobs": options.jobs, "rows": rows}
    print(f"written to {atomic_write(options.out, json.dumps(content, indent=1) + chr(10))}")
    return int(any(row["level"] == "failed" or false_trust(row) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
