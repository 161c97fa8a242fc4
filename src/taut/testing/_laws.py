"""What the public checks raise, and the small problem that they are made on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from taut import dist
from taut.core import param, sample
from taut.objectives import Objective
from taut.problem import Problem

# Of the problem: an observation, and what the model's parameter and the guide's are at.
_OBSERVED = 1.4
PARAMS = {"loc": np.array([0.4]), "log_scale": np.array([-0.3])}
THETA = np.array([0.2])


class LawBroken(AssertionError):
    """A member of a room does not keep the laws of its contract; the message says which, one sentence each."""


def report(name: str, broken: list[str]) -> None:
    """Raise what was found, if anything."""
    if broken:
        raise LawBroken("\n".join([f"{name} breaks {len(broken)} of the laws:", *(f"- {line}" for line in broken)]))


def with_particles(objective: Objective, particles: int, averaged_over: int = 1) -> Any:
    """The same objective of other numbers of draws.

    Raises:
        TypeError, ValueError: where the objective is no dataclass with that field.
    """
    changes = {"particles": particles}
    if objective.averaged_over != averaged_over:
        changes["averaged_over"] = averaged_over
    return replace(objective, **changes)  # type: ignore[type-var]


@cache
def curved() -> Problem:
    r"""$z \sim N(\theta, 1)$, $y \sim N(z + \sin z, 0.8)$ with learned $\theta$: no Gaussian posterior."""

    def model(y: Any) -> None:
        theta = param("theta", 0.0)
        z = sample("z", dist.Normal(theta, 1.0))
        sample("y", dist.Normal(z + jnp.sin(z), 0.8), obs=y)

    return Problem(model, dict(y=_OBSERVED), precision="float64")


def curved_log_joint(z: Any, theta: Any) -> Any:
    """Its log joint density, written out."""
    prior = -0.5 * (z - theta) ** 2 - 0.5 * np.log(2 * np.pi)
    away = (_OBSERVED - z - jnp.sin(z)) / 0.8
    return prior - 0.5 * away**2 - np.log(0.8) - 0.5 * np.log(2 * np.pi)
