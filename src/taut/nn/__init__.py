"""Neural networks: modules whose leaves are sites."""

from taut.dist import ScaleMixture
from taut.nn._bayesian import bayesian
from taut.nn._priors import FanIn, Frozen, Horseshoe

__all__ = ["FanIn", "Frozen", "Horseshoe", "ScaleMixture", "bayesian"]
