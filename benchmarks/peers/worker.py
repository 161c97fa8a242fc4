"""One method on one posterior in a fresh process: fit twice, compare with the reference, write the row as it grows.

``python -m benchmarks.peers.worker PEER POSTERIOR FOLDER SEED OUT STARTED`` where STARTED is the clock
(``time.time()``) just before the process was made. The row is written after the first fit and again after the second,
so that a process that is ended at its time limit leaves what it had.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.peer import JUDGED_DRAWS, PEERS, TIMED_DRAWS


def measure(peer_name: str, name: str, folder: str, seed: int, out: Path, started: float) -> None:
    """Measure one pair.

    Args:
        peer_name: a key of `PEERS`.
        name: a posterior.
        folder: where data and reference lie.
        seed: of the first fit; the second takes the next one.
        out: the row's file.
        started: clock at which the process was made, in seconds.
    """
    peer = PEERS[peer_name]
    for package in peer.packages:
        import_module(package.replace("-", "_"))
    # The models are written with taut, so every process imports it; only taut's own seconds may count that.
    begun = time.time()
    posterior = import_module("benchmarks.posteriordb.models").POSTERIORS[name]
    reading = import_module("benchmarks.posteriordb.reference")
    comparing = import_module("benchmarks.posteriordb.compare")
    writing = import_module("taut._files")
    foreign = 0.0 if "taut" in peer.packages else time.time() - begun

    library = reading.find(folder)
    prepare = import_module(f"benchmarks.peers.{peer.module}").prepare
    fit = prepare(peer_name, posterior, posterior.data(library.data(name)))
    row: dict[str, Any] = {"state": "not stated", "versions": {p: version(p) for p in peer.packages}}

    def write() -> None:
        writing.atomic_write(out, json.dumps(row))

    if fit is None:
        write()
        return
    found = fit(seed)
    found.draws(TIMED_DRAWS)
    row |= {"state": "done", "seconds_cold": time.time() - started - foreign, "said": found.said}
    drawn = found.draws(JUDGED_DRAWS)
    row |= errors(comparing.compare(drawn, library.reference(name), posterior.support).unconstrained)
    row |= {"draws": len(next(iter(drawn.values()))), "seconds_warm": None, "gradients": None}
    write()
    begun = time.perf_counter()
    fit(seed + 1).draws(TIMED_DRAWS)
    row["seconds_warm"] = time.perf_counter() - begun
    write()
    row["gradients"] = found.gradients()
    write()


def errors(scale: Any) -> dict[str, Any]:
    """The largest error of a mean, in reference sds, and of a log sd, on the unconstrained scale; ``None`` if NaN."""
    with np.errstate(all="ignore"):
        sd_error = float(np.max(np.abs(np.log([scale.sd_low, scale.sd_high]))))
    mean_error = float(scale.mean_error)
    return {
        "mean_error": mean_error if np.isfinite(mean_error) else None,
        "mean_at": scale.mean_at,
        "sd_error": sd_error if np.isfinite(sd_error) else None,
        "sd_at": scale.sd_at,
    }


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        measured, on, where, number, to, clock = sys.argv[1:]
        measure(measured, on, where, int(number), Path(to), float(clock))
