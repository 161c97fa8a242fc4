"""`fit`, its result, and keeping it."""

from taut.fitting._checkpoint import Checkpoint
from taut.fitting._evidence import pool_of
from taut.fitting._fit import fit
from taut.fitting._guide_view import FittedGuide, load_guide
from taut.fitting._held_out import HeldOut
from taut.fitting._marginal import Marginal
from taut.fitting._mle import Estimate, fit_mle
from taut.fitting._result import Fit, load

__all__ = [
    "Checkpoint",
    "Estimate",
    "Fit",
    "FittedGuide",
    "HeldOut",
    "Marginal",
    "fit",
    "fit_mle",
    "load",
    "load_guide",
    "pool_of",
]
