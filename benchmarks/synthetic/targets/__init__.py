"""The list of targets: name -> target. Odd places set constants, even ones judge them."""

from __future__ import annotations

from itertools import chain

from benchmarks.synthetic.target import Target
from benchmarks.synthetic.targets import (
    bounded,
    curved,
    fresh,
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
    if name not in TARGETS:
        return "judge"
    return ("set", "judge")[list(TARGETS).index(name) % 2]


def named(name: str) -> Target:
    """A target of the list, or a fresh one: those carry their seed in their name."""
    if name in TARGETS:
        return TARGETS[name]
    seed = int(name.removeprefix("fresh").split("-", 1)[0])
    return fresh_targets(seed)[name]


def fresh_targets(seed: int) -> dict[str, Target]:
    """Targets drawn from a seed, by name."""
    return {target.name: target for target in fresh.targets(seed)}
