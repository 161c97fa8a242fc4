"""What a fit with an encoder can be asked besides: its gap, and latents of other rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from taut.algorithms import Solution
from taut.fitting._amortisation import AmortisationGap, amortisation_gap, encode, predict_encoded
from taut.fitting._refusals import loaded
from taut.problem import Problem


class Encodes:
    """The part of a fit that its encoder answers; `Fit` is one."""

    problem: Problem | None
    solution: Solution | None

    def draws(self, n: int | None = None, key: int | jax.Array = 0) -> dict[str, np.ndarray]:
        """Draws of the posterior by site."""
        raise NotImplementedError

    def encode(
        self, data: Mapping[str, Any] | None = None, n: int | None = None, key: int | jax.Array = 0
    ) -> dict[str, np.ndarray]:
        """Draws of the latents that an amortised guide encodes, for rows that the fit need not have seen.

        Args:
            data: the model's arguments with those rows, what the encoder takes included; the fit's own by default.
            n: number of draws; 4,000 by default.
            key: an integer or a JAX key.

        Returns:
            The encoded latents by name, ``(n, *shape)``.

        Raises:
            TautError: ``bad-combination`` for guides without an encoder; ``no-model`` for a loaded fit.
        """
        problem, solution = self._whole("fit.encode(data)")
        return encode(problem, solution, self.draws(n, key), data, key)

    def amortisation_gap(self, key: int | jax.Array = 0, *, steps: int = 200) -> AmortisationGap:
        """What rows with normals of their own would gain over an amortised guide's encoder, in nats.

        Args:
            key: of the draws.
            steps: most steps of the rows' fit.

        Returns:
            `AmortisationGap`: ``gap``, ``se``, ``per_row``.

        Raises:
            TautError: ``bad-combination`` for guides without an encoder; ``no-model`` for a loaded fit.
        """
        return amortisation_gap(*self._whole("fit.amortisation_gap()"), key, steps=steps)

    def _predict_encoded(
        self, data: Mapping[str, Any] | None, n: int | None, key: int | jax.Array
    ) -> dict[str, np.ndarray]:
        problem, solution = self._whole('fit.predict(data, new_rows="encode")')
        return predict_encoded(problem, solution, self.draws(n, key), data, key)

    def _whole(self, call: str) -> tuple[Problem, Solution]:
        if self.problem is None or self.solution is None:
            raise loaded(call)
        return self.problem, self.solution
