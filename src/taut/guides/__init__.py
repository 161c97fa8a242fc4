"""What q can be: one family per file."""

from taut.guides._gaussian import Delta, FullRank, MeanField
from taut.guides._guide import Flat, Guide, NoiseGuide, Point
from taut.guides._local import wide_dim, wide_layout
from taut.guides._low_rank import LowRank
from taut.guides._mixture import GaussianMixture
from taut.guides._program import Program, bind

__all__ = [
    "Delta",
    "Flat",
    "FullRank",
    "GaussianMixture",
    "Guide",
    "LowRank",
    "MeanField",
    "NoiseGuide",
    "Point",
    "Program",
    "bind",
    "wide_dim",
    "wide_layout",
]
