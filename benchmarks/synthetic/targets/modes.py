"""Several modes: unequal masses, widths and distances in one, two and ten dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

import taut
from benchmarks.synthetic.target import Target, prior_only
from benchmarks.synthetic.truth import Truth, exact, truth
from taut import dist


@prior_only
def line(share: Any, centre: Any, width: Any) -> None:
    """A mixture of normals on the line."""
    taut.sample("x", dist.MixtureSameFamily(dist.Categorical(share), dist.Normal(centre, width)))


def space(share: Any, centre: Any, width: Any) -> None:
    """A mixture of round normals through a factor."""
    x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (), (centre.shape[1],)))
    parts = dist.Normal(centre, width[:, None]).log_prob(x).sum(-1)
    taut.factor("mixture", logsumexp(jnp.log(share) + parts))


def told(share: np.ndarray, centre: np.ndarray, width: np.ndarray) -> Truth:
    """Mean and sd of a mixture, each scalar by itself."""
    mean = share @ centre
    widths = width if centre.ndim == 1 else width[:, None]
    return truth(0.0, x=exact(mean, np.sqrt(share @ (widths**2 + (centre - mean) ** 2))))


def targets() -> Iterator[Target]:
    """Every target of this page."""
    lines = (
        (0.5, 4.0, 1.0), (0.8, 4.0, 1.0), (0.5, 10.0, 1.0), (0.8, 6.0, 1.0), (0.95, 8.0, 1.0), (0.99, 10.0, 1.0),
        (0.5, 20.0, 1.0), (0.8, 20.0, 1.0), (0.5, 8.0, 0.1), (0.9, 8.0, 0.1), (0.9, 0.0, 1e-3), (0.5, 3.0, 1e-3),
    )  # fmt: skip
    for share, apart, second in lines:
        family = "bimodal" if second == 1.0 else "narrow mode"
        name = f"modes-d1-{share:g}-{apart:g}" + ("" if second == 1.0 else f"-width{second:g}")
        yield _target(name, family, line, [share, 1 - share], np.array([0.0, apart]), [1.0, second])
    yield _target("modes-d1-three", "bimodal", line, [0.2, 0.5, 0.3], np.array([-8.0, 0.0, 5.0]), [1.0, 0.5, 1.0])
    spaces = (
        (2, 0.5, 6.0), (2, 0.8, 10.0), (2, 0.95, 6.0), (2, 0.99, 20.0), (10, 0.5, 8.0), (10, 0.8, 12.0),
        (10, 0.95, 20.0), (10, 0.5, 4.0),
    )  # fmt: skip
    for dim, share, apart in spaces:
        centre = np.stack([np.zeros(dim), np.full(dim, apart / np.sqrt(dim))])
        yield _target(f"modes-d{dim}-{share:g}-{apart:g}", "bimodal", space, [share, 1 - share], centre, [1.0, 1.0])


def _target(name: str, family: str, model: Any, share: list[float], centre: np.ndarray, width: list[float]) -> Target:
    data = dict(share=np.array(share), centre=centre, width=np.array(width))
    return Target(name, family, model, data, partial(told, **data))
