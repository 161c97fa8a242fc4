"""Where a network begins: at its module's own weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut.guides import At, Start
from taut.problem import Problem


@dataclass(frozen=True, eq=False)
class AtModule(Start):
    """A start at a module's own weights, which its library has drawn so that signals keep their scale.

    Latents that are none of its leaves, and leaves that are no latents, begin where they always do.

    Args:
        name: the network's, as in `bayesian`.
        module: the module.

    Raises:
        TautError: ``site-missing`` where no latent has one of its leaves' names.

    Example:
        >>> net = {"w": np.ones((1, 2))}
        >>> def model(x, y):
        ...     w = taut.nn.bayesian("net", net)["w"]
        ...     with taut.plate("rows", len(x)):
        ...         taut.sample("y", dist.Normal(x @ w[0], 1.0), obs=y)
        >>> problem = taut.Problem(model, dict(x=np.eye(2), y=np.ones(2)))
        >>> taut.guides.Delta(start=taut.nn.AtModule("net", net)).init(problem, key=0)["loc"]
        array([1., 1.])
    """

    name: str
    module: Any

    def points(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Start`: one point."""
        values = {}
        for path, leaf in jax.tree_util.tree_flatten_with_path(self.module)[0]:
            place = jax.tree_util.keystr(path).lstrip(".")
            site = f"{self.name}${place}" if place else self.name
            if site in problem.latents:
                values[site] = np.asarray(leaf, float)
        if not values:
            raise TautError(
                "site-missing",
                site=self.name,
                found=f'AtModule("{self.name}", ...), and no latent called after one of its leaves',
                expected=f"one of {', '.join(problem.latents)}",
                remedy=f'net = taut.nn.bayesian("{self.name}", module) in the model',
            )
        return At(values).points(problem, centredness, rng, 1)
