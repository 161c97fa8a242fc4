"""How q is found."""

from taut.algorithms._algorithm import Algorithm, Progress, Run, Solution
from taut.algorithms._auto import Auto
from taut.algorithms._deterministic import FixedDraws
from taut.algorithms._smc import SMCResult, SMCSettings, smc, smc_applicable

__all__ = [
    "Algorithm",
    "Auto",
    "FixedDraws",
    "Progress",
    "Run",
    "SMCResult",
    "SMCSettings",
    "Solution",
    "smc",
    "smc_applicable",
]
