"""A few targets in one process, one after another: fit each twice, compare with the truth, print a line of JSON each.

``python -m benchmarks.synthetic.worker NAME ...``
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import numpy as np

import taut
from benchmarks.posteriordb.compare import Scale
from benchmarks.synthetic.judge import compare
from benchmarks.synthetic.target import Target
from benchmarks.synthetic.targets import named, split


def measure(target: Target) -> dict[str, Any]:
    """Fit one target without options and measure it.

    Returns:
        A row of the table: plain numbers and strings, ``None`` for what is not known.
    """
    told = None if target.truth is None else target.truth()
    row = {"target": target.name, "family": target.family, "split": split(target.name), "proper": told is not None}
    begun = time.perf_counter()
    try:
        fit = taut.fit(target.model, target.data)
    except taut.TautError as error:  # a refusal in words; anything else is a bug and ends the process
        return row | {
            "level": "failed",
            "in_words": True,
            "error": f"{error.code}: {error}".replace("\n", " "),
            "beyond": [],
        }
    cold = time.perf_counter() - begun
    begun = time.perf_counter()
    again = taut.fit(target.model, target.data)
    warm = time.perf_counter() - begun
    comparison = None if told is None else compare(fit.draws(fit.held), told, target.support)
    known = told is not None and math.isfinite(told.log_evidence)
    return row | {
        "level": fit.verdict.level,
        "headline": fit.verdict.headline,
        "reasons": list(fit.verdict.reasons),
        "failing": [check.text for check in fit.verdict.checks if not check.passed],
        "advice": fit.verdict.advice,
        "guide": str(fit.guide),
        "khat": _number(fit.khat),
        "elbo": _number(fit.elbo),
        "kl": _number(fit.kl),
        "log_evidence": _number(fit.log_evidence),
        "evidence_error": _number(fit.log_evidence - told.log_evidence) if told is not None and known else None,
        "evidence_se": _number(fit.numbers.get("log evidence", (0, None, ""))[1]),
        "evidence_trusted": bool(fit.verdict.evidence_trusted),
        "gradients": int(fit.gradients),
        "gradients_smc": int(fit.numbers.get("gradients of SMC", (0, None, ""))[0]),
        "compilations_again": int(again.compilations),
        "seconds_cold": cold,
        "seconds_warm": warm,
        "natural": None if comparison is None else _plain(comparison.natural),
        "unconstrained": None if comparison is None else _plain(comparison.unconstrained),
        "beyond": [] if comparison is None else list(comparison.beyond),
        "doubtful": [] if comparison is None else list(comparison.doubtful),
    }


def _number(x: float | None) -> float | None:
    return None if x is None or math.isnan(x) else float(x)


def _plain(scale: Scale) -> dict[str, Any]:
    return {k: (list(v) if isinstance(v, tuple) else v) for k, v in scale._asdict().items()}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps({"begun": name}), flush=True)
        with np.errstate(all="ignore"):
            found = measure(named(name))
        print(json.dumps(found), flush=True)
