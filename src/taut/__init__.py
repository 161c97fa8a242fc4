"""taut: variational inference that says whether to believe it."""

from __future__ import annotations

from taut import algorithms, dist, guides, handlers
from taut._errors import TautError, TautWarning
from taut.core import deterministic, factor, param, plate, sample
from taut.fitting import Fit, fit, load
from taut.problem import Problem

__version__ = "0.1.0"

__all__ = [
    "Fit",
    "Problem",
    "TautError",
    "TautWarning",
    "algorithms",
    "deterministic",
    "dist",
    "factor",
    "fit",
    "guides",
    "handlers",
    "load",
    "param",
    "plate",
    "sample",
]
