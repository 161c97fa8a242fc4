"""The picture of the evidence: estimates against the number of particles, with what k-hat says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from taut.diagnostics import FINITE_VARIANCE, EvidenceCurve
from taut.report import _ink
from taut.report._digits import clean
from taut.report._ink import GUIDE, INK, MUTED, WEIGHTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ORDERS = (("IWAE, a lower bound", GUIDE, "o"), ("JVI-1", WEIGHTED, "s"), ("JVI-2", INK, "^"))
_TIGHT = 8  # particles from which on the right panel looks


def evidence(curve: EvidenceCurve, title: str = "", known: tuple[float, float | None] | None = None) -> Figure:
    """Estimates of the log evidence against K, with bands of two standard errors; on the right the largest K alone.

    Args:
        curve: the estimates.
        title: the model's name.
        known: another estimate and its error, drawn as a line.
    """
    x = np.log2(curve.particles)
    zoomed = curve.particles[-1] >= 4 * _TIGHT
    fig, axes = _ink.panels(2 if zoomed else 1, 2 if zoomed else 1, 3.0)
    for ax, least in zip(axes, (1, _TIGHT), strict=False):
        for (_, colour, marker), value, se in zip(_ORDERS, curve.values, curve.se, strict=True):
            here = np.isfinite(value) & (curve.particles >= least)
            ax.fill_between(x[here], (value - 2 * se)[here], (value + 2 * se)[here], color=colour, alpha=0.15, lw=0)
            ax.plot(x[here], value[here], color=colour, linewidth=1.3, marker=marker, markersize=3.5)
        if known is not None and np.isfinite(known[0]):
            ax.axhline(known[0], color=MUTED, linewidth=0.9, dashes=(4, 3))
        _ink.ticks(ax, 12, 6)
        _particles(ax, curve, least)
        _ink.axis_labels(ax, "particles K", "log evidence, nats")
    name = f" of {clean(title)}" if title else ""
    _ink.title(axes[0], f"log evidence{name} against the number of particles")
    if zoomed:
        _ink.title(axes[1], f"the same from K = {_TIGHT} on")
    own = [] if known is None or not np.isfinite(known[0]) else [(f"the fit's own, {_signed(known[0])}", MUTED, "")]
    _ink.legend(fig, _ink.line_key([*_ORDERS, *own]), _note(curve))
    return fig


def _particles(ax: Axes, curve: EvidenceCurve, least: int) -> None:
    shown = curve.particles[curve.particles >= least]
    ax.set_xticks(np.log2(shown), [f"{k:,}" for k in shown])
    ax.set_xlim(np.log2(shown[0]) - 0.3, np.log2(shown[-1]) + 0.3)


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "\u2212")


def _note(curve: EvidenceCurve) -> str:
    parts = [f"bands: two standard errors; all K share {curve.draws:,} draws of q"]
    if curve.rows > 1:
        parts.append(f"logarithms by row, {curve.rows:,} rows")
    if not curve.khat < FINITE_VARIANCE:
        parts.append(f"k-hat {curve.khat:.2f}: no finite variance of the weights, only IWAE's band can be relied on")
    return "; ".join(parts)
