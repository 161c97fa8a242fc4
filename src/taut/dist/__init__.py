"""Distributions, constraints and transforms: NumPyro's set, and what taut needs to know about them.

This is the only room that imports a distribution library. Every name of `numpyro.distributions` is here.
"""

from numpyro.distributions import *  # noqa: F403
from numpyro.distributions import Distribution, biject_to, constraints, kl_divergence, transforms

from taut.dist._location_scale import LocationScale, location_scale
from taut.dist._support import (
    contains,
    describe,
    feasible,
    holds,
    is_continuous,
    is_distribution,
    unconstrainer,
)

__all__ = [
    "Distribution",
    "LocationScale",
    "biject_to",
    "constraints",
    "contains",
    "describe",
    "feasible",
    "holds",
    "is_continuous",
    "is_distribution",
    "kl_divergence",
    "location_scale",
    "transforms",
    "unconstrainer",
]
