"""Model and data together: named latents, a layout, a log joint, one compiled kernel."""

from taut.problem._coordinates import Latent, Param
from taut.problem._data import split
from taut.problem._kernel import Kernel, compilations, log_joint
from taut.problem._predictive import predictive
from taut.problem._problem import Problem
from taut.problem._program import Program, trace_program

__all__ = [
    "Kernel",
    "Latent",
    "Param",
    "Problem",
    "Program",
    "compilations",
    "log_joint",
    "predictive",
    "split",
    "trace_program",
]
