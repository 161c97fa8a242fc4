"""Pieces of HTML shared by the page and the notebook: the verdict, the figures, the table of sites."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from taut.report import _digits, _table
from taut.report._content import Content
from taut.report._css import MARKS, TONES
from taut.report._pick import matching
from taut.report._rows import Gap, Listing, Row
from taut.report._summary import Weights, figures, normalise

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_DIGIT_SPACE, _POINT_SPACE = "\u2007", "\u2008"  # as wide as a digit, as wide as a decimal point


COMPARED = ("shift / sd", "sd ratio")
COMPARISON = "Shift: reweighted mean minus guide mean, in guide sds. Sd ratio: reweighted sd over guide sd."


def escape(text: str) -> str:
    """Text that is safe between tags and inside quoted attributes."""
    return _digits.clean(text).translate(_ESCAPES)


def verdict(content: Content) -> str:
    """The banner: level in colour and in words, headline, ending, reasons, advice."""
    reasons = _table.reasons(content)
    parts = [
        f'<p class="level"><span aria-hidden="true">{MARKS[content.level]}</span>{escape(content.level)}</p>',
        f"<p>{escape(content.headline)}</p>",
    ]
    if reasons:
        parts.append("<ul>" + "".join(f"<li>{escape(r)}</li>" for r in reasons) + "</ul>")
    if content.advice:
        parts.append(f'<p class="advice"><b>What to do:</b> {escape(content.advice)}</p>')
    return f'<div class="verdict {TONES[content.level]}">' + "".join(parts) + "</div>"


def numbers(content: Content) -> str:
    """The figures: name above value."""
    shown = {n: _minus(_digits.estimate(*figure)) for n, figure in content.numbers.items()}
    return pairs(shown, "figures", wrap=True)


def pairs(entries: Mapping[str, str], style: str, wrap: bool = False) -> str:
    """A definition list; empty for no entries."""
    if not entries:
        return ""
    before, after = ("<div>", "</div>") if wrap else ("", "")
    items = "".join(f"{before}<dt>{escape(k)}</dt><dd>{escape(v)}</dd>{after}" for k, v in entries.items())
    return f'<dl class="{style}">{items}</dl>'


def sites(content: Content, found: Listing, width: int, full: bool) -> str:
    """The table of sites.

    Args:
        content: what to show.
        found: the lines to list.
        width: columns that a name may take.
        full: with interval bars and the comparison of guide and reweighted draws.
    """
    listed = [line for line in found.lines if isinstance(line, Row)]
    if not listed:
        return '<p class="muted">no sites</p>'
    columns = [_padded([r.cells[c] for r in listed]) for c in range(len(_table.COLUMNS))]
    headers: list[str] = list(_table.COLUMNS)
    if full and (extra := _comparison(content, listed)):
        headers += COMPARED
        columns += extra
    if full and (bars := _bars(listed)):
        headers.append("5 to 95%")
        columns.append(bars)
    span = len(headers) + 1
    several = len({line.kind for line in found.lines}) > 1
    out, position, kind, site = [], 0, listed[0].kind, listed[0].site
    for line in found.lines:
        if several and line.kind != kind:
            kind = line.kind
            out.append(f'<tr class="kind"><td colspan="{span}">{kind}</td></tr>')
        elif not isinstance(line, Gap) and line.site != site and len(_elements(listed, line.site, site)) > 2:
            out.append("")  # marks the next row as the start of a group
        if isinstance(line, Gap):
            out.append(f'<tr class="gap"><td colspan="{span}">{_table.gap(line)}</td></tr>')
            continue
        starts = ' class="starts"' if out and out[-1] == "" else ""
        cells = "".join(f"<td>{column[position]}</td>" for column in columns)
        name = escape(_digits.shorten(line.label, width))
        out.append(f'<tr{starts}><th scope="row" title="{escape(_about(content, line))}">{name}</th>{cells}</tr>')
        site, position = line.site, position + 1
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in headers)
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(out)}</tbody></table>"


def _minus(figure: str) -> str:
    """A figure with a true minus sign, as wide as the plus."""
    return "−" + figure[1:] if figure.startswith("-") else figure


def _elements(listed: list[Row], *names: str) -> list[Row]:
    return [r for r in listed if r.site in names]


def _about(content: Content, line: Row) -> str:
    site = content.sites[line.site]
    return ", ".join(filter(None, (line.label, site.kind, site.support, site.source)))


def _padded(cells: list[str]) -> list[str]:
    """Cells padded on the right so that decimal points stand under one another in tabular figures."""
    plain = [cell for cell in cells if cell[-1].isdigit() and "e" not in cell]
    most = max((len(cell.partition(".")[2]) for cell in plain), default=0)
    out = []
    for cell in cells:
        own = len(cell.partition(".")[2])
        pad = (
            "" if cell not in plain or own == most else (_POINT_SPACE if own == 0 else "") + _DIGIT_SPACE * (most - own)
        )
        out.append(("–" if cell == _digits.POINT else _minus(cell)) + pad)
    return out


def _comparison(content: Content, listed: list[Row]) -> list[list[str]]:
    """What reweighting does to each row: (reweighted mean - guide mean) / sd, and reweighted sd / guide sd."""
    found = normalise(content.log_weights)
    if found is None:
        return []
    shift, ratio = [], []
    for name in dict.fromkeys(r.site for r in listed):
        indices = [r.index for r in listed if r.site == name]
        draws = np.asarray(content.sites[name].values).reshape(len(content.sites[name].values), -1)[:, indices]
        for moved, grown in _moves(draws, found):
            shift.append(f"{moved:.2f}" if math.isfinite(moved) else _digits.POINT)
            ratio.append(f"{grown:.2f}" if math.isfinite(grown) else _digits.POINT)
    return [_padded([_digits.unsigned_zero(s) for s in shift]), _padded(ratio)]


def _moves(draws: np.ndarray, found: Weights) -> list[tuple[float, float]]:
    w = matching(found, draws)
    if w is None:
        return [(math.nan, math.nan)] * draws.shape[1]
    before, after = figures(draws, None), figures(draws, w)
    out = []
    for b, a in zip(before, after, strict=True):
        varies = b[1] > 1e-13 * abs(b[0])
        out.append((float((a[0] - b[0]) / b[1]), float(a[1] / b[1])) if varies else (math.nan, math.nan))
    return out


def _bars(listed: list[Row]) -> list[str]:
    """Interval and median of each element of a vector site, on one scale per site; empty if no site has three rows."""
    bars = []
    for name in dict.fromkeys(r.site for r in listed):
        rows = _elements(listed, name)
        ends = np.array([r.values[2:] for r in rows])
        low, high = ends.min(), ends.max()
        if len(rows) < 3 or not np.isfinite(ends).all() or high <= low:
            bars += [""] * len(rows)
            continue
        for x in 4 + 136 * (ends - low) / (high - low):
            zero = 4 + 136 * (0 - low) / (high - low)
            mark = f'<path d="M{zero:.1f} 0V16" stroke="var(--rule)"/>' if low < 0 < high else ""
            bars.append(
                f'<svg viewBox="0 0 144 16" aria-hidden="true">{mark}<path d="M{x[0]:.1f} 8H{x[2]:.1f}" '
                f'stroke="var(--muted)" stroke-width="1.5"/>'
                f'<circle cx="{x[1]:.1f}" cy="8" r="3" fill="var(--ink)"/></svg>'
            )
    return bars if any(bars) else []
