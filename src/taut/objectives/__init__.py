"""What is maximised: reductions of log-weights, one per file."""

from taut.objectives._elbo import ELBO
from taut.objectives._iwae import IWAE
from taut.objectives._kl_weights import Blundell, KLWeights
from taut.objectives._objective import Bound, Objective

__all__ = ["ELBO", "IWAE", "Blundell", "Bound", "KLWeights", "Objective"]
