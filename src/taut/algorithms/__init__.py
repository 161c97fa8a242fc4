"""How q is found."""

from taut.algorithms._algorithm import Algorithm, Progress, Run, Solution
from taut.algorithms._anneal import Annealed, anneal
from taut.algorithms._auto import Auto
from taut.algorithms._batch_and_match import BatchAndMatch
from taut.algorithms._bridge import Bridge, bridge
from taut.algorithms._convergence import stage_bounds
from taut.algorithms._deterministic import FixedDraws
from taut.algorithms._feed import at_step, feed
from taut.algorithms._fixed_noise import FixedNoise
from taut.algorithms._flow_svi import FlowSVI
from taut.algorithms._gradient_draws import alternatives, gradient_draws
from taut.algorithms._information import covariance_at
from taut.algorithms._ivon import IVON
from taut.algorithms._laplace import Laplace
from taut.algorithms._linear_response import Response, linear_response
from taut.algorithms._log_weights import LogWeights, log_p
from taut.algorithms._low_rank import LowRankDraws
from taut.algorithms._map import MAP
from taut.algorithms._pathfinder import Pathfinder
from taut.algorithms._probe import widened
from taut.algorithms._reverse import Reversed, log_weights_at, reverse_anneal
from taut.algorithms._row_pool import row_log_weights
from taut.algorithms._rows import by_row, weights_of
from taut.algorithms._smc import SMCResult, SMCSettings, smc, smc_applicable
from taut.algorithms._svi import SVI
from taut.algorithms._warm import warm

__all__ = [
    "IVON",
    "MAP",
    "SVI",
    "Algorithm",
    "Annealed",
    "Auto",
    "BatchAndMatch",
    "Bridge",
    "FixedDraws",
    "FixedNoise",
    "FlowSVI",
    "Laplace",
    "LogWeights",
    "LowRankDraws",
    "Pathfinder",
    "Progress",
    "Response",
    "Reversed",
    "Run",
    "SMCResult",
    "SMCSettings",
    "Solution",
    "alternatives",
    "anneal",
    "at_step",
    "bridge",
    "by_row",
    "covariance_at",
    "feed",
    "gradient_draws",
    "linear_response",
    "log_p",
    "log_weights_at",
    "reverse_anneal",
    "row_log_weights",
    "smc",
    "smc_applicable",
    "stage_bounds",
    "warm",
    "weights_of",
    "widened",
]
