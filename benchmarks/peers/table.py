"""Rows of the results, as cells: one per method and posterior, medians over runs; and what a column adds up to."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any, NamedTuple

import numpy as np

NUMBERS = ("mean_error", "sd_error", "seconds_cold", "seconds_warm", "gradients")
NOISE = 0.02  # of a reference sd: differences below this are those of draws and reference


class Cell(NamedTuple):
    """One method on one posterior.

    Attributes:
        state: ``done``, ``failed``, ``not stated`` or ``not installed``; of several runs the best.
        failed: runs that gave no finite posterior.
        runs: how many there were.
        said: what the method said about its result in the first run.
        mean_error, sd_error, seconds_cold, seconds_warm, gradients: medians over runs; ``None`` where not known.
        spread: largest over smallest cold seconds among the runs; 1 for a single one.
    """

    state: str
    failed: int
    runs: int
    said: str
    mean_error: float | None
    sd_error: float | None
    seconds_cold: float | None
    seconds_warm: float | None
    gradients: float | None
    spread: float


def cells(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Cell]:
    """Cells by peer and posterior."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["peer"], row["posterior"]), []).append(row)
    return {key: _cell(group) for key, group in groups.items()}


def good(row: dict[str, Any]) -> bool:
    """Whether a run gave a finite posterior."""
    return row["state"] == "done" and row["mean_error"] is not None and row["sd_error"] is not None


def quantile(values: list[float], share: float) -> float | None:
    """The smallest value that at least this share does not exceed; ``None`` of nothing."""
    return float(np.quantile(values, share, method="inverted_cdf")) if values else None


def ratios(ours: dict[str, Cell], theirs: dict[str, Cell], field: str) -> list[float]:
    """Our seconds over theirs, on the posteriors that have both."""
    both = [(getattr(ours[n], field), getattr(theirs[n], field)) for n in ours if n in theirs]
    return [a / b for a, b in both if a is not None and b is not None]


def _cell(group: list[dict[str, Any]]) -> Cell:
    fine = [row for row in group if good(row)]
    states = [row["state"] for row in group]
    known = {key: [row[key] for row in fine if row.get(key) is not None] for key in NUMBERS}
    numbers = {key: float(median(values)) if values else None for key, values in known.items()}
    cold = known["seconds_cold"]
    absent = next((s for s in states if s in ("not stated", "not installed")), None)
    return Cell(
        state="done" if fine else absent or "failed",
        failed=0 if absent else len(group) - len(fine),
        runs=len(group),
        said=fine[0]["said"] if fine else "",
        spread=max(cold) / min(cold) if cold else 1.0,
        **numbers,
    )
