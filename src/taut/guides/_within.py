"""Whether one support lies inside another, as far as their bounds are known before the fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.core import Tracer

from taut import dist

_REAL = (type(dist.constraints.real), type(dist.constraints.real_vector))

_UNKNOWN = (type(dist.constraints.dependent),)


def within(inner: Any, outer: Any) -> bool | None:
    """Whether every value of ``inner`` lies in ``outer``; ``None`` where only values can tell.

    Args:
        inner: what the guide may propose.
        outer: what the model allows.
    """
    inner, outer = _base(inner), _base(outer)
    if isinstance(outer, _REAL):
        return True
    if inner is outer:
        return True
    if isinstance(outer, _UNKNOWN):
        return None
    low, high = _bounds(outer)
    if low is None:
        # Not an interval: the same kind of set, or everything where the model allows only some.
        if type(inner) is type(outer) and not vars(inner) and not vars(outer):
            return True
        return False if isinstance(inner, _REAL) else None
    if isinstance(inner, _REAL):
        return False
    lower, upper = _bounds(inner)
    if lower is None or not all(isinstance(b, np.ndarray) for b in (low, high, lower, upper)):
        return None
    try:
        return bool(np.all(lower >= low) and np.all(upper <= high))
    except ValueError:
        return None


def _base(constraint: Any) -> Any:
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    return constraint


def _bounds(constraint: Any) -> tuple[Any, Any]:
    """Lower and upper bound: infinite where there is none, a tracer where it is computed; ``None`` for other sets."""
    low, high = getattr(constraint, "lower_bound", None), getattr(constraint, "upper_bound", None)
    if low is None and high is None:
        return None, None
    known = [default if b is None else b for b, default in ((low, -np.inf), (high, np.inf))]
    bounds = [b if isinstance(b, Tracer) else np.asarray(b) for b in known]
    return bounds[0], bounds[1]
