"""How an objective is differentiated: one estimator per file, and the noise that smooth draws are made of."""

from taut.gradients._doubly_reparam import DoublyReparam
from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction
from taut.gradients._generalized import GeneralizedDoublyReparam
from taut.gradients._noise import Antithetic, Fixed, Fresh, Noise, Orthogonal, QuasiMonteCarlo
from taut.gradients._pathwise import Pathwise
from taut.gradients._quadratic import QuadraticControl
from taut.gradients._score_function import VIMCO, ScoreFunction, VarGrad
from taut.gradients._sticking_the_landing import StickingTheLanding
from taut.gradients._table import KINDS, TABLE, check_noise, kind_of, table_rows
from taut.gradients._wake import Wake

__all__ = [
    "KINDS",
    "TABLE",
    "VIMCO",
    "Antithetic",
    "DoublyReparam",
    "Fixed",
    "Fresh",
    "GeneralizedDoublyReparam",
    "GradientEstimator",
    "LogWeights",
    "Noise",
    "Orthogonal",
    "Pathwise",
    "QuadraticControl",
    "QuasiMonteCarlo",
    "Reduction",
    "ScoreFunction",
    "StickingTheLanding",
    "VarGrad",
    "Wake",
    "check_noise",
    "kind_of",
    "table_rows",
]
