"""Train the arms of the papers on digits and write ``docs/reproductions.md``.

``python -m benchmarks.neural.run [--data PATH] [--reduced] [--only NAME ...] [--jobs N] [--out FOLDER] [--page FILE]``

What an earlier run has finished is not done again; ``--again`` does. The whole takes about two hours on two cores, the
reduced set about ten minutes. The exit status is 1 if an arm failed, 2 if there are no images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.neural import autoencoders, networks, networks_page
from benchmarks.neural.images import ImagesError, load
from benchmarks.neural.page import page
from taut._files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "neural"
PAGE = ROOT / "docs" / "reproductions.md"
REDUCED = ("1-VAE-1", "1-IWAE-5", "1-IWAE-5-DReG", "2-VAE-1", "2-IWAE-5", "1-IWAE-50")
REDUCED_EPOCHS, REDUCED_SAMPLES = 8, 1000


class Job(NamedTuple):
    """A process, and the file that it leaves."""

    name: str
    command: list[str]
    out: Path


def jobs(folder: Path, data: str | None, reduced: bool, only: Sequence[str] = ()) -> list[Job]:
    """What is to be run, the longest first."""
    found = []
    settings = ["--epochs", str(REDUCED_EPOCHS), "--samples", str(REDUCED_SAMPLES)] if reduced else []
    source = [] if data is None else ["--data", data]
    for arm in sorted(autoencoders.ARMS, key=lambda arm: -arm.k * arm.layers):
        if reduced and arm.name not in REDUCED:
            continue
        out = folder / f"{arm.name}.json"
        command = ["-m", "benchmarks.neural.autoencoders", arm.name, *source, *settings, "--out", str(out)]
        found.append(Job(arm.name, command, out))
    for arm in networks.REDUCED if reduced else networks.ARMS:
        found.append(_network(arm, folder, [*source, *(["--reduced"] if reduced else [])]))
    found.append(_network("regression", folder, [*source, *(["--reduced"] if reduced else [])]))
    return [job for job in found if not only or job.name in only]


def _network(arm: str, folder: Path, options: list[str]) -> Job:
    out = folder / f"network-{arm}.json"
    return Job(arm, ["-m", "benchmarks.neural.networks", arm, *options, "--out", str(out)], out)


def run(job: Job, threads: int) -> str | None:
    """Run one job; what went wrong, if anything did."""
    flags = os.environ.get("XLA_FLAGS", "")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    if threads == 1:
        env |= {"OMP_NUM_THREADS": "1", "XLA_FLAGS": f"{flags} --xla_cpu_multi_thread_eigen=false".strip()}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *job.command], cwd=ROOT, env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        error = " | ".join(said[-3:]) or f"status {done.returncode}"
        print(f"{job.name:16s} failed after {seconds:,.0f} s: {error}", flush=True)
        return error
    print(f"{job.name:16s} {seconds:7,.0f} s", flush=True)
    return None


def at_a_time() -> int:
    """Processes side by side: one on an accelerator, else one a core."""
    asked = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    backend = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return 1 if backend not in ("cpu", "") else max(1, os.cpu_count() or 1)


def results(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """What lies in a folder: rows of autoencoders, in the order of the arms, and the networks'."""
    files = [folder / f"{arm.name}.json" for arm in autoencoders.ARMS]
    rows = [json.loads(file.read_text()) for file in files if file.is_file()]
    files = [folder / f"network-{arm}.json" for arm in (*networks.ARMS, "regression")]
    told = [json.loads(file.read_text()) for file in files if file.is_file()]
    if not told:
        return rows, None
    whole = {key: value for one in told for key, value in one.items()}
    return rows, whole | {"arms": {name: row for one in told for name, row in one["arms"].items()}}


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing and write the page; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neural.run", description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz of digits, or the folder of MNIST's four files")
    parser.add_argument("--reduced", action="store_true", help="fewer arms and epochs: about ten minutes")
    parser.add_argument("--only", nargs="+", default=(), help="names of arms")
    parser.add_argument("--jobs", type=int, help="processes side by side")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--page", type=Path, help="where the page goes")
    parser.add_argument("--again", action="store_true", help="run what has been run before, too")
    options = parser.parse_args(arguments)
    folder = options.out or (RESULTS.with_name("neural-reduced") if options.reduced else RESULTS)
    try:
        load(options.data)
    except ImagesError as error:
        print(error, file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    wanted = jobs(folder, options.data, options.reduced, options.only)
    if options.again:
        for job in wanted:
            job.out.unlink(missing_ok=True)
            job.out.with_suffix(".state").unlink(missing_ok=True)
    missing = [job for job in wanted if not job.out.is_file()]
    side = options.jobs or at_a_time()
    with ThreadPoolExecutor(side) as pool:
        failed = [error for error in pool.map(lambda job: run(job, 1 if side > 1 else 0), missing) if error]
    # A reduced run shows that everything works, and is no result to publish.
    where = options.page or (folder / "reproductions.md" if options.reduced or options.only else PAGE)
    rows, told = results(folder)
    picture = None
    if told is not None and any("pruning" in row for row in told["arms"].values()):
        picture = where.with_name("reproductions.svg")
        networks_page.draw(told, picture)
    atomic_write(where, page(rows, told, None if picture is None else picture.name))
    print(f"written to {where}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
