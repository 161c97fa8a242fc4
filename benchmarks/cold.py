"""``python -m benchmarks.cold [--runs N]``: the two programs in turn, each in a fresh process.

Neither is given a compilation cache on disk. The exit status is 1 if the median ratio taut / NumPyro is not below one
half, or if a second fit on data of the same shapes compiled anything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from taut._files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 0.5


def run(module: str) -> tuple[float, str]:
    """Run a module in a fresh process: seconds from its start to its end, and what it printed."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    with tempfile.TemporaryFile("w+") as said:
        begun = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.eight_schools.{module}"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=said, text=True
        )
        seconds = time.perf_counter() - begun
        if done.returncode != 0:
            said.seek(0)
            raise SystemExit(f"benchmarks.eight_schools.{module} failed:\n{said.read()[-2000:]}")
    return seconds, done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Run both programs in turn; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="pairs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cold.json")
    options = parser.parse_args(arguments)
    print("eight schools, seconds from process start (imports and compilation included) to the printed posterior")
    print(f"{'pair':>4} {'taut':>7} {'NumPyro':>8} {'ratio':>6}", flush=True)
    pairs, printed = [], ""
    for i in range(options.runs):
        ours, printed = run("taut_schools")
        theirs, _ = run("numpyro_schools")
        pairs.append((ours, theirs))
        print(f"{i + 1:4} {ours:7.2f} {theirs:8.2f} {ours / theirs:6.2f}", flush=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    again = json.loads(run("refit")[1])
    print(f"\n{printed}")
    print("NumPyro: AutoNormal, 20,000 Adam steps, 1,000 draws")
    print(
        f"median: taut {median(p[0] for p in pairs):.2f} s, NumPyro {median(p[1] for p in pairs):.2f} s; "
        f"ratio {median(ratios):.2f} (pairs {min(ratios):.2f} to {max(ratios):.2f}), wanted below {LIMIT}"
    )
    print(
        f"in one process: first fit {again['first']:.2f} s, second on new data of the same shapes "
        f"{again['second']:.2f} s with {again['compilations']} compilations, wanted 0"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"taut": [p[0] for p in pairs], "numpyro": [p[1] for p in pairs], "again": again}
    print(f"written to {atomic_write(options.out, json.dumps(content, indent=1) + chr(10))}")
    return int(median(ratios) >= LIMIT or again["compilations"] != 0)


if __name__ == "__main__":
    sys.exit(main())
