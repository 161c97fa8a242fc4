"""Images side by side: one mosaic in one panel, black for the least value and white for the greatest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from taut._errors import TautError
from taut.report import _ink
from taut.report._ink import MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP = 0.07  # between images, of their width
_TALLEST = 12.0  # inches


def mosaic(
    images: np.ndarray,
    title: str = "",
    *,
    labels: Sequence[str] = (),
    between: tuple[float, float] = (0.0, 1.0),
    note: str = "",
    ticks: tuple[Sequence[float], str] | None = None,
) -> Figure:
    """Rows and columns of images.

    Args:
        images: ``float[rows, columns, height, width]``, or with three colours as last axis.
        title: above them.
        labels: of the rows, at their left.
        between: the values that are black and white.
        note: below them.
        ticks: values of the columns, and what they are.
    """
    rows, columns, height, width = images.shape[:4]
    gap = max(1, round(_GAP * width))
    low, high = between
    shades = np.clip((images - low) / max(high - low, 1e-12), 0.0, 1.0)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *images.shape[4:]), np.nan)
    for i in range(rows):
        for j in range(columns):
            top, left = i * (height + gap), j * (width + gap)
            canvas[top : top + height, left : left + width] = shades[i, j]
    if images.ndim == 5:
        # Colours have no value for what is missing: the gaps are seen through.
        canvas = np.concatenate([np.nan_to_num(canvas), np.isfinite(canvas[..., :1])], axis=-1)
    tall = min(_TALLEST, _ink.WIDTH * canvas.shape[0] / canvas.shape[1])
    fig = _ink.figure(tall + 0.35 * bool(title) + 0.3 * bool(note) + 0.4 * bool(ticks))
    ax = _ink.plain(fig.add_subplot())
    ax.imshow(canvas, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="equal")
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_yticks(
        [i * (height + gap) + (height - 1) / 2 for i in range(len(labels))], list(labels), fontsize=8, color=MUTED
    )
    values, what = ticks or ((), "")
    places = [j * (width + gap) + (width - 1) / 2 for j in range(len(values))]
    ax.set_xticks(places, [f"{value:.2g}".replace("-", "\u2212") for value in values], fontsize=8, color=MUTED)
    ax.tick_params(length=0)
    _ink.axis_labels(ax, what)
    if title:
        _ink.title(ax, title)
    _ink.legend(fig, [], note)
    return fig


def as_images(values: np.ndarray, shape: Sequence[int] | None = None) -> np.ndarray:
    """Rows as images, ``float[n, height, width]`` or with three colours as last axis.

    Args:
        values: ``(n, *row)``.
        shape: of an image; by default that of a row with two axes, or three of which one is colours; of a flat row the
            square.

    Raises:
        TautError: ``bad-argument`` where that is none.
    """
    values = np.asarray(values, float)
    row = values.shape[1:]
    side = round(float(np.sqrt(row[0]))) if len(row) == 1 else 0
    known = tuple(shape) if shape is not None else ((side, side) if side * side == np.prod(row) else row)
    if len(known) not in (2, 3) or int(np.prod(known)) != int(np.prod(row)):
        raise TautError(
            "bad-argument",
            site="shape",
            found=f"rows of shape {row} as images of shape {known}",
            expected="height and width, and colours last or first, as many numbers as a row has",
            remedy="shape=(28, 28)",
        )
    values = values.reshape(-1, *known)
    if len(known) == 3 and (known[0] == 1 or (known[0] == 3 and known[-1] not in (1, 3))):
        values = np.moveaxis(values, 1, -1)
    if len(known) == 3 and values.shape[-1] not in (1, 3):
        raise TautError(
            "bad-argument",
            site="shape",
            found=f"images of shape {known}",
            expected="one colour or three, first or last",
            remedy="shape=(28, 28)",
        )
    return values[..., 0] if values.ndim == 4 and values.shape[-1] == 1 else values
