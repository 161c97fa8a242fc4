"""Programs of NumPyro's that compute with NumPy on their data: `np.unique(group)`, `np.nonzero(np.isnan(age))`.

NumPyro hands a program its data as they are, so such programs are common there. Taut traces data; for these programs
alone it does not, and the arrays are constants of the traced program, as those are that a model closes over.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut._precision import real_dtype


class Untraced:
    """A program whose data are not traced.

    Args:
        program: the function.
    """

    def __init__(self, program: Callable[..., Any]):
        functools.update_wrapper(self, program)
        self.program = program

    def __call__(self, **data: Any) -> Any:
        """Run the program; real numbers are in the precision in force."""
        return self.program(**jax.tree.map(_in_precision, data))


def may_run_untraced(error: TautError) -> bool:
    """Whether an error may be due to NumPy on traced data, in a program with statements of NumPyro's."""
    return error.code == "control-flow" and HEARD in vars(error.__cause__)


# The mark that the receiver of NumPyro's statements leaves on errors.
HEARD = "taut_heard_numpyro"


def _in_precision(value: Any) -> Any:
    real = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
    return value.astype(real_dtype()) if real else value
