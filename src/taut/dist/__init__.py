"""Distributions, constraints and transforms: NumPyro's set, and what taut needs to know about them.

This is the only room that imports a distribution library. Every name of `numpyro.distributions` is here.
"""

from numpyro.distributions import *  # noqa: F403
from numpyro.distributions import Distribution, biject_to, constraints, kl_divergence, transforms

from taut.dist._charts import (
    Chart,
    base_chart,
    centred_chart,
    direction_chart,
    folded_chart,
    plane_chart,
    updated_chart,
    usual_chart,
    wave_chart,
)
from taut.dist._concrete import RelaxedOneHotCategorical
from taut.dist._continuous_bernoulli import ContinuousBernoulli
from taut.dist._implicit import follow, is_smooth, mixture_weights, unfollowed
from taut.dist._late import Late, late
from taut.dist._latent import Refusal, latent_refusal, unconstrainer_of, unmasked, unwrapped
from taut.dist._location_scale import LocationScale, location_scale
from taut.dist._messages import (
    as_factor,
    heard,
    is_autoguide,
    is_from_numpyro,
    log_factor,
    open_messengers,
    open_plates,
    plate_frame,
    receiving,
    unobserved,
    without_masks,
)
from taut.dist._scale_mixture import ScaleMixture
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
from taut.dist._waves import Cosines, Steps

__all__ = [
    "Chart",
    "ContinuousBernoulli",
    "Cosines",
    "Distribution",
    "Late",
    "LocationScale",
    "Refusal",
    "RelaxedOneHotCategorical",
    "ScaleMixture",
    "Steps",
    "as_factor",
    "base_chart",
    "biject_to",
    "centred_chart",
    "constraints",
    "contains",
    "describe",
    "direction_chart",
    "feasible",
    "folded_chart",
    "follow",
    "heard",
    "holds",
    "is_autoguide",
    "is_continuous",
    "is_distribution",
    "is_from_numpyro",
    "is_moving",
    "is_smooth",
    "kl_divergence",
    "late",
    "latent_refusal",
    "location_scale",
    "log_factor",
    "mixture_weights",
    "open_messengers",
    "open_plates",
    "plane_chart",
    "plate_frame",
    "receiving",
    "transforms",
    "unconstrainer",
    "unconstrainer_of",
    "unfollowed",
    "unmasked",
    "unobserved",
    "unwrapped",
    "updated_chart",
    "usual_chart",
    "wave_chart",
    "without_masks",
]
