"""The text that ``print(fit)`` shows: the verdict, the sites, one line of figures."""

from __future__ import annotations

import textwrap

from taut.report import _digits
from taut.report._content import Content
from taut.report._rows import Gap, Listing, Row, listing

COLUMNS = ("mean", "sd", "5%", "50%", "95%")

ENDINGS = {
    "converged": "",
    "budget": "the run ended on its budget, not on a test",
    "plateaued": "the objective stopped rising before the test was met",
    "nonfinite": "the run stopped at a value that is not finite",
    "interrupted": "the run was interrupted",
    "diverged": "the objective fell away",
}


def text(content: Content, rows: int | None = 40, width: int = 100) -> str:
    """The report as plain text: verdict, one row per scalar in the model's own space, one line of figures.

    Digits follow the Monte Carlo error of the mean: the last one shown is the first uncertain one.

    Args:
        content: what to show.
        rows: most lines in the table of sites; long sites are cut in their middle. None shows every scalar.
        width: columns to fill.

    Returns:
        Lines of at most ``width`` columns (figures are never cut), without a final newline.

    Example:
        >>> from taut.report import Content, SiteDraws
        >>> even = SiteDraws("latent", np.linspace(0.0, 1.0, 1001))
        >>> print(text(Content("coin", "unverified", "No weights yet.", sites={"p": even})))
        [unverified] coin: No weights yet.
        <BLANKLINE>
        1,001 draws from the guide
                   mean     sd     5%    50%    95%
        p         0.500  0.289  0.050  0.500  0.950
    """
    found = listing(content, rows)
    blocks = [
        verdict(content, width),
        sites(content, found, width),
        notes(content, found, width),
        numbers(content, width),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def verdict(content: Content, width: int) -> list[str]:
    """Level and headline, then how the run ended if it did not converge, then reasons and advice."""
    wrap = lambda words, first, rest: textwrap.wrap(  # noqa: E731
        " ".join(words.split()), width, initial_indent=first, subsequent_indent=rest, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    out = wrap(f"[{content.level}] {_digits.clean(content.title)}: {content.headline}", "", "  ")
    for reason in reasons(content, content.level != "trusted"):
        out += wrap(reason, "  - ", "    ")
    if content.advice:
        out += wrap(content.advice, "  > ", "    ")
    return out


def reasons(content: Content, whole: bool = True) -> list[str]:
    """How the run ended if it did not converge, then the reasons; nothing that the headline says already.

    Args:
        content: what to show.
        whole: the reasons, too, and not only the ending.
    """
    said = content.headline.casefold()
    told = content.status == "converged" or ENDINGS.get(content.status, ending(content.status)) in said
    first = [] if told else [ending(content.status)]
    return first + [reason for reason in content.reasons if whole and reason.casefold() != said]


def ending(status: str) -> str:
    """How a run ended, in words."""
    words = ENDINGS.get(status, "")
    return f"{status}: {words}" if words else status


def covers(content: Content, found: Listing) -> str:
    """Which draws the table shows, in words."""
    counts = {len(s.values) for s in content.sites.values() if s.kind != "param"}
    drawn = f"{max(counts):,} " if counts and max(counts) > 1 else ""
    if content.covers == "q":
        return f"{drawn}draws from the guide" if counts != {1} else "one draw from the guide"
    if content.covers == "moved":
        return f"{drawn}draws moved from the guide to the posterior"
    if found.weights is None:
        return f"{drawn}draws from the guide, NOT reweighted: no log weight is finite"
    ess = found.weights.ess
    return f"{drawn}reweighted draws (effective {ess:,.{0 if ess >= 10 else 1}f})"


def sites(content: Content, found: Listing, width: int) -> list[str]:
    """The table of sites, figures aligned on their decimal points."""
    listed = [line for line in found.lines if isinstance(line, Row)]
    if not listed:
        return []
    columns = [_aligned([r.cells[c] for r in listed], name) for c, name in enumerate(COLUMNS)]
    body = sum(2 + len(column[0]) for column in columns)
    limit = max(width - body, 12)
    labels = [_digits.shorten(r.label, limit) for r in listed]
    stem = max(*(_digits.width(s) for s in labels), 8)
    out = [covers(content, found), _join("", stem, [c[0] for c in columns])]
    kinds = {line.kind for line in found.lines}
    kind, position = listed[0].kind, 0
    for line in found.lines:
        if line.kind != kind and len(kinds) > 1:
            kind = line.kind
            out.append(f"{kind}:")
        if isinstance(line, Gap):
            out.append(gap(line))
            continue
        out.append(_join(labels[position], stem, [c[position + 1] for c in columns]))
        position += 1
    return out


def gap(line: Gap) -> str:
    """What is said of scalars left out."""
    return f"  ... {line.count:,} more" + ("" if line.site is not None else " in further sites")


def notes(content: Content, found: Listing, width: int) -> list[str]:
    """One line each for what the table leaves out."""
    out = []
    for kind, words in (("deterministic", "deterministic"), ("param", "learned as points")):
        left = {name: shape for name, shape in found.hidden.items() if content.sites[name].kind == kind}
        if left:
            names = ", ".join(f"{_digits.clean(name)} {size(shape)}" for name, shape in left.items())
            out += textwrap.wrap(f"not listed ({words}): {names}", width, subsequent_indent="  ")
    if found.weights is not None and found.weights.dropped:
        dropped, total = found.weights.dropped, len(found.weights.values)
        out.append(f"{dropped:,} of {total:,} log weights are NaN or +inf; those draws are left out")
    return out


def size(shape: tuple[int, ...]) -> str:
    """A shape as a reader writes it: ``(90)``, ``(11 x 2)``."""
    return "(" + " x ".join(map(str, shape)) + ")"


def numbers(content: Content, width: int) -> list[str]:
    """The line of figures, broken between figures where it is too long."""
    items = [f"{name} {_digits.estimate(*figure)}" for name, figure in content.numbers.items()]
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 3 + len(item) <= width:
            lines[-1] += "   " + item
        else:
            lines.append(item)
    return lines


def _aligned(cells: list[str], header: str) -> list[str]:
    """Header and cells of one column, all of one width, decimal points under one another."""
    parts = [(cell, "") if "e" in cell or "n" in cell or cell == _digits.POINT else _split(cell) for cell in cells]
    right = max(len(b) for _, b in parts)
    # Cells with an exponent, nan, inf and points end at the column's edge: they have no decimal point to share.
    texts = [
        a + (b.ljust(right) if cell[-1:].isdigit() and "e" not in cell else "") for cell, (a, b) in zip(cells, parts)
    ]
    total = max(len(header), *map(len, texts))
    return [header.rjust(total)] + [t.rjust(total) for t in texts]


def _split(cell: str) -> tuple[str, str]:
    whole, dot, fraction = cell.partition(".")
    return whole, dot + fraction


def _join(label: str, stem: int, cells: list[str]) -> str:
    return (label + " " * (stem - _digits.width(label)) + "".join("  " + cell for cell in cells)).rstrip()
