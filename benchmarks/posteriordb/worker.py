"""One posterior in a fresh process: fit it twice, compare with its reference, print one line of JSON.

``python -m benchmarks.posteriordb.worker NAME FOLDER STARTED`` where STARTED is the clock (``time.time()``) just before
the process was made, so that the cold time counts the interpreter and the imports.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

import taut
from benchmarks.posteriordb.compare import Scale, compare
from benchmarks.posteriordb.models import POSTERIORS
from benchmarks.posteriordb.reference import find


def measure(name: str, folder: str, started: float) -> dict[str, Any]:
    """Fit one posterior without options and measure it.

    Args:
        name: a key of `POSTERIORS`.
        folder: where data and reference lie.
        started: clock at which the process was made, in seconds.

    Returns:
        A row of the table: plain numbers and strings.
    """
    posterior, library = POSTERIORS[name], find(folder)
    data = posterior.data(library.data(name))
    begun = time.perf_counter()
    fit = taut.fit(posterior.model, data)
    cold = time.perf_counter() - begun
    process = time.time() - started
    begun = time.perf_counter()
    again = taut.fit(posterior.model, data)
    warm = time.perf_counter() - begun
    comparison = compare(fit.draws(fit.held), library.reference(name), posterior.support)
    return {
        "posterior": name,
        "level": fit.verdict.level,
        "reasons": list(fit.verdict.reasons),
        "khat": float(fit.khat),
        "elbo": float(fit.elbo),
        "log_evidence": float(fit.log_evidence),
        "kl": float(fit.kl),
        "gradients": int(fit.gradients),
        "gradients_smc": int(fit.numbers.get("gradients of SMC", (0,))[0]),
        "compilations": int(fit.compilations),
        "compilations_again": int(again.compilations),
        "seconds_process": process,
        "seconds_cold": cold,
        "seconds_warm": warm,
        "natural": _plain(comparison.natural),
        "unconstrained": _plain(comparison.unconstrained),
        "beyond": list(comparison.beyond),
        "doubtful": list(comparison.doubtful),
    }


def _plain(scale: Scale) -> dict[str, Any]:
    return {k: (list(v) if isinstance(v, tuple) else v) for k, v in scale._asdict().items()}


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        row = measure(sys.argv[1], sys.argv[2], float(sys.argv[3]))
    print(json.dumps(row), flush=True)
