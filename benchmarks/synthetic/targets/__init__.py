"""The list of targets: name -> target. Odd places set constants, even ones judge them."""

from __future__ import annotations

from itertools import chain

from benchmarks.synthetic.target import Target
from benchmarks.synthetic.targets import (
    bounded,
    curved,
    funnel,
    gaussian,
    hierarchy,
    hostile,
    modes,
    regression,
    skewed,
    tails,
    unidentified,
)

ROOMS = (gaussian, funnel, curved, tails, skewed, bounded, modes, unidentified, hierarchy, regression, hostile)
TARGETS: dict[str, Target] = {t.name: t for t in chain.from_iterable(room.targets() for room in ROOMS)}


def split(name: str) -> str:
    """``set`` for the targets that constants may be set on, ``judge`` for the others; by turns in the list."""
    return ("set", "judge")[list(TARGETS).index(name) % 2]
