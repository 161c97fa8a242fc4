"""What is maximised: reductions of log-weights, one per file."""

from taut.objectives._cubo import CUBO
from taut.objectives._elbo import ELBO
from taut.objectives._f_divergence import FDivergence
from taut.objectives._forward_kl import RWS, ForwardKL
from taut.objectives._iwae import IWAE
from taut.objectives._jvi import DVI, JVI, jackknifed
from taut.objectives._kl_weights import BatchELBO, Blundell, KLWeights, Uniform
from taut.objectives._objective import Bound, Objective
from taut.objectives._renyi import Renyi
from taut.objectives._tempered import Annealed, Cyclical, Linear, Tempered
from taut.objectives._tvo import TVO, UpperTVO

__all__ = [
    "CUBO",
    "DVI",
    "ELBO",
    "IWAE",
    "JVI",
    "RWS",
    "TVO",
    "Annealed",
    "BatchELBO",
    "Blundell",
    "Bound",
    "Cyclical",
    "FDivergence",
    "ForwardKL",
    "KLWeights",
    "Linear",
    "Objective",
    "Renyi",
    "Tempered",
    "Uniform",
    "UpperTVO",
    "jackknifed",
]
