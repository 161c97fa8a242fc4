"""Ways to run a program differently: each handler is one object with `before` and `after`."""

from taut.handlers._block import block
from taut.handlers._relax import relax
from taut.handlers._reparam import reparam
from taut.handlers._seed import seed
from taut.handlers._strategies import (
    DCT,
    Circular,
    Conjugate,
    Folded,
    Haar,
    LocScale,
    ProjectedNormal,
    Reparam,
    Transformed,
)
from taut.handlers._trace import Trace, trace
from taut.handlers._values import condition, do, replay, substitute
from taut.handlers._weight import mask, scale
from taut.handlers._whole import whole

__all__ = [
    "DCT",
    "Circular",
    "Conjugate",
    "Folded",
    "Haar",
    "LocScale",
    "ProjectedNormal",
    "Reparam",
    "Trace",
    "Transformed",
    "block",
    "condition",
    "do",
    "mask",
    "relax",
    "reparam",
    "replay",
    "scale",
    "seed",
    "substitute",
    "trace",
    "whole",
]
