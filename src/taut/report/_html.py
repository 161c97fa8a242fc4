"""One self-contained HTML page, and the fragment that a notebook shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taut.report import _css, _fragments, _ink, _plots, _table
from taut.report._content import Content
from taut.report._fragments import escape
from taut.report._rows import listing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def html(content: Content) -> str:
    """A page that needs nothing but itself: verdict, figures, sites, pictures, facts; light, dark and on paper.

    Args:
        content: what to show.

    Returns:
        A complete HTML document, without scripts and without any address outside itself.

    Raises:
        TautError: ``missing-extra`` without matplotlib.

    Example:
        >>> from pathlib import Path
        >>> from taut.report import Content, SiteDraws
        >>> even = SiteDraws("latent", np.linspace(0.0, 1.0, 1001))
        >>> page = html(Content("coin", "unverified", "No weights yet.", sites={"p": even}))
        >>> Path("coin.html").write_text(page, encoding="utf-8") > 5000
        True
    """
    found = listing(content, rows=120)
    notes = "".join(f'<p class="muted">{escape(n)}</p>' for n in _table.notes(content, found, 10_000))
    table = _fragments.sites(content, found, 40, full=True)
    legend = ""
    if _fragments.COMPARED[0] in table:
        legend = f'<p class="muted">{escape(_fragments.COMPARISON)}</p>'
    covers = f"{_capital(_table.covers(content, found))}, in the model’s own space."
    body = [
        f"<h1>{escape(content.title)}</h1>",
        _fragments.verdict(content),
        _fragments.numbers(content),
        f'<h2>Sites</h2><p class="muted">{escape(covers)}</p><div class="scroll">{table}</div>{legend}{notes}',
        *_pictures(content),
    ]
    if content.facts:
        body.append("<h2>Facts</h2>" + _fragments.pairs(content.facts, "facts"))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(content.title)}: {escape(content.level)}</title><style>{_css.PAGE}</style></head>\n"
        f"<body>\n{chr(10).join(filter(None, body))}\n</body></html>\n"
    )


def notebook(content: Content) -> str:
    """A compact fragment for ``_repr_html_``: banner, sites, figures; without pictures and without matplotlib.

    Args:
        content: what to show.
    """
    found = listing(content, rows=30)
    covers = f'<p class="muted">{escape(_table.covers(content, found))}</p>'
    notes = "".join(f'<p class="muted">{escape(n)}</p>' for n in _table.notes(content, found, 10_000))
    title = f'<p class="muted">{escape(content.title)}</p>'
    table = _fragments.sites(content, found, 40, full=False)
    inside = title + _fragments.verdict(content) + covers + table + notes + _fragments.numbers(content)
    return f'<div class="taut-fit"><style>{_css.NOTEBOOK}</style>{inside}</div>'


def _pictures(content: Content) -> list[str]:
    sections = []
    if content.sites:
        words = (
            "Axes reach from the 0.5 to the 99.5% quantile; the bar below each is the 5 to 95% interval of the table."
        )
        sections.append(_picture("Marginals", "marginals", _plots.marginals(content), words))
    if (long := _plots.forest(content)) is not None:
        sections.append(_picture("Long sites", "forest", long, "Median and 5 to 95% interval of each element."))
    if sum(s.size for s in content.sites.values() if s.kind == "latent") > 1:
        sections.append(_picture("Correlated pairs", "pairs", _plots.pairs(content), ""))
    words = ""
    if content.log_weights is not None or content.guide_log_weights is not None:
        words = (
            "Left: log weights; a long right tail means that the guide misses mass. "
            "Right: sorted weights; where the largest fall faster than the dashed line (slope −0.7), "
            "reweighting cannot repair the guide."
        )
    sections.append(_picture("Importance weights", "weights", _plots.weights(content), words))
    sections.append(_picture("Objective", "objective", _plots.objective(content), ""))
    return sections


def _picture(heading: str, name: str, figure: Figure, words: str) -> str:
    if not figure.axes:  # nothing to draw, and the figure says why
        return f'<h2>{heading}</h2><p class="muted">{escape(figure.texts[0].get_text())}</p>'
    caption = f'<p class="muted">{words}</p>' if words else ""
    return f"<h2>{heading}</h2>{caption}<figure>{_ink.svg(figure, name, heading)}</figure>"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
