"""A synthetic target: a model as a user would write it, and what is true of its posterior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

import taut
from benchmarks.synthetic.truth import Truth


def prior_only(model: Callable[..., None]) -> Callable[..., None]:
    """The same model with a factor of one: a fit needs something that ties latents to data."""

    @wraps(model)
    def tied(*args: Any, **kwargs: Any) -> None:
        model(*args, **kwargs)
        taut.factor("no_data", 0.0)

    return tied


class Target(NamedTuple):
    """One target.

    Attributes:
        name: unique; begins with a word for its family.
        family: what it is hard in.
        model: the program, a function of the data mapping.
        data: the data mapping.
        truth: computes what is true, in seconds at most; ``None`` for a posterior that does not exist (it is improper)
            and must never be trusted.
        support: of the sites that are not real: see `benchmarks.posteriordb.models.Posterior`; ``heavy`` for the real
            line with tails so long that the inverse hyperbolic sine is measured too.
    """

    name: str
    family: str
    model: Callable[..., None]
    data: Mapping[str, Any]
    truth: Callable[[], Truth] | None
    support: Mapping[str, str] = {}
