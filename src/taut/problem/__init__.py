"""Model and data together: named latents, a layout, a log joint, one compiled kernel."""

from taut.problem._arguments import Argument, Source, check_ranges, constrained
from taut.problem._assignments import Assignments, sum_notes
from taut.problem._bases import REPARAM_BASE
from taut.problem._batch import ROWS, leaves_of
from taut.problem._coordinates import DISCRETE, Latent, Param, unconstrained_init
from taut.problem._cost import elements, maxima
from taut.problem._data import split
from taut.problem._digest import digest
from taut.problem._graph import graph
from taut.problem._holes import hole
from taut.problem._influence import unused_params
from taut.problem._kernel import Kernel, compilations, count_compilation, fill, log_joint, model_holes, shaped
from taut.problem._later import check_later
from taut.problem._levels import inlined
from taut.problem._numpyro import numpyro_statements
from taut.problem._predictive import NewRows, few_rows, predictive
from taut.problem._problem import Problem
from taut.problem._program import Program, trace_program
from taut.problem._reach import dependencies
from taut.problem._side_effects import no_side_effects
from taut.problem._user_code import user_errors

__all__ = [
    "DISCRETE",
    "REPARAM_BASE",
    "ROWS",
    "Argument",
    "Assignments",
    "Kernel",
    "Latent",
    "NewRows",
    "Param",
    "Problem",
    "Program",
    "Source",
    "check_later",
    "check_ranges",
    "compilations",
    "constrained",
    "count_compilation",
    "dependencies",
    "digest",
    "elements",
    "few_rows",
    "fill",
    "graph",
    "hole",
    "inlined",
    "leaves_of",
    "log_joint",
    "maxima",
    "model_holes",
    "no_side_effects",
    "numpyro_statements",
    "predictive",
    "shaped",
    "split",
    "sum_notes",
    "trace_program",
    "unconstrained_init",
    "unused_params",
    "user_errors",
]
