"""Distributions, constraints and transforms: NumPyro's set, and what taut needs to know about them.

This is the only room that imports a distribution library. Every name of `numpyro.distributions` is here.
"""

from numpyro.distributions import *  # noqa: F403
from numpyro.distributions import Distribution, biject_to, constraints, kl_divergence, transforms

from taut.dist._continuous_bernoulli import ContinuousBernoulli
from taut.dist._latent import Refusal, latent_refusal, unconstrainer_of, unmasked, unwrapped
from taut.dist._location_scale import LocationScale, location_scale
from taut.dist._support import (
    contains,
    describe,
    feasible,
    holds,
    is_continuous,
    is_distribution,
    is_moving,
    unconstrainer,
)

__all__ = [
    "ContinuousBernoulli",
    "Distribution",
    "LocationScale",
    "Refusal",
    "biject_to",
    "constraints",
    "contains",
    "describe",
    "feasible",
    "holds",
    "is_continuous",
    "is_distribution",
    "is_moving",
    "kl_divergence",
    "latent_refusal",
    "location_scale",
    "transforms",
    "unconstrainer",
    "unconstrainer_of",
    "unmasked",
    "unwrapped",
]
