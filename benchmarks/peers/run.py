"""Every method on every posterior, one process after the other, and the page that shows them side by side.

``python -m benchmarks.peers.run [--models NAME ... | all] [--peers NAME ...] [--runs R] [--limit S] [--resume]``

Rows are kept in one JSON file, rewritten after each pair: a row that is measured again replaces the old one, the others
stay; ``--resume`` leaves out what is there. The exit status is 2 if there is nothing to do.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.peers.machine import machine
from benchmarks.peers.page import PAGE, RESULTS, write_page
from benchmarks.peers.peer import PEERS
from benchmarks.posteriordb.models import POSTERIORS
from benchmarks.posteriordb.reference import LibraryError, find
from taut._files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
MODELS = (
    "eight_schools-eight_schools_noncentered",
    "mesquite-logmesquite_logvolume",
    "earnings-logearn_interaction",
    "wells_data-wells_dae_inter_model",
    "GLM_Poisson_Data-GLM_Poisson_model",
    "arK-arK",
    "gp_pois_regr-gp_regr",
    "low_dim_gauss_mix-low_dim_gauss_mix",
    "seeds_data-seeds_stanified_model",
    "radon_mn-radon_hierarchical_intercept_centered",
)
Key = tuple[str, str, int]


def pair(peer: str, name: str, folder: Path, seed: int, limit: float) -> dict[str, Any]:
    """Measure one pair in a process of its own; one that fails or takes too long becomes a row that says so."""
    missing = [package for package in PEERS[peer].packages if find_spec(package.replace("-", "_")) is None]
    if missing:
        return {"state": "not installed", "error": f"no {', '.join(missing)}"}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "row.json"
        environment = _environment()
        if "pytensor" in PEERS[peer].packages:
            own = Path(scratch) / "pytensor"
            shutil.copytree(_compiled_c(), own)
            environment["PYTENSOR_FLAGS"] = f"base_compiledir={own}"
        arguments = [peer, name, str(folder), str(seed), str(out)]
        error = _run("benchmarks.peers.worker", arguments, environment, limit)
        row = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"state": "failed"}
    return row | ({"error": error} if error else {})


def _run(module: str, arguments: list[str], environment: dict[str, str], limit: float) -> str:
    """Run a module with the clock as its last argument; returns what went wrong, in one line, or nothing."""
    command = [sys.executable, "-m", module, *arguments, repr(time.time())]
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=said, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired:
            return f"ended after {limit:g} s"
        if done.returncode == 0:
            return ""
        said.seek(0)
        lines = [line.strip() for line in said.read().splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-500:] or f"status {done.returncode}"


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    return kept | {"PYTHONPATH": path}


def _compiled_c() -> Path:
    """PyTensor's compiled C of a toy model, made once: what its cache on disk has where PyMC has been used before."""
    folder = RESULTS.parent / f"pytensor-{machine()['python']}"
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        environment = _environment() | {"PYTENSOR_FLAGS": f"base_compiledir={folder}"}
        print("filling PyTensor's cache with a toy model", flush=True)
        if not _run("benchmarks.peers.by_pymc", [], environment, 600):
            (folder / "complete").touch()
    return folder


def load(path: Path) -> dict[Key, dict[str, Any]]:
    """The rows of a results file by peer, posterior and run; none if there is no file."""
    if not path.is_file():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {(row["peer"], row["posterior"], row["run"]): row for row in rows}


def line(row: dict[str, Any]) -> str:
    """One pair in one line."""
    head = f"{row['posterior'][:36]:36}  {PEERS[row['peer']].title[:32]:32}"
    if row["state"] != "done":
        return f"{head}  {row['state']}: {row.get('error', '')}".rstrip(": ")
    cells = (("mean", "mean_error", ".3f"), ("sd", "sd_error", ".3f"), ("cold", "seconds_cold", ".1f"))
    cells += (("warm", "seconds_warm", ".2f"), ("gradients", "gradients", ",d"))
    shown = [f"{word} {row[key]:{form}}" if row[key] is not None else f"{word} -" for word, key, form in cells]
    return "  ".join([head, *shown, row["said"], row.get("error", "")]).rstrip()


def pick(wanted: list[str] | None, known: tuple[str, ...], usual: tuple[str, ...]) -> list[str]:
    """Names by themselves or by a part; all of them for ``all``."""
    if not wanted:
        return list(usual)
    if wanted == ["all"]:
        return list(known)
    return [name for name in known if any(part == name or (part not in known and part in name) for part in wanted)]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", help="posteriors, parts of their names, or: all")
    parser.add_argument("--peers", nargs="+", metavar="NAME", help=f"some of: {', '.join(PEERS)}")
    parser.add_argument("--runs", type=int, default=1, help="repetitions, each with other seeds")
    parser.add_argument("--limit", type=float, default=180, help="seconds for one pair")
    parser.add_argument("--resume", action="store_true", help="leave out what the results have")
    parser.add_argument("--posteriordb", metavar="PATH", help="a posteriordb checkout or a bundle of its posteriors")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    try:
        library = find(options.posteriordb)
    except LibraryError as error:
        print(error, file=sys.stderr)
        return 2
    names = [name for name in pick(options.models, tuple(POSTERIORS), MODELS) if library.has(name)]
    peers = pick(options.peers, tuple(PEERS), tuple(PEERS))
    if not names or not peers:
        print("nothing to do: no such model or peer", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = load(options.out)
    for run in range(options.runs):
        for name in names:
            for peer in peers:
                key = (peer, name, run)
                if options.resume and rows.get(key, {}).get("state") in ("done", "not stated"):
                    continue
                told = {"peer": peer, "posterior": name, "run": run, "limit": options.limit, "machine": machine()}
                told["date"] = datetime.date.today().isoformat()
                rows[key] = told | pair(peer, name, library.folder, 10 * run, options.limit)
                atomic_write(options.out, json.dumps({"rows": list(rows.values())}, indent=1) + "\n")
                print(line(rows[key]), flush=True)
    print(f"written to {options.out} and {write_page(options.out, options.page)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
