"""Which distributions may stand for a latent of a support, and how each is made of real parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut.guides._von_mises import von_mises_draw

# First spread, in units of the coordinate on the real line: narrow, so that first draws are ordinary.
_NARROW = 0.2
_TINY = 1e-12  # of a squared concentration: its root has no slope at zero


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        kind: the supports that it is for: ``"real"``, ``"positive"``, ``"unit"``, ``"simplex"`` or ``"circle"``.
        params: its parameters, each with the name of the map from the real line.
        start: parameters on the real line from an ordinary value of the site.
        make: the distribution over values of the kind, from parameters in their own space.
    """

    kind: str
    params: Mapping[str, str]
    start: Callable[[np.ndarray], dict[str, Any]]
    make: Callable[..., Any]

    def __hash__(self) -> int:
        return id(self)


def _log(x: Any) -> Any:
    return np.log(np.asarray(x, float))


def _full(x: np.ndarray, value: float) -> np.ndarray:
    return np.full(np.shape(x), value)


FAMILIES: dict[str, Family] = {
    "normal": Family(
        "real",
        {"loc": "identity", "scale": "exp"},
        lambda x: {"loc": x, "scale": _full(x, np.log(_NARROW))},
        lambda loc, scale: dist.Normal(loc, scale),
    ),
    "lognormal": Family(
        "positive",
        {"loc": "identity", "scale": "exp"},
        lambda x: {"loc": _log(x), "scale": _full(x, np.log(_NARROW))},
        lambda loc, scale: dist.LogNormal(loc, scale),
    ),
    "gamma": Family(
        "positive",
        {"concentration": "exp", "rate": "exp"},
        lambda x: {"concentration": _full(x, -2 * np.log(_NARROW)), "rate": -2 * np.log(_NARROW) - _log(x)},
        lambda concentration, rate: dist.Gamma(concentration, rate),
    ),
    "inversegamma": Family(
        "positive",
        {"concentration": "exp", "rate": "exp"},
        lambda x: {"concentration": _full(x, -2 * np.log(_NARROW)), "rate": -2 * np.log(_NARROW) + _log(x)},
        lambda concentration, rate: dist.InverseGamma(concentration, rate),
    ),
    "weibull": Family(
        "positive",
        {"scale": "exp", "concentration": "exp"},
        lambda x: {"scale": _log(x), "concentration": _full(x, -np.log(_NARROW))},
        lambda scale, concentration: dist.Weibull(scale, concentration),
    ),
    "halfnormal": Family(
        "positive", {"scale": "exp"}, lambda x: {"scale": _log(x)}, lambda scale: dist.HalfNormal(scale)
    ),
    "exponential": Family(
        "positive", {"rate": "exp"}, lambda x: {"rate": -_log(x)}, lambda rate: dist.Exponential(rate)
    ),
    "foldednormal": Family(
        "positive",
        {"loc": "identity", "scale": "exp"},
        lambda x: {"loc": x, "scale": _log(x) + np.log(_NARROW)},
        lambda loc, scale: dist.FoldedDistribution(dist.Normal(loc, scale)),
    ),
    "beta": Family(
        "unit",
        {"concentration1": "exp", "concentration0": "exp"},
        lambda x: {"concentration1": _log(x) + np.log(10.0), "concentration0": _log(1 - x) + np.log(10.0)},
        lambda concentration1, concentration0: dist.Beta(concentration1, concentration0),
    ),
    "dirichlet": Family(
        "simplex",
        {"concentration": "exp"},
        lambda x: {"concentration": _log(x) + np.log(10.0 * x.shape[-1])},
        lambda concentration: dist.Dirichlet(concentration),
    ),
    # By kappa (cos mu, sin mu): no seam, and no plateau where the concentration is small.
    "vonmises": Family(
        "circle",
        {"vector": "identity"},
        lambda x: {"vector": 5.0 * np.stack([np.cos(x), np.sin(x)], axis=-1)},
        lambda vector: dist.VonMises(
            jnp.arctan2(vector[..., 1], vector[..., 0]), jnp.sqrt(jnp.sum(vector**2, axis=-1) + _TINY)
        ),
    ),
}

USUAL = {"real": "normal", "positive": "lognormal", "unit": "beta", "simplex": "dirichlet", "circle": "vonmises"}

# A Gaussian of full rank for each event, pushed onto whatever the real line can be mapped onto.
PUSHED = "pushed"


def kind_of(support: Any) -> str:
    """Which families a support takes: `Family.kind`, or ``"any"`` where only the pushed Gaussian is left."""
    base = getattr(support, "base_constraint", support)
    word = dist.describe(base)
    if word == "circular":
        return "circle"
    if word in ("real", "simplex"):
        return word
    low, high = getattr(base, "lower_bound", None), getattr(base, "upper_bound", None)
    if low is not None and high is not None:
        return "unit"
    return "any" if low is None and high is None else "positive"


def shift_of(support: Any) -> tuple[Any, Any]:
    """``(loc, scale)`` of the affine map from the positive numbers, or the unit interval, onto a support."""
    base = getattr(support, "base_constraint", support)
    low, high = getattr(base, "lower_bound", None), getattr(base, "upper_bound", None)
    if low is not None and high is not None:
        return low, np.asarray(high) - np.asarray(low)
    if low is None and high is not None:
        return high, -1.0
    return (0.0, 1.0) if low is None else (low, 1.0)


def real(value: Any, transform: str) -> Any:
    """A parameter in its own space."""
    return jnp.exp(value) if transform == "exp" else value


def draw(fn: Any, key: Any) -> Any:
    """A draw that follows the distribution's parameters."""
    if isinstance(fn, dist.VonMises):
        return von_mises_draw(key, fn.loc, fn.concentration)
    return fn.rsample(key)


def pushed(loc: Any, log_diagonal: Any, lower: Any) -> Any:
    """A normal of full rank for each event, on the real line."""
    factor = jnp.tril(lower, -1) + jax.vmap(jnp.diag)(jnp.exp(log_diagonal).reshape(-1, loc.shape[-1])).reshape(
        *loc.shape, loc.shape[-1]
    )
    return dist.MultivariateNormal(loc, scale_tril=factor)
