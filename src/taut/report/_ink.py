"""The one file that imports matplotlib: figures without global state, and their SVG in the page's colours."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taut._errors import TautError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each role has one colour; in the page it becomes a CSS variable, so that figures follow the reader's scheme.
INK, MUTED, RULE = "#1f2429", "#68717c", "#cfd5dc"
GUIDE, WEIGHTED = "#4f7cac", "#b5521b"
WIDTH = 9.0  # inches across every figure
ROLES = {INK: "ink", MUTED: "muted", RULE: "rule", GUIDE: "guide", WEIGHTED: "weighted"}


def figure(height: float) -> Figure:
    """An empty figure of full width, ``height`` inches high, that pyplot does not know of."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TautError(
            "missing-extra",
            found="no matplotlib",
            expected="matplotlib, for pictures and the HTML page",
            remedy="pip install matplotlib",
        ) from error
    fig = Figure(figsize=(WIDTH, height), facecolor="none")
    fig.set_layout_engine("constrained", w_pad=0.02, h_pad=0.04, wspace=0.03)
    return fig


def panels(count: int, columns: int, height: float, extra: float = 0.3) -> tuple[Figure, list[Axes]]:
    """A grid of ``count`` panels, ``columns`` across the full width, each row ``height`` inches high."""
    rows = -(-count // columns)
    fig = figure(rows * height + extra)
    axes = [plain(fig.add_subplot(rows, columns, i + 1)) for i in range(count)]
    return fig, axes


def plain(ax: Axes) -> Axes:
    """Axes with a bottom and a left line, quiet ticks and no box."""
    ax.set_facecolor("none")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(RULE)
        spine.set_linewidth(0.8)
    ax.tick_params(colors=MUTED, labelsize=7.5, length=2.5, width=0.8, color=RULE, which="both", pad=2)
    ax.tick_params(which="minor", length=0)
    ticks(ax)
    return ax


def ticks(ax: Axes, x: int = 4, y: int = 4) -> None:
    """At most so many round ticks, each with its whole value: no offset to add or multiply."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axis, most in ((ax.xaxis, x), (ax.yaxis, y)):
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(_tick))


def log_ticks(ax: Axes) -> None:
    """Two logarithmic axes with plain numbers: decades, or 1, 2, 5 where the axis spans less than two."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,), numticks=6))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(_tick))


def _tick(value: float, _: int | None = None) -> str:
    plain = f"{value:.10g}"
    mantissa, _e, power = f"{value:.9e}".partition("e")
    short = f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return (short if "e" in plain or (len(plain) > 5 and len(short) < len(plain)) else plain).replace(
        "-", "\u2212", int(value < 0)
    )


def title(ax: Axes, words: str, **style: Any) -> None:
    """A left-aligned title; dollar signs in names stay dollar signs."""
    ax.set_title(words, loc="left", fontsize=8.5, color=INK, pad=5, parse_math=False, **style)


def axis_labels(ax: Axes, x: str = "", y: str = "") -> None:
    """Quiet axis labels."""
    if x:
        ax.set_xlabel(x, fontsize=8, color=MUTED, labelpad=3, parse_math=False)
    if y:
        ax.set_ylabel(y, fontsize=8, color=MUTED, labelpad=4, parse_math=False)


def legend(fig: Figure, handles: list[Any], note: str = "") -> None:
    """A key above the panels, and a remark below them."""
    if handles:
        fig.legend(
            handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=8,
            labelcolor=MUTED, handlelength=1.6, columnspacing=1.6, borderaxespad=0.2, borderpad=0.2,
        )  # fmt: skip
    if note:
        fig.supxlabel(note, x=0.005, ha="left", fontsize=8, color=MUTED, parse_math=False)


def key(weighted: bool, dots: bool = False, moved: bool = False) -> list[Any]:
    """Handles for the guide's draws and for those corrected by weights, or by moving them to the posterior."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    corrected = "moved to the posterior" if moved else "guide, reweighted" if weighted else None
    if dots:
        style: dict[str, Any] = {"marker": "o", "markersize": 4, "linewidth": 0}
        both = [Line2D([], [], color=GUIDE, label="guide", **style)]
        return both + [Line2D([], [], color=WEIGHTED, label=corrected, **style)] if corrected else both
    guide = Patch(color=GUIDE, alpha=0.45, linewidth=0, label="guide")
    return [guide, Line2D([], [], color=WEIGHTED, linewidth=1.4, label=corrected)] if corrected else [guide]


def line_key(entries: Sequence[tuple[str, str, str]]) -> list[Any]:
    """Handles of lines: label, colour, and marker; a line without a marker is dashed."""
    from matplotlib.lines import Line2D

    marked: dict[str, Any] = {"linewidth": 1.3, "markersize": 4}
    dashed: dict[str, Any] = {"linewidth": 0.9, "dashes": (4, 3)}
    return [
        Line2D([], [], color=colour, label=label, **({**marked, "marker": marker} if marker else dashed))
        for label, colour, marker in entries
    ]


def blank(words: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    fig = figure(0.6)
    fig.text(0.0, 0.5, words, fontsize=9, color=MUTED, va="center", parse_math=False)
    return fig


def svg(fig: Figure, name: str, words: str) -> str:
    """One inline SVG element: text stays text, colours are CSS variables, ids start with ``name``.

    Args:
        fig: the figure.
        name: prefix of every id, so that several figures can share a page.
        words: what the picture shows, for readers who cannot see it; already escaped.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has the glyph
        fig.savefig(buffer, format="svg", transparent=True, dpi=144, metadata=dict.fromkeys(("Date", "Creator")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(?:xmlns(?::xlink)?|version)="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda m: _role(m.group()), text)
    text = re.sub(r'^<svg width="[\d.]+pt" height="[\d.]+pt"', "<svg", text)  # as wide as the page
    return text.replace("<svg", f'<svg role="img" aria-label="{words}"', 1)


def _role(colour: str) -> str:
    return f"var(--{ROLES[colour]})" if colour in ROLES else colour
