"""The last finite iterate of a compiled loop that broke."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def last_finite(run: Callable[[int], Any], begin: int, broken: int) -> Any:
    """What a chunk comes to that ends before the step that broke it.

    A gradient that is not finite is seen in the loss of the step after it, or only in the end; no step is undone, the
    same compiled loop is run again up to an earlier one.

    Args:
        run: the chunk up to a step.
        begin: the step from which it starts.
        broken: a step up to which it is not finite.
    """
    found, back = run(begin), 1
    while broken - begin > 1:
        middle = max(broken - back, (begin + broken) // 2)
        tried = run(middle)
        if tried[2]:
            begin, found = middle, tried
        else:
            broken, back = middle, 2 * back
    return found
