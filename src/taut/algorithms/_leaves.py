"""What is learned, in the loop: cut up by site, as networks have it, and not in one long vector.

Half a million weights in one vector are copied into the shapes of their layers and their gradients back, in every step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut.gradients import DoublyReparam, GradientEstimator, Pathwise, StickingTheLanding
from taut.guides import Guide
from taut.objectives import Objective
from taut.problem import Program, model_holes

# Fewer numbers than these are no burden, whatever their shape.
MANY = 10_000

# Of more, the average takes every so many-th iterate.
_THINNED = 8


class Learned(NamedTuple):
    """What is learned: the guide's parameters by name, the model's as a flat vector on the real line."""

    guide: dict[str, Any]
    model: Any


def is_cut(guide: Guide, objective: Objective, gradient: GradientEstimator, learned: Learned) -> bool:
    """Whether the loop keeps what is learned by site: where it is much, and the objective is taken from log-weights
    that know how to read it."""
    return (
        type(gradient) in (DoublyReparam, Pathwise, StickingTheLanding)
        and not (objective.closed_form or guide.reads_model)
        and sum(np.size(leaf) for leaf in jax.tree.leaves(learned)) > MANY
    )


def cut(program: Program, guide: Guide, learned: Learned) -> Learned:
    """What is learned, by site; traceable."""
    return Learned(guide.cut(program, learned.guide), model_holes(program, learned.model))


def joined(program: Program, guide: Guide, learned: Learned) -> Learned:
    """The opposite of `cut`; traceable."""
    parts = [jnp.ravel(learned.model[name]) for name in program.params]
    return Learned(guide.joined(program, learned.guide), jnp.concatenate(parts) if parts else jnp.zeros(0))


def thinned(learned: Learned) -> int:
    """Every how many steps an iterate counts in the average: of many numbers, neighbours hardly differ."""
    return _THINNED if sum(np.size(leaf) for leaf in jax.tree.leaves(learned)) > MANY else 1
