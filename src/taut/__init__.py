"""taut: variational inference that says whether to believe it."""

from __future__ import annotations

import importlib
from typing import Any

from taut import algorithms, dist, gradients, guides, handlers, objectives
from taut._errors import TautError, TautWarning
from taut.core import deterministic, factor, param, plate, sample, transformed
from taut.fitting import Checkpoint, Estimate, Fit, FittedGuide, HeldOut, fit, fit_mle, load, load_guide
from taut.interop import density
from taut.problem import Problem

__version__ = "0.1.0"

# Rooms that a fit does not need load on first use.
_ON_DEMAND = ("data", "diagnostics", "interop", "nn", "plots", "report", "testing")


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return importlib.import_module(f"taut.{name}")
    raise AttributeError(f"module 'taut' has no attribute {name!r}")


__all__ = [
    "Checkpoint",
    "Estimate",
    "Fit",
    "FittedGuide",
    "HeldOut",
    "Problem",
    "TautError",
    "TautWarning",
    "algorithms",
    "density",
    "deterministic",
    "dist",
    "factor",
    "fit",
    "fit_mle",
    "gradients",
    "guides",
    "handlers",
    "load",
    "load_guide",
    "objectives",
    "param",
    "plate",
    "sample",
    "transformed",
]
