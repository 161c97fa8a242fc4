"""How q is found."""

from taut.algorithms._algorithm import Algorithm, Progress, Run, Solution
from taut.algorithms._auto import Auto
from taut.algorithms._deterministic import FixedDraws

__all__ = ["Algorithm", "Auto", "FixedDraws", "Progress", "Run", "Solution"]
