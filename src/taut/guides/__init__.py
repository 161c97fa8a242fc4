"""What q can be: one family per file."""

from taut.guides._gaussian import Delta, FullRank, MeanField
from taut.guides._guide import Flat, Guide, Point

__all__ = ["Delta", "Flat", "FullRank", "Guide", "MeanField", "Point"]
