"""Fit every synthetic target with `taut.fit` and no options, and compare with its exact truth.

``python -m benchmarks.synthetic.run [--only NAME ...] [--fresh SEED] [--jobs N] [--out FILE] [--picture FILE]``

The exit status is 1 if a fit or an evidence that was called good is not (a false trust) or a fit failed, 2 if there is
nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.posteriordb.run import versions
from benchmarks.synthetic.judge import CLAIMS, false_evidence, false_trust, refused_though_good, size, upper_limit
from benchmarks.synthetic.picture import draw
from benchmarks.synthetic.targets import TARGETS, fresh_targets, named, split
from taut._files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
COSTS = ("gradients", "gradients_smc", "seconds_warm")
TOGETHER = 10  # targets in one process
NOTES = """\
mean: largest |mean - truth| in true sds; sd: smallest and largest sd / true sd; each as reported scale / unconstrained
scale (log, logit, log gap, or arsinh where tails are long); log Z: error of the evidence in nats, * if called trusted;
warm: a second fit in the same process. A false trust is a claim with a mean off by more than 0.1 sd, or an sd ratio
outside 0.9-1.1, by more than three stated errors of the truth, or any claim about an improper posterior.
"""


def measure(names: Sequence[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Measure targets in a fresh process; when one ends the process, it becomes a row and the rest go to another.

    Args:
        names: targets.
        seconds: limit for each, on average.

    Yields:
        Rows in the same order.
    """
    left = list(names)
    while left:
        output, problem = _process(left, seconds * len(left))
        rows = [row for line in output.splitlines() if "target" in (row := json.loads(line))]
        yield from rows
        left = left[len(rows) :]
        if left:
            target = named(left.pop(0))
            yield {
                "target": target.name, "family": target.family, "split": split(target.name),
                "proper": target.truth is not None, "level": "failed", "error": problem, "beyond": [],
            }  # fmt: skip


def _process(names: Sequence[str], seconds: float) -> tuple[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "benchmarks.synthetic.worker", *names]
    environment = os.environ | {"PYTHONPATH": path}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        text = output.decode() if isinstance(output, bytes) else output
        return text[: text.rfind("\n") + 1], f"no result after {seconds:g} s"
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return done.stdout, " | ".join(said[-3:]) or f"status {done.returncode}"


HEADER = (
    f"{'target':36} {'family':16} {'split':5} {'verdict':23} {'k-hat':>5} {'KL':>7}  {'mean':^11}  {'sd':^19}  "
    f"{'log Z':>8} {'gradients':>9} {'of SMC':>9} {'warm':>6}"
)


def line(row: dict[str, Any]) -> str:
    """One row of the table, and loud lines below it where something is wrong."""
    start = f"{row['target'][:36]:36} {row['family'][:16]:16} {row['split']:5} "
    if row["level"] == "failed":
        return f"{start}FAILED: {row['error'][:200]}"
    kl = _figure(row["kl"], "7.3f" if (row["kl"] or 0) < 1e3 else "7.0e")
    text = f"{start}{row['level']:23} {_figure(row['khat'], '5.2f')} {kl}  "
    if row["proper"]:
        natural, free = row["natural"], row["unconstrained"]
        sds = (f"{side['sd_low']:4.2f}-{side['sd_high']:4.2f}" for side in (natural, free))
        text += f"{natural['mean_error']:5.3f}/{free['mean_error']:5.3f}  {'/'.join(sds)} "
    else:
        text += f"{'no posterior to be right about':>32} "
    evidence = _figure(row["evidence_error"], "+8.3f") + ("*" if row["evidence_trusted"] else " ")
    text += f"{evidence} {row['gradients']:>9,} {row['gradients_smc']:>9,} {row['seconds_warm']:6.2f}"
    if false_trust(row):
        text += f"\n  !!! FALSE TRUST: {', '.join(row['beyond'][:6]) or 'the posterior is improper'}"
    if false_evidence(row):
        off, se = _figure(row["evidence_error"], "+.3f"), _figure(row["evidence_se"], ".3f")
        text += f"\n  !!! FALSE EVIDENCE: {off} +- {se}"
    if row["level"] in CLAIMS and row["doubtful"]:
        text += f"\n  ? at the limit, within the truth's own error: {', '.join(row['doubtful'][:6])}"
    return text


def _figure(x: float | None, form: str) -> str:
    return f"{'-':>{int(form.strip('+').split('.')[0] or 1)}}" if x is None else f"{x:{form}}"


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """What the table adds up to: for all, and for each half."""
    lines = []
    for name, part in (("all", rows), *((s, [r for r in rows if r["split"] == s]) for s in ("set", "judge"))):
        if not part:
            continue
        levels = [row["level"] for row in part]
        counts = ", ".join(f"{levels.count(level)} {level}" for level in sorted(set(levels)))
        lines.append(f"{name}: {len(part)} targets: {counts}")
        claims = [row for row in part if row["level"] in CLAIMS]
        for what, wrong, of in (
            ("false trust", sum(map(false_trust, part)), len(claims)),
            ("false evidence", sum(map(false_evidence, part)), sum(bool(r.get("evidence_trusted")) for r in part)),
        ):
            lines.append(
                f"  {what}: {wrong} of {of} claims (95 % upper limit {upper_limit(wrong, of):.1%}), "
                f"of {len(part)} targets ({upper_limit(wrong, len(part)):.1%})"
            )
    known = [r for r in rows if r.get("evidence_trusted") and r["evidence_error"] is not None]
    vague = [r["target"] for r in known if abs(r["evidence_error"]) > max(0.05, 3 * (r["evidence_se"] or 0.0))]
    lines.append(f"trusted evidence off by more than 0.05 and three stated errors: {len(vague)} of {len(known)}: ")
    lines[-1] += ", ".join(vague) or "none"
    typical = [
        r["natural"]["mean_error"] for r in rows if r["level"] in CLAIMS and r["proper"] and r["natural"]["mean_at"]
    ]
    if typical:
        cost = [statistics.median(r[k] for r in rows if r["level"] != "failed") for k in COSTS]
        lines.append(
            f"median of the largest mean error where something is claimed: {statistics.median(typical):.3f} sd; "
            f"median gradients: q {cost[0]:,.0f}, SMC {cost[1]:,.0f}; median seconds warm: {cost[2]:.2f}"
        )
    good = [row["target"] for row in rows if refused_though_good(row)]
    lines.append(f"refused although q's own draws are within every limit: {len(good)}: {', '.join(good) or 'none'}")
    for title, test in (("FALSE TRUST", false_trust), ("FALSE EVIDENCE", false_evidence), ("FAILED", failed)):
        found = [row["target"] for row in rows if test(row)]
        if found:
            lines.append(f"!!! {title}: {', '.join(found)}")
    return "\n".join(lines)


def failed(row: dict[str, Any]) -> bool:
    """Whether there is no fit; for an improper posterior a refusal in words is an answer."""
    return row["level"] == "failed" and (row["proper"] or not row.get("in_words"))


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic.run", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="targets, families, or parts of their names")
    parser.add_argument("--split", choices=("set", "judge"), help="one half")
    parser.add_argument("--fresh", type=int, metavar="SEED", help="targets drawn from a seed, instead of the list")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once; times mean little above 1")
    parser.add_argument("--seconds", type=float, default=120, help="limit for one target, on average over ten")
    parser.add_argument("--out", type=Path, default=RESULTS / "synthetic.json")
    parser.add_argument("--picture", type=Path, default=RESULTS / "synthetic.png")
    options = parser.parse_args(arguments)
    known = TARGETS if options.fresh is None else fresh_targets(options.fresh)
    wanted = [
        name for name, target in known.items()
        if (not options.only or any(part in name or part in target.family for part in options.only))
        and options.split in (None, split(name))
    ]  # fmt: skip
    if not wanted:
        print(f"no target is called {' or '.join(options.only or [options.split])}", file=sys.stderr)
        return 2
    print(HEADER, flush=True)
    rows: list[dict[str, Any]] = []
    groups = [wanted[i : i + TOGETHER] for i in range(0, len(wanted), TOGETHER)]
    with ThreadPoolExecutor(options.jobs) as pool:
        for found in pool.map(lambda group: list(measure(group, options.seconds)), groups):
            rows += found
            print("\n".join(map(line, found)), flush=True)
    print(f"\n{summary(rows)}\n{NOTES}", end="")
    for row in rows:
        row["size"] = size(row) if row["proper"] else None
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"versions": versions(), "jobs": options.jobs, "rows": rows}
    print(f"written to {atomic_write(options.out, json.dumps(content, indent=1) + chr(10))}")
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    print(f"drawn to {draw(rows, options.picture)}")
    return int(any(failed(row) or false_trust(row) or false_evidence(row) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
