"""Arguments that are whole numbers, and how any other argument is refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from taut._errors import TautError


def whole_number(site: str, value: Any, remedy: str, *, least: int = 1, shown: str = "{}") -> int:
    """A whole number, as a Python int.

    Args:
        site: name of the argument.
        value: what was given.
        remedy: the line that mends it.
        least: the smallest that is taken.
        shown: how the argument is told, with ``{}`` for ``site=value``: ``"Flow({})"``.

    Raises:
        TautError: ``bad-argument`` for anything else; a boolean is no number.

    Example:
        >>> whole_number("size", np.int64(8), "size=128")
        8
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        return int(value)
    expected = "a positive whole number" if least == 1 else f"a whole number, {least} or more"
    raise bad_argument(site, shown.format(f"{site}={value!r}"), expected, remedy)


def bad_argument(site: str | None, found: str, expected: str, remedy: str) -> TautError:
    """The error for an argument that is not what its function takes; see `TautError`."""
    return TautError("bad-argument", site=site, found=found, expected=expected, remedy=remedy)
