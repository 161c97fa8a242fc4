"""Discrete latents in a fit: which are summed out, and their posterior afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut._keys import generator
from taut.algorithms import Solution
from taut.fitting._refusals import loaded
from taut.fitting._weigh import BATCHES, Weighed
from taut.guides import MeanField, bind
from taut.problem import DISCRETE, Problem

# Draws that probabilities are averaged over, and draws whose most probable paths compete.
_AVERAGED = 1000
_COMPETING = 64


class Enumerated:
    """The part of a fit that knows of discrete latents which were summed out; `Fit` is one."""

    problem: Problem | None

    def draws(self, n: int | None = None, key: int | jax.Array = 0) -> dict[str, np.ndarray]:
        """Draws of the posterior by site."""
        raise NotImplementedError

    @property
    def held(self) -> int:
        """How many draws the fit holds."""
        raise NotImplementedError

    def probabilities(self, name: str, key: int | jax.Array = 0) -> np.ndarray:
        r"""Posterior probabilities of a discrete latent, $p(z = k \mid y) = E\, p(z = k \mid \theta, y)$.

        Given the other latents they are exact, by forward and backward sums; the average is over draws of the others.

        Args:
            name: a discrete latent that was summed out.
            key: picks the draws.

        Returns:
            ``float64[*shape, K]``, the least value first.

        Raises:
            TautError: ``site-missing`` for any other site; ``no-model`` for a loaded fit.

        Example:
            >>> fit.probabilities("z")                  # doctest: +SKIP
        """
        problem = self._summed_out(name, f"fit.probabilities({name!r})")
        size = min(self.held, _AVERAGED)
        return problem.assignments.probabilities(self.draws(size, key), size)[name]

    def most_probable(self, name: str, key: int | jax.Array = 0) -> np.ndarray:
        r"""The most probable values of a discrete latent, jointly where elements hang together.

        It maximises $\frac1S \sum_s p(z \mid \theta_s, y)$ over draws of the other latents. For elements that hang on
        no others this is exact. For chains and trees the most probable path at each of 64 draws (Viterbi) competes.

        Args:
            name: a discrete latent that was summed out.
            key: picks the draws.

        Returns:
            ``int64[*shape]``.

        Raises:
            TautError: ``site-missing`` for any other site; ``no-model`` for a loaded fit.

        Source: Viterbi, IEEE Transactions on Information Theory 13 (1967).

        Example:
            >>> fit.most_probable("z")                  # doctest: +SKIP
        """
        problem = self._summed_out(name, f"fit.most_probable({name!r})")
        size = min(self.held, _COMPETING)
        return problem.assignments.most_probable(self.draws(size, key), size)[name]

    def _summed_out(self, name: str, call: str) -> Problem:
        if self.problem is None:
            raise loaded(call)
        known = self.problem.summed
        if name not in known:
            raise TautError(
                "site-missing",
                site=name,
                found=f"{call}: {name!r} is no discrete latent that was summed out",
                expected=f"one of {', '.join(known)}" if known else "a model with discrete latents",
                remedy=f"fit.probabilities({next(iter(known))!r})" if known else f"fit[{name!r}] for its draws",
            )
        return self.problem


def problem_for(guide: Any, make: Callable[[Any], Problem]) -> Problem:
    """The problem of a guide written by hand: discrete latents that it draws are left in, others are summed out.

    Args:
        guide: the guide.
        make: the problem, given which discrete latents are left in.
    """
    problem = make(True)
    left = [name for name, latent in problem.latents.items() if latent.transform == DISCRETE]
    if not left:
        return problem
    while True:
        try:
            bind(guide, problem)
        except TautError as error:
            if error.code != "guide-missing" or error.site not in left:
                raise
            left.remove(error.site)
            problem = make(tuple(left))
            continue
        return problem


def with_discrete(
    problem: Problem, values: Mapping[str, np.ndarray], size: int, key: int | jax.Array
) -> dict[str, np.ndarray]:
    """Draws with the discrete latents that were summed out, and with the deterministic sites that need them.

    Args:
        problem: the problem.
        values: draws of everything else.
        size: how many draws are wanted where there is nothing else.
        key: the fit's key.
    """
    if not problem.summed:
        return dict(values)
    size = max((len(v) for v in values.values()), default=size)
    words = int(generator(key, 3000).integers(2**31))
    return problem.in_order({**values, **problem.assignments.draws(values, size, words)})


def all_discrete(problem: Problem, key: int | jax.Array) -> Solution:
    """The solution where nothing but discrete latents is left to infer: the sum is the evidence, exactly."""
    guide = MeanField()
    return Solution(guide, guide.init(problem, key), np.zeros(problem.num_params), "converged")


def weigh_all_discrete(problem: Problem, rows: int) -> Weighed:
    """As `weigh_solution` where nothing continuous is left: every weight is the evidence."""
    points = np.zeros((rows // BATCHES * BATCHES, 0))
    log_p = float(problem.log_joint(np.zeros(0)))
    return Weighed(problem.constrain(points), {}, np.full((BATCHES, rows // BATCHES), log_p))
