"""How an objective is differentiated: one estimator per file."""

from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction
from taut.gradients._pathwise import Pathwise
from taut.gradients._score_function import ScoreFunction
from taut.gradients._sticking_the_landing import StickingTheLanding

__all__ = ["GradientEstimator", "LogWeights", "Pathwise", "Reduction", "ScoreFunction", "StickingTheLanding"]
