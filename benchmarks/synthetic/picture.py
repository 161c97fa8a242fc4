"""One picture: the error of every fit against its verdict, with the limit that no trusted fit may cross."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.synthetic.judge import CLAIMS, false_trust, size
from taut._files import atomic_write
from taut.diagnostics import NOT_TRUSTED, UNVERIFIED

VERDICTS = (*CLAIMS, UNVERIFIED, NOT_TRUSTED)
FLOOR, CEILING = 0.02, 500.0  # of the axis; what lies beyond is drawn at its end
# Families that go wrong in the same way share a colour.
GROUPS = {
    "Gaussian, scaled": ("gaussian", "scaled"),
    "funnel": ("funnel declared", "funnel hidden", "funnel computed"),
    "hierarchy, many locals": ("hierarchy", "hierarchy hidden", "many locals"),
    "banana, ring": ("banana",),
    "long tails": ("tails", "exponential"),
    "skewed": ("skewed",),
    "bounded": ("bounded",),
    "several modes, symmetry": ("bimodal", "narrow mode", "symmetry"),
    "regression, ridge": ("regression", "ridge"),
    "discontinuous, odd": ("discontinuous", "odd shapes"),
}
COLOURS = (
    "#4c566a", "#d1495b", "#edae49", "#66a182", "#2e4057", "#8d6a9f", "#00798c", "#d95f02", "#a6761d", "#1b9e77",
)  # fmt: skip
MARKS = "os^Dv<>Phd"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Draw the picture and write it at once or not at all.

    Args:
        rows: of the table; targets without a posterior or without a fit are left out.
        path: a PNG file.

    Returns:
        Its path.
    """
    shown = [row for row in rows if row["proper"] and row["level"] in VERDICTS]
    levels = [level for level in VERDICTS if any(row["level"] == level for row in shown)]
    figure = Figure(figsize=(10, 6.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for row in shown:
        group = next((k for k, families in enumerate(GROUPS.values()) if row["family"] in families), len(GROUPS) - 1)
        x = levels.index(row["level"]) + rng.uniform(-0.34, 0.34)
        y = float(np.clip(size(row), FLOOR * 1.1, CEILING / 1.1))
        wrong = false_trust(row)
        axes.plot(
            x, y, MARKS[group], color=COLOURS[group], markersize=9 if wrong else 6, alpha=1 if wrong else 0.75,
            markeredgecolor="black" if wrong else "white", markeredgewidth=1.2 if wrong else 0.5,
        )  # fmt: skip
        if wrong:
            axes.annotate(row["target"], (x, y), xytext=(7, 0), textcoords="offset points", fontsize=7, va="center")
    axes.axhline(1.0, color="black", linewidth=1)
    axes.text(-0.48, 1.05, "limit: mean off by 0.1 sd, or sd by 10 %", fontsize=8, va="bottom")
    axes.axhspan(1.0, CEILING, xmax=_share(levels), color="#d1495b", alpha=0.07, linewidth=0)
    axes.set_yscale("log")
    axes.set_ylim(FLOOR, CEILING)
    axes.set_xlim(-0.5, max(len(levels), 1) - 0.5)
    counts = [sum(row["level"] == level for row in shown) for level in levels]
    axes.set_xticks(range(len(levels)), [f"{level}\n{n} targets" for level, n in zip(levels, counts)])
    axes.set_ylabel("largest error of a mean or an sd, in units of its limit")
    wrong = sum(map(false_trust, rows))
    axes.set_title(f"Error against verdict on {len(shown)} targets with exact truth: {wrong} false trusts", fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(handles=_legend(shown), fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return atomic_write(path, buffer.getvalue())


def _share(levels: Sequence[str]) -> float:
    """Part of the axis where the verdict claims something."""
    return sum(level in CLAIMS for level in levels) / max(len(levels), 1)


def _legend(rows: Sequence[dict[str, Any]]) -> list[Line2D]:
    used = {row["family"] for row in rows}
    return [
        Line2D([], [], color=colour, marker=mark, linestyle="", label=name)
        for (name, families), colour, mark in zip(GROUPS.items(), COLOURS, MARKS)
        if used.intersection(families)
    ]
