"""NumPyro's programs outside of a fit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from taut.problem import numpyro_statements


def from_numpyro(program: Callable[..., Any]) -> Callable[..., Any]:
    """A program of NumPyro's as one that taut's handlers act on.

    `taut.fit` and `taut.Problem` take a function written with NumPyro's primitives as it is; this is for
    `taut.handlers`, which stand outside of a fit. Programs run one at a time, in whatever thread.

    Args:
        program: a function whose statements are NumPyro's, taut's, or both.

    Returns:
        The same function, whose statements go to the handlers of `taut.handlers` that are in force.

    Example:
        >>> import numpyro
        >>> def model():
        ...     return numpyro.sample("x", dist.Normal(0.0, 1.0))
        >>> model = taut.interop.from_numpyro(model)
        >>> list(taut.handlers.trace(taut.handlers.seed(model, key=0)).get_trace())
        ['x']
    """

    @functools.wraps(program)
    def run(*args: Any, **kwargs: Any) -> Any:
        with numpyro_statements():
            return program(*args, **kwargs)

    return run
