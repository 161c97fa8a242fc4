"""The laws of objectives, for those of the library and those of its users."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._precision import scope
from taut.objectives import Objective
from taut.testing._laws import report, with_particles

# Estimates whose mean must lie on the side of the bound, and the standard errors that are allowed for.
_ESTIMATES, _SURE = 20_000, 5.0
# Particles by which an asymptotic bound must have been reached.
_MANY, _FEW_ESTIMATES = 4096, 64
_SUBTRACT = "subtract their maximum before they are exponentiated, as jax.nn.logsumexp does"
_SIDE = {"lower": "below", "upper": "above"}


def check_objective(objective: Objective) -> None:
    r"""Check that an objective keeps the laws of its contract, on weights whose evidence is known.

    An objective reduces log-weights to an estimate of the log evidence. Whatever it is: equal weights give their
    logarithm, one particle gives its log-weight, the particles' order does not count, weights $e^c$ times as high give
    $c$ more, rows do not mix, digits are kept far from zero, weights of zero give no NaN, and ``bound`` and
    ``averages`` say the truth.

    Args:
        objective: any; a frozen dataclass with the field ``particles``.

    Raises:
        LawBroken: with one sentence for each law that is broken.

    Example:
        >>> taut.testing.check_objective(taut.objectives.IWAE(particles=8))
    """
    name = type(objective).__name__
    try:
        alike = with_particles(objective, objective.particles, objective.averaged_over)
        if hash(objective) != hash(alike) or objective != alike:
            raise TypeError("equal objectives have different hashes")
    except (TypeError, ValueError) as error:
        report(name, [f"it must be a frozen dataclass with a field `particles`, and hashable: {error}"])
        return
    try:
        single = with_particles(objective, 1)
    except TautError:
        single = None  # it says itself that it needs more
    with scope("float64"):
        broken = [line for law in _LAWS if (line := _judge(law, objective, single))]
    report(name, broken)


def _judge(
    law: Callable[[Objective, Objective | None], str | None], objective: Objective, single: Objective | None
) -> str | None:
    try:
        return law(objective, single)
    except Exception as error:
        return f"{law.__doc__}: it raised {type(error).__name__}: {error}"


def _equal_weights(objective: Objective, single: Objective | None) -> str | None:
    """equal weights"""
    for level in (-853.25, 0.0, 40.0):
        found = float(objective.reduce(jnp.full(objective.particles, level)))
        if not abs(found - level) < 1e-9 * max(1, abs(level)):
            why = "is a factor of the number of particles missing?" if math.isfinite(found) else _SUBTRACT
            given = f"{objective.particles} of {level:g} gave {found:g}"
            return f"where q is the posterior all log-weights are log Z; {given}: {why}"
    return None


def _one_particle(objective: Objective, single: Objective | None) -> str | None:
    """one particle"""
    if single is None:
        return None
    found = float(single.reduce(jnp.array([-853.25])))
    return None if abs(found + 853.25) < 1e-9 else f"one particle of log-weight -853.25 gave {found:g}"


def _order(objective: Objective, single: Objective | None) -> str | None:
    """order of particles"""
    x = _some(objective)
    ahead, back = float(objective.reduce(x)), float(objective.reduce(x[::-1]))
    if abs(ahead - back) < 1e-9:
        return None
    return f"particles are exchangeable; in the opposite order the same log-weights gave {back:g} in place of {ahead:g}"


def _shift(objective: Objective, single: Objective | None) -> str | None:
    """weights of another size"""
    x = _some(objective)
    here, there = float(objective.reduce(x)), float(objective.reduce(x + 5.0))
    if abs(there - here - 5.0) < 1e-8:
        return None
    return f"log-weights that are 5 higher must give 5 more; they gave {there - here:g} more"


def _rows(objective: Objective, single: Objective | None) -> str | None:
    """rows of a plate"""
    x = jnp.stack([_some(objective, seed) for seed in range(3)], axis=1)
    found = np.asarray(objective.reduce(x))
    if found.shape != (3,):
        return f"log-weights of shape (particles, 3) must give (3,), one for each row; they gave {found.shape}: axis=0?"
    alone = [float(objective.reduce(x[:, i])) for i in range(3)]
    if np.allclose(found, alone, rtol=0, atol=1e-9):
        return None
    return f"rows mix: together they gave {found}, each by itself {alone}"


def _digits(objective: Objective, single: Objective | None) -> str | None:
    """digits in float32"""
    x = np.asarray(_some(objective))
    for level in (-800.0, 100.0):
        exact = float(objective.reduce(jnp.asarray(x))) + level
        found = float(objective.reduce(jnp.asarray(x + level, jnp.float32)))
        if not abs(found - exact) < 2e-3:
            return f"log-weights near {level:g} in float32 gave {found:g} in place of {exact:g}: {_SUBTRACT}"
    return None


def _zero_weights(objective: Objective, single: Objective | None) -> str | None:
    """weights of zero"""
    if objective.particles < 3:
        return None
    found = float(objective.reduce(_some(objective).at[0].set(-jnp.inf)))
    return "a draw of weight zero (log-weight -inf) gave NaN" if math.isnan(found) else None


def _traceable(objective: Objective, single: Objective | None) -> str | None:
    """compiled and differentiated"""
    x = _some(objective)
    slope = np.asarray(
        jax.jit(jax.grad(lambda x: jnp.sum(objective.estimate(x))))(jnp.tile(x, objective.averaged_over))
    )
    if not np.all(np.isfinite(slope)):
        return f"its gradient in the log-weights is not finite: {slope}"
    return None if abs(slope.sum() - 1.0) < 1e-8 else f"its slopes in the log-weights sum to {slope.sum():g}, not to 1"


def _side(objective: Objective, single: Objective | None) -> str | None:
    """side of the bound"""
    if objective.bound not in ("lower", "upper", None):
        return f'`bound` must be "lower", "upper" or None; it is {objective.bound!r}'
    if objective.bound is None:
        return None
    count, size = (_MANY, _FEW_ESTIMATES) if objective.asymptotic else (objective.particles, _ESTIMATES)
    asked = with_particles(objective, count)
    for kind, log_w in _weights(count, size).items():
        found = np.asarray(asked.reduce(jnp.asarray(log_w)))
        mean, se = float(found.mean()), float(found.std() / math.sqrt(size)) + 1e-12
        if (mean if objective.bound == "lower" else -mean) > _SURE * se:
            side = "above" if objective.bound == "lower" else "below"
            return (
                f"it says that it is a bound from {_SIDE[objective.bound]}; {kind} weights have log Z = 0, and its "
                f"mean over {size:,} estimates of {count} particles is {mean:.4f} +- {se:.4f}, {side} it: bound=None?"
            )
    return None


def _says_mean(objective: Objective, single: Objective | None) -> str | None:
    """averages"""
    x = _some(objective)
    if objective.averages and abs(float(objective.reduce(x)) - float(jnp.mean(x))) > 1e-9:
        return (
            "`averages` says that it is the plain mean of log-weights; it is not, and estimators for means are biased"
        )
    return None


def _own(objective: Objective, single: Objective | None) -> str | None:
    """weights of scores"""
    if not objective.own_gradient:
        return None
    x = _some(objective)
    found = np.asarray(objective.score_weights(x))
    if found.shape != x.shape or not np.all(np.isfinite(found)):
        return f"`score_weights` must give a finite number for each of {x.shape[0]} log-weights; it gave {found}"
    moved = np.asarray(objective.score_weights(x + 5.0))
    return None if np.allclose(found, moved, atol=1e-8) else "`score_weights` must not change when all weights double"


def _yardstick(objective: Objective, single: Objective | None) -> str | None:
    """comparison of fits"""
    if objective.yardstick.falls:
        return "`yardstick` compares fits, the higher the better: it must not be an objective that falls"
    return None


def _some(objective: Objective, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(-1.0, 1.0, objective.particles))


def _weights(count: int, size: int) -> dict[str, np.ndarray]:
    """Log-weights of mean one, ``(count, size)``."""
    rng = np.random.default_rng(0)
    return {
        "exponential": np.log(rng.exponential(size=(count, size))),
        "log-normal": rng.normal(-0.5, 1.0, (count, size)),
        "nearly equal": np.log(rng.gamma(50.0, 1 / 50.0, (count, size))),
    }


_LAWS = (
    _equal_weights,
    _one_particle,
    _order,
    _shift,
    _rows,
    _digits,
    _zero_weights,
    _traceable,
    _side,
    _says_mean,
    _own,
    _yardstick,
)
