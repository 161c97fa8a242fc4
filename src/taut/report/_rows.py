"""Which scalars are listed, under which labels, and what is said of the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from taut.report import _digits
from taut.report._content import KINDS, Content
from taut.report._summary import Weights, figures, normalise

WHOLE = 12  # a site of this many scalars or fewer is listed whole
SMALL = 8  # a deterministic site of this many or fewer is listed
POINTS = 100  # of more parameters than these, networks, those above SMALL are not listed


@dataclass(frozen=True, eq=False)
class Row:
    """One listed scalar: where it is, its figures (mean, sd, 5 %, 50 %, 95 %), and the figures as text."""

    label: str
    site: str
    index: int
    kind: str
    values: np.ndarray
    cells: list[str]


@dataclass(frozen=True)
class Gap:
    """Scalars left out in the middle of a site, or at the end of the list (site is None)."""

    count: int
    site: str | None
    kind: str


@dataclass(frozen=True, eq=False)
class Listing:
    """The lines of a table, the weights behind them, and the deterministic sites and parameters left out."""

    lines: list[Row | Gap]
    weights: Weights | None
    hidden: dict[str, tuple[int, ...]]


def listing(content: Content, rows: int | None = 40) -> Listing:
    """The lines of the table of sites.

    Args:
        content: what the report shows.
        rows: most lines to list; None lists every scalar, large deterministic sites included.
    """
    weights = normalise(content.log_weights) if content.covers == "reweighted" else None
    names = [n for kind in KINDS for n, s in content.sites.items() if s.kind == kind and s.size]
    sites = content.sites
    hidden: dict[str, tuple[int, ...]] = {}
    if rows is not None:
        large = [n for n in names if sites[n].size > SMALL]
        kinds = {"deterministic"}
        if sum(sites[n].size for n in names if sites[n].kind == "param") > POINTS:
            kinds.add("param")
        hidden = {n: sites[n].shape for n in large if sites[n].kind in kinds}
        names = [n for n in names if n not in hidden]
    cap = _cap([sites[n].size for n in names], rows)
    lines: list[Row | Gap] = []
    for position, name in enumerate(names):
        if rows is not None and len(lines) >= rows:
            rest = names[position:]
            lines.append(Gap(sum(sites[n].size for n in rest), None, sites[rest[0]].kind))
            break
        lines += _site(content, name, cap, weights)
    return Listing(lines, weights, hidden)


def label(name: str, shape: tuple[int, ...], index: int) -> str:
    """``theta`` for a scalar, ``theta[3]`` and ``beta[3,1]`` for elements."""
    inside = ",".join(str(int(i)) for i in np.unravel_index(index, shape)) if shape else ""
    return _digits.clean(name) + (f"[{inside}]" if shape else "")


def _cap(sizes: list[int], rows: int | None) -> int | None:
    """Scalars listed per site: the most, up to `WHOLE`, that keeps the table within ``rows``."""
    if rows is None:
        return None
    for cap in range(WHOLE, 3, -1):
        if sum(size if size <= cap else _shown(cap) + 1 for size in sizes) <= rows:
            return cap
    return 3


def _shown(cap: int) -> int:
    return min(cap - 1, 8)


def _site(content: Content, name: str, cap: int | None, weights: Weights | None) -> list[Row | Gap]:
    site = content.sites[name]
    if cap is None or site.size <= cap:
        indices, head, left = np.arange(site.size), site.size, 0
    else:
        tail = _shown(cap) * 3 // 8
        head = _shown(cap) - tail
        indices = np.concatenate([np.arange(head), np.arange(site.size - tail, site.size)])
        left = site.size - head - tail
    draws = np.asarray(site.values).reshape(len(site.values), -1)[:, indices]
    matched = weights is not None and len(weights.values) == len(draws)
    values = figures(draws, weights.values if weights is not None and matched else None)
    ess = weights.ess if weights is not None and matched else float(len(draws))
    places = _places(values, _spreads(values, draws, ess), ess)
    out: list[Row | Gap] = [
        Row(label(name, site.shape, int(i)), name, int(i), site.kind, v, _digits.row(v.tolist(), p))
        for i, v, p in zip(indices, values, places, strict=True)
    ]
    if left:
        out.insert(head, Gap(left, name, site.kind))
    return out


def _spreads(values: np.ndarray, draws: np.ndarray, ess: float) -> np.ndarray:
    """The sds that decide the digits; zero for a point, NaN where no draw is finite."""
    spreads = values[:, 1].copy()
    if ess < 25 < len(draws):  # so few effective draws know nothing of their own error: take the guide's spread
        with np.errstate(invalid="ignore", over="ignore"):
            spreads = np.fmax(spreads, np.std(draws, axis=0, dtype=np.float64))
    odd = ~np.isfinite(spreads)
    if odd.any():  # infinite draws: the central interval still has a scale
        with np.errstate(invalid="ignore"):
            spreads[odd] = (values[odd, 4] - values[odd, 2]) / 3.29
    # A spread lost in rounding is no spread: a Delta guide's draws differ by nothing or by an ulp.
    return np.where((spreads <= 1e-13 * np.abs(values[:, 0])) & np.isfinite(values[:, 0]), 0.0, spreads)


def _places(values: np.ndarray, spreads: np.ndarray, ess: float) -> list[int | None]:
    """Decimal places per row; elements of one site share theirs unless their scales differ by more than one place."""
    own: list[int | None] = []
    for spread in spreads.tolist():
        own.append(None if spread == 0 else _digits.decimals(spread, ess) if np.isfinite(spread) else 2)
    known = [p for p in own if p is not None]
    if known and max(known) - min(known) <= 1:
        return [None if p is None else max(known) for p in own]
    return own
