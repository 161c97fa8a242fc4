"""``docs/benchmarks.md`` from the results: ``python -m benchmarks.peers.page [RESULTS] [PAGE]``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.peer import JUDGED_DRAWS, PEERS, TIMED_DRAWS
from benchmarks.peers.table import NOISE, Cell, cells, quantile, ratios
from taut._files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
PAGE = ROOT / "docs" / "benchmarks.md"
OURS = "taut"
Columns = dict[str, dict[str, Cell]]  # peer -> posterior -> cell

READING = f"""\
How to read it. The *mean error* of a fit is the largest, over the posterior's scalars, of |mean - reference mean| in
reference standard deviations; the *sd error* is the largest |log(sd / reference sd)|, so 0.1 is about 10 %. Both are
taken on the unconstrained scale (log of what is positive, logit of what lies in an interval). The references are long
NUTS runs of posteriordb, themselves uncertain by 0.01 to 0.03. SVI, PyMC's ADVI and single-path Pathfinder are judged
on {JUDGED_DRAWS:,} draws, DADVI and multi-path Pathfinder on {TIMED_DRAWS:,}, NUTS on its 1,000, taut on the draws
that it holds, so differences below about {NOISE} mean nothing, and below 0.1 little where NUTS is concerned.

*Cold* seconds run from the start of a fresh process, imports and compilation included, to {TIMED_DRAWS:,} posterior
draws (1,000 of NUTS) in the model's own space. *Warm* seconds are a second fit in the same process with another seed:
what the library can keep compiled is kept. *Gradients* are evaluations of the gradient of the log joint at one point;
taut's count with its verdict includes everything that the verdict spends; a product with a Hessian counts as one,
densities without a gradient are not counted.
NumPyro and blackjax run taut's own model through an adapter or its log density; the models were written again for PyMC
and tested to have the same density. Libraries run with the threads that they take by default, one fit at a time; JAX
keeps no compiled code on disk, PyTensor keeps what it compiled for a toy model, as where PyMC has been used before.
Importing taut, which holds the models, is not counted in the seconds of others."""


def page(rows: list[dict[str, Any]]) -> str:
    """The page in Markdown."""
    table = cells(rows)
    columns = {peer: {n: c for (p, n), c in table.items() if p == peer} for peer in PEERS}
    columns = {peer: column for peer, column in columns.items() if column}
    names = list(dict.fromkeys(row["posterior"] for row in rows))
    parts = [
        "# taut beside other libraries",
        _facts(rows, names),
        "## Accuracy",
        _accuracy(columns),
        "## Cost",
        _cost(columns),
        "## Where taut is not ahead",
        _behind(columns),
        "## By model: mean error / sd error",
        _by_model(columns, names, _errors, verdict=True),
        "## By model: seconds cold / warm",
        _by_model(columns, names, _seconds, verdict=False),
        "## What was measured",
        READING,
        "\n".join(f"- {PEERS[peer].title}: {PEERS[peer].settings}." for peer in columns),
    ]
    return "\n\n".join(parts) + "\n"


def write_page(results: Path, target: Path) -> Path:
    """Write the page from a results file, atomically."""
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    target.parent.mkdir(parents=True, exist_ok=True)
    return atomic_write(target, page(rows))


def _facts(rows: list[dict[str, Any]], names: list[str]) -> str:
    dates = sorted({row["date"] for row in rows})
    machines = {tuple(row["machine"].items()): row["machine"] for row in rows}
    told = "; ".join(
        f"{m['processor']}, {m['cores']} cores, {m['system']}, Python {m['python']}" for m in machines.values()
    )
    versions: dict[str, set[str]] = {}
    for row in rows:
        for package, number in row.get("versions", {}).items():
            versions.setdefault(package, set()).add(number)
    listed = ", ".join(f"{package} {' and '.join(sorted(found))}" for package, found in sorted(versions.items()))
    runs = max(row["run"] for row in rows) + 1
    limits = " and ".join(f"{limit:g}" for limit in sorted({row["limit"] for row in rows}))
    return (
        f"Measured {dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'} on {told}.\n"
        f"Versions: {listed}.\n"
        f"Posteriors of posteriordb: {len(names)}; {runs} run{'s' if runs > 1 else ''} of each pair, at most {limits} "
        "seconds a pair. `make bench-peers` repeats it; this page is written by it."
    )


def _accuracy(columns: Columns) -> str:
    body = []
    for peer, column in columns.items():
        done = [cell for cell in column.values() if cell.state == "done"]
        entry = [PEERS[peer].title, str(len(done)), _failures(column)]
        for field in ("mean_error", "sd_error"):
            values = [getattr(cell, field) for cell in done]
            entry += [_digits(quantile(values, share)) for share in (0.5, 0.9, 1.0)]
        body.append(entry)
    head = ["method", "models", "failures", "mean error: median", "90 %", "worst", "sd error: median", "90 %", "worst"]
    return _markdown(head, body)


def _cost(columns: Columns) -> str:
    body = []
    for peer, column in columns.items():
        done = [cell for cell in column.values() if cell.state == "done"]
        entry = [PEERS[peer].title]
        for field in ("gradients", "seconds_cold", "seconds_warm"):
            known = [value for cell in done if (value := getattr(cell, field)) is not None]
            middle = median(known) if known else None
            entry.append(f"{middle:,.0f}" if middle is not None and field == "gradients" else _digits(middle))
        for field in ("seconds_cold", "seconds_warm"):
            found = ratios(columns.get(OURS, {}), column, field)
            entry.append(f"{median(found):.2f} ({min(found):.2f}..{max(found):.2f})" if found else "-")
        spreads = [cell.spread for cell in done if cell.runs > 1]
        body.append([*entry, f"{median(spreads):.2f}" if spreads else "-"])
    head = ["method", "gradients", "cold s", "warm s", "taut / it, cold (min..max)", "warm (min..max)", "spread"]
    note = (
        "Medians over the models. The ratios are the seconds of taut with its verdict over those of the method on the "
        "same model, below 1 where taut takes less. Spread: largest over smallest cold seconds among runs of a pair."
    )
    return f"{_markdown(head, body)}\n\n{note}"


def _behind(columns: Columns) -> str:
    ours = columns.get(OURS, {})
    lines = []
    for peer, column in columns.items():
        both = [n for n in ours if ours[n].state == "done" and n in column and column[n].state == "done"]
        if peer.startswith("taut") or not both:
            continue
        better = {
            what: [n for n in both if _less(column[n], ours[n], field, margin)]
            for what, field, margin in (
                ("closer means", "mean_error", NOISE),
                ("closer sds", "sd_error", NOISE),
                ("less time cold", "seconds_cold", 0.0),
                ("less time warm", "seconds_warm", 0.0),
                ("fewer gradients", "gradients", 0.0),
            )
        }
        said = [f"{what} on {_where(found, len(both))}" for what, found in better.items() if found]
        lines.append(f"- {PEERS[peer].title}: {'; '.join(said) or f'on none of {len(both)}'}.")
    intro = (
        "What each method does better than taut with its verdict, on the models that both fitted; closer is by more "
        f"than {NOISE}. The verdict's own seconds and gradients are taut's to pay; the others give none."
    )
    return "\n".join([intro, "", *lines]) if lines else "Nothing to compare with."


def _less(theirs: Cell, ours: Cell, field: str, margin: float) -> bool:
    a, b = getattr(theirs, field), getattr(ours, field)
    return a is not None and b is not None and a < b - margin


def _where(names: list[str], of: int) -> str:
    return f"{len(names)} of {of}" + (f" ({', '.join(_short(n) for n in names)})" if len(names) < of else "")


def _by_model(columns: Columns, names: list[str], shown: Any, *, verdict: bool) -> str:
    body = []
    for name in names:
        entry = [_short(name)]
        if verdict:
            own = columns.get(OURS, {}).get(name)
            entry.append(own.said if own and own.said else "-")
        for column in columns.values():
            cell = column.get(name)
            entry.append("-" if cell is None else shown(cell) if cell.state == "done" else _absent(cell))
        body.append(entry)
    head = ["model", *(["taut's verdict"] if verdict else []), *(PEERS[peer].title for peer in columns)]
    return _markdown(head, body)


def _errors(cell: Cell) -> str:
    return f"{_digits(cell.mean_error)} / {_digits(cell.sd_error)}"


def _seconds(cell: Cell) -> str:
    return f"{_digits(cell.seconds_cold)} / {_digits(cell.seconds_warm)}"


def _absent(cell: Cell) -> str:
    return "failed" if cell.state == "failed" else "-"


def _failures(column: dict[str, Cell]) -> str:
    return str(sum(cell.failed for cell in column.values()))


def _short(name: str) -> str:
    data, _, model = name.partition("-")
    return model if model.startswith(data[:4]) or len(model) > 8 else f"{data} {model}"


def _digits(x: float | None) -> str:
    if x is None:
        return "-"
    return f"{x:,.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def _markdown(head: Iterable[str], body: list[list[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    print(write_page(given[0] if given else RESULTS, given[1] if len(given) > 1 else PAGE))
