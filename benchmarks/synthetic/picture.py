"""One picture: the error of every fit against its verdict, with the limit that no trusted fit may cross."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.synthetic.judge import CLAIMS, false_trust, size
from taut._files import atomic_write
from taut.diagnostics import NOT_TRUSTED, UNVERIFIED

VERDICTS = (*CLAIMS, UNVERIFIED, NOT_TRUSTED)
FLOOR = 0.01  # of the axis; what lies below is drawn at its end
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
    top = max(30.0, 2 * max((size(row) for row in shown if np.isfinite(size(row))), default=0.0))
    rng = np.random.default_rng(0)
    wrong: dict[int, list[tuple[float, float, str]]] = {}
    for row in shown:
        group = next((k for k, families in enumerate(GROUPS.values()) if row["family"] in families), len(GROUPS) - 1)
        column, false = levels.index(row["level"]), false_trust(row)
        x = column + (rng.uniform(-0.4, -0.2) if false else rng.uniform(-0.4, 0.4))
        y = float(np.clip(size(row), FLOOR * 1.1, top / 1.1))
        axes.plot(
            x, y, MARKS[group], color=COLOURS[group], markersize=8 if false else 6, alpha=1 if false else 0.75,
            markeredgecolor="black" if false else "white", markeredgewidth=1.2 if false else 0.5,
        )  # fmt: skip
        if false:
            wrong.setdefault(column, []).append((y, x, row["target"]))
    for column, dots in wrong.items():
        _label(axes, column, sorted(dots), top)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.text(len(levels) - 0.51, 0.96, "limit: mean off by 0.1 sd, or sd by 10 %", fontsize=8, va="top", ha="right")
    if any(row["level"] in CLAIMS and size(row) > 1 and not false_trust(row) for row in shown):
        axes.text(-0.48, 0.96, "above without a name: within the truth's own error", fontsize=8, va="top")
    axes.axhspan(1.0, top, xmax=_share(levels), color="#d1495b", alpha=0.07, linewidth=0)
    axes.set_yscale("log")
    axes.set_ylim(FLOOR, top)
    axes.set_xlim(-0.5, max(len(levels), 1) - 0.5)
    counts = [sum(row["level"] == level for row in shown) for level in levels]
    axes.set_xticks(range(len(levels)), [f"{level}\n{n} targets" for level, n in zip(levels, counts)])
    axes.set_ylabel("largest error of a mean or an sd, in units of its limit")
    count = sum(map(false_trust, shown))
    noun = "false trust" if count == 1 else "false trusts"
    axes.set_title(f"Error against verdict on {len(shown)} targets with exact truth: {count} {noun}", fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(handles=_legend(shown), fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return atomic_write(path, buffer.getvalue())


def _label(axes: Axes, column: int, dots: Sequence[tuple[float, float, str]], top: float) -> None:
    """Name the dots that are wrong, lowest first, with lines to labels that do not overlap."""
    step = (top / FLOOR) ** 0.024  # of a line of text
    heights = []
    for y, _, _ in dots:
        heights.append(max(y, heights[-1] * step if heights else 0.0))
    highest = top / step
    for k in reversed(range(len(heights))):
        heights[k] = highest = min(heights[k], highest)
        highest /= step
    for (y, x, name), height in zip(dots, heights):
        axes.annotate(
            name, (x, y), (column - 0.1, height), fontsize=6.5, va="center",
            arrowprops=dict(arrowstyle="-", linewidth=0.4, color="#888888", shrinkA=0, shrinkB=4),
        )  # fmt: skip


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
