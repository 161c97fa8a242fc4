"""How many digits a figure deserves, and how it is written."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

POINT = "-"  # stands for a spread that a point does not have


def decimals(sd: float, ess: float) -> int:
    """Decimal places worth showing: the first digit of the Monte Carlo error sd / sqrt(ess) is the last one shown.

    Always two or three significant digits of the sd: more are noise to a reader, fewer hide the interval.

    Args:
        sd: posterior standard deviation, positive and finite.
        ess: effective number of draws behind the figure.
    """
    place = math.floor(math.log10(sd))
    error = math.floor(math.log10(sd / math.sqrt(max(ess, 1.0))))
    return min(max(-error, 1 - place), 2 - place)


def row(values: Sequence[float], places: int | None) -> list[str]:
    """One table row: a common number of places and, for very large or small rows, a common exponent.

    The common exponent keeps the figures of a row comparable at sight: ``1.20e-8  0.31e-8``.

    Args:
        values: mean, sd and quantiles.
        places: decimal places; None for a point, of which only the first value is written.
    """
    if places is None:
        return [point(values[0])] + [POINT] * (len(values) - 1)
    finite = [abs(v) for v in values if math.isfinite(v)]
    largest = max(finite, default=0.0)
    if largest >= 1e7 or 0 < largest < 1e-3:
        power = math.floor(math.log10(largest))
        return [_special(v) or f"{v / 10.0**power:.{max(places + power, 0)}f}e{power}" for v in values]
    return [_special(v) or unsigned_zero(f"{v:.{max(places, 0)}f}") for v in values]


def point(value: float) -> str:
    """A value without an error: six significant digits, whole numbers whole."""
    if text := _special(value):
        return text
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value)}"
    return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def estimate(value: float, se: float | None, unit: str = "") -> str:
    """A figure with its standard error: ``-31.319 ± 0.004``; whole numbers get thousands separators."""
    tail = f" {unit}" if unit else ""
    if text := _special(value):
        return text + tail
    if se is not None and math.isfinite(se) and se > 0:
        lead = math.floor(math.log10(se))
        places = -lead + (1 if se / 10.0**lead < 2 else 0)  # 0.013 but 0.04: one digit, two when it begins with 1
        if -2 <= places <= 8 and abs(value) < 1e9:
            shown = max(places, 0)
            return f"{unsigned_zero(f'{value:,.{shown}f}')} ± {se:.{shown}f}{tail}"
        return f"{value:.4g} ± {se:.2g}{tail}"
    error = " ± ?" if se is not None and not math.isfinite(se) else ""
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}{error}{tail}"
    size = abs(value)
    if 1e-3 <= size < 1e6:
        places = max(2 - math.floor(math.log10(size)), 1 if size < 1000 else 0)
        return f"{value:,.{min(places, 2 if size >= 0.01 else 4)}f}{error}{tail}"
    return f"{point(float(f'{value:.3g}'))}{error}{tail}"


def width(text: str) -> int:
    """Columns that a text takes in a terminal: wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def clean(name: str) -> str:
    """A name on one line: control characters are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def shorten(name: str, limit: int) -> str:
    """A name of at most ``limit`` columns, cut in its middle; its end (the index) stays whole."""
    if width(name) <= limit:
        return name
    bracket = name.rfind("[")
    end = name[bracket:] if bracket > 0 and len(name) - bracket < limit // 2 else name[-(limit // 3) :]
    head, room = "", limit - width(end) - 2
    for c in name:
        if width(head + c) > room:
            break
        head += c
    return f"{head}..{end}"


def _special(value: float) -> str:
    if math.isnan(value):
        return "nan"
    return ("inf" if value > 0 else "-inf") if math.isinf(value) else ""


def unsigned_zero(text: str) -> str:
    """``0.00`` for ``-0.00``."""
    return text[1:] if text.startswith("-0") and not text.strip("-0.,") else text
