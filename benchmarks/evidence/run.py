"""Log evidence of `taut.fit`, without options, against what is known.

``python -m benchmarks.evidence.run [--data FOLDER] [--only NAME ...] [--out FILE]``

A row passes if the difference is below 0.05 nats, or below three stated errors (that of the anchor included), and if
the interval of ``fit.evidence()`` holds what is known. Where the best ELBO of all Gaussians has a closed form, it must
be what it is known to be to 0.001 nats, and no fit may be above it. The exit status is 1 if a row does not pass, or if
the verdict trusts an evidence that is off; 2 if there is nothing to do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import taut
from benchmarks.evidence.anchors import ANCHORS, Anchor, folder
from benchmarks.posteriordb.run import versions
from taut._files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
NEAR = 0.05  # nats
SURE = 3.0  # standard errors
BEST_TO = 1e-3  # nats
HEADER = (
    f"{'':14} {'known':>9} {'taut':>10} {'± stated':>9} {'difference':>11} {'':6}  {'ELBO':>9}  "
    f"{'gradients q + SMC':>20}  {'seconds':>7}  verdict"
)


def measure(name: str, anchor: Anchor, data: dict[str, Any]) -> dict[str, Any]:
    """Fit one model as a user would, and compare."""
    begun = time.perf_counter()
    fit = taut.fit(anchor.model, data)
    seconds = time.perf_counter() - begun
    found, error = fit.log_evidence, fit.numbers["log evidence"][1]
    interval = fit.evidence()
    slack = SURE * anchor.known_to
    held = interval.low - slack <= anchor.log_evidence <= interval.high + slack
    best = None if anchor.best_elbo is None else anchor.best_elbo(data)
    bounded = best is None or (
        abs(best - anchor.best_elbo_known) < BEST_TO and fit.elbo < best + SURE * float(fit.numbers["ELBO"][1] or 0.0)
    )
    return {
        "name": name,
        "known": anchor.log_evidence,
        "known_to": anchor.known_to,
        "source": anchor.source,
        "log_evidence": found,
        "stated_error": None if error is None else float(error),
        "difference": found - anchor.log_evidence,
        "passes": bool(passes(found - anchor.log_evidence, error, anchor.known_to) and held and bounded),
        "interval": [interval.low, interval.high],
        "interval_holds": bool(held),
        "best_elbo": best,
        "elbo": fit.elbo,
        "gradients": fit.gradients,
        "gradients_smc": int(fit.numbers.get("gradients of SMC", (0,))[0]),
        "seconds": seconds,
        "level": fit.verdict.level,
        "evidence_trusted": fit.verdict.evidence_trusted,
        "guide": str(fit.guide),
        "reasons": list(fit.verdict.reasons),
    }


def passes(difference: float, error: float | None, known_to: float) -> bool:
    """Whether a difference is small, or explained by the errors stated."""
    allowed = SURE * float(np.hypot(error or 0.0, known_to))
    return bool(abs(difference) < max(NEAR, allowed))


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    error = "" if row["stated_error"] is None else f"{row['stated_error']:.4f}"
    gradients = f"{row['gradients']:,} + {row['gradients_smc']:,}"
    trusted = "evidence trusted" if row["evidence_trusted"] else "evidence not trusted"
    said = f"\n{'':14} interval {row['interval'][0]:.3f} to {row['interval'][1]:.3f}"
    said += "" if row["interval_holds"] else " !! does not hold it"
    said += "" if row["best_elbo"] is None else f", best ELBO of all Gaussians {row['best_elbo']:.4f}"
    return (
        f"{row['name']:14} {row['known']:9.3f} {row['log_evidence']:10.4f} {error:>9} {row['difference']:+11.4f} "
        f"{'ok' if row['passes'] else '!! off':6}  {row['elbo']:9.3f}  {gradients:>20}  {row['seconds']:7.1f}  "
        f"{row['level']}, {trusted}{said}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.run", description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", metavar="FOLDER", help="where ionosphere.npz, sonar.npz and pines.csv lie")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="anchors, or parts of their names")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "evidence.json")
    options = parser.parse_args(arguments)
    names = [name for name in ANCHORS if not options.only or any(part in name for part in options.only)]
    rows = []
    print(HEADER, flush=True)
    for name in names:
        try:
            data = ANCHORS[name].data(folder(options.data))
        except FileNotFoundError as error:
            print(f"{name:14} no {error.filename}: give its folder with --data")
            continue
        rows.append(measure(name, ANCHORS[name], data))
        print(line(rows[-1]), flush=True)
    if not rows:
        return 2
    off = [row["name"] for row in rows if not row["passes"]]
    false = [row["name"] for row in rows if row["evidence_trusted"] and not row["passes"]]
    print(f"\n{len(rows)} anchors: {len(rows) - len(off)} within {NEAR} nats or {SURE:g} stated errors", end="")
    print(f"; off: {', '.join(off)}" if off else "", f"; trusted and off: {', '.join(false)}" if false else "", sep="")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"versions": versions(), "rows": rows}
    print(f"written to {atomic_write(options.out, json.dumps(content, indent=1) + chr(10))}")
    return int(bool(off))


if __name__ == "__main__":
    sys.exit(main())
