"""Supports: what they are called, whether values lie in them, and how the real line is mapped onto them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions import Distribution, biject_to, constraints, transforms

_NAMES = {"OpenInterval": "interval", "Cat": "concatenation"}
_Independent = type(constraints.independent(constraints.positive, 1))


def is_distribution(value: Any) -> bool:
    """Whether ``value`` can stand as the second argument of `taut.sample`."""
    return isinstance(value, Distribution)


def is_continuous(fn: Distribution) -> bool:
    """Whether the distribution has a density that gradients can follow."""
    return not fn.is_discrete


def describe(constraint: Any) -> str:
    """A constraint in a word: ``"positive"``, ``"interval(0, 10)"``, ``"simplex"``.

    Bounds that are computed inside a model are written as ``...``.
    """
    if isinstance(constraint, _Independent):
        return describe(constraint.base_constraint)
    name = type(constraint).__name__.lstrip("_")
    snake = "".join("_" + c.lower() if c.isupper() else c for c in _NAMES.get(name, name)).lstrip("_")
    bounds = []
    for attribute in ("lower_bound", "upper_bound"):
        if hasattr(constraint, attribute):
            bound = getattr(constraint, attribute)
            concrete = not isinstance(bound, Tracer) and np.size(bound) == 1
            bounds.append(f"{float(np.asarray(bound).ravel()[0]):g}" if concrete else "...")
    simple = snake in ("positive", "nonnegative", "unit_interval", "circular", "nonnegative_integer", "boolean")
    return snake if simple or not bounds else f"{snake}({', '.join(bounds)})"


def is_moving(constraint: Any) -> bool:
    """Whether the bounds of a support are computed while the program runs: from data, or from other latents."""
    if isinstance(constraint, _Independent):
        return is_moving(constraint.base_constraint)
    return any(isinstance(bound, Tracer) for bound in vars(constraint).values())


def contains(constraint: Any, value: Any) -> Any:
    """Elementwise (or eventwise) truth of ``value in constraint``."""
    return constraint(value)


def holds(constraint: Any, value: np.ndarray) -> np.ndarray | None:
    """Which entries of ``value`` lie in ``constraint``, on the host; ``None`` where only the model can tell.

    Args:
        constraint: a support with known bounds.
        value: observed data.

    Returns:
        Booleans of the shape of ``value``, or ``None`` for supports with computed bounds or event structure.
    """
    if isinstance(constraint, _Independent):
        return holds(constraint.base_constraint, value)
    if type(constraint) is type(constraints.boolean):
        return (value == 0) | (value == 1)
    low = getattr(constraint, "lower_bound", None)
    high = getattr(constraint, "upper_bound", None)
    if any(isinstance(b, jax.Array | Tracer) for b in (low, high)) or (low is None and high is None):
        return None
    name = type(constraint).__name__
    inside = np.ones(np.shape(value), bool)
    if low is not None:
        strict = any(word in name for word in ("Positive", "GreaterThan", "Open")) and not name.endswith("Eq")
        inside &= value > low if strict and "Integer" not in name else value >= low
    if high is not None:
        strict = any(word in name for word in ("LessThan", "Open")) and not name.endswith("Eq")
        inside &= value < high if strict else value <= high
    return inside & (np.floor(value) == value) if "Integer" in name else inside


def feasible(fn: Distribution) -> Any:
    """An ordinary point of the distribution's support, of its shape."""
    support: Any = fn.support
    return support.feasible_like(jnp.zeros(fn.shape()))


def unconstrainer(support: Any) -> transforms.Transform | None:
    r"""The smooth map $T: \mathbb{R}^n \to$ ``support``, or ``None`` if there is none.

    Its bounds may be tracers: a support that depends on other latents gives a map that depends on them too.
    """
    try:
        return biject_to(support)
    except NotImplementedError:
        return None
