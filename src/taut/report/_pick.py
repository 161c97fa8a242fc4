"""Which scalars a picture shows: scalar sites first, then a fair share of each vector site."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from taut.report._content import KINDS, Content
from taut.report._rows import SMALL, label
from taut.report._summary import Weights


@dataclass(frozen=True, eq=False)
class Scalar:
    """One scalar's draws, ``(S,)``, its label, the kind of its site, and the guide's draws if these were moved."""

    label: str
    kind: str
    draws: np.ndarray
    guide: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Picked:
    """Scalars to draw, how many there are in all, and the labels of those without a finite spread."""

    scalars: list[Scalar]
    total: int
    flat: list[str]


def pick(content: Content, most: int, kinds: tuple[str, ...] = ("latent", "deterministic")) -> Picked:
    """At most ``most`` scalars with finite, varying draws.

    Args:
        content: what the report shows.
        most: how many scalars to return at most.
        kinds: kinds of site to look at, in this order; deterministic sites only if they are small.
    """
    sites = [(n, content.sites[n]) for kind in KINDS for n in content.sites if content.sites[n].kind == kind in kinds]
    sites = [(n, s) for n, s in sites if s.kind != "deterministic" or s.size <= SMALL]
    shares = _shares([s.size for _, s in sites], [s.kind for _, s in sites], most)
    scalars: list[Scalar] = []
    flat: list[str] = []
    for (name, site), share in zip(sites, shares, strict=True):
        draws = np.asarray(site.values).reshape(len(site.values), -1)
        guide = content.guide_draws.get(name)
        for index in range(share):
            column = draws[:, index].astype(np.float64)
            before = None if guide is None else guide.reshape(len(guide), -1)[:, index].astype(np.float64)
            scalar = Scalar(label(name, site.shape, index), site.kind, column, before)
            if np.isfinite(column).all() and np.ptp(column) > 1e-13 * np.abs(column).max():
                scalars.append(scalar)
            else:
                flat.append(scalar.label)
    return Picked(scalars, sum(s.size for _, s in sites), flat)


def matching(weights: Weights | None, draws: np.ndarray) -> np.ndarray | None:
    """The weights that belong to these draws, or None."""
    return weights.values if weights is not None and len(weights.values) == len(draws) else None


def remark(picked: Picked) -> str:
    """What was left out, in words; empty if nothing was."""
    parts = []
    shown = len(picked.scalars) + len(picked.flat)
    if picked.total > shown:
        parts.append(f"{len(picked.scalars)} of {picked.total:,} scalars shown")
    if picked.flat:
        names = ", ".join(picked.flat[:4]) + (f" and {len(picked.flat) - 4} more" if len(picked.flat) > 4 else "")
        parts.append(f"not drawn, constant or not finite: {names}")
    return "; ".join(parts)


def _shares(sizes: list[int], kinds: list[str], most: int) -> list[int]:
    """How many elements of each site: latents before the rest, small sites whole, then the room shared evenly."""
    shares = [0] * len(sizes)
    room = most
    for kind in dict.fromkeys(kinds):
        waiting = sorted((i for i in range(len(sizes)) if kinds[i] == kind), key=lambda i: sizes[i])
        for position, i in enumerate(waiting):
            shares[i] = min(sizes[i], max(room // (len(waiting) - position), 1 if room else 0))
            room -= shares[i]
    return shares
