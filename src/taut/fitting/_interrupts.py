"""Ctrl-C after the run: what was asked for is left out, and what was found is returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


class Patience:
    """Work that a user may end by Ctrl-C without losing the fit.

    Attributes:
        skipped: what was ended, in words.
    """

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def __call__(self, what: str, work: Callable[[], Found], instead: Callable[[], Found]) -> Found:
        """The result of some work, or of what takes its place when the user ends it.

        Args:
            what: in words.
            work: is done, unless it is interrupted.
            instead: is done then; it should be quick.
        """
        try:
            return work()
        except KeyboardInterrupt:
            self.skipped.append(what)
            return instead()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the result."""
        return tuple(f"interrupted, so that this was left out: {what}" for what in self.skipped)
