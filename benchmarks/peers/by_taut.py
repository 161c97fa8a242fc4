"""taut as a user calls it, with the verdict and without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import taut
from benchmarks.peers.peer import Fit, Found
from benchmarks.posteriordb.models import Posterior


def prepare(peer: str, posterior: Posterior, data: Mapping[str, Any]) -> Fit:
    """`taut.fit` of a posterior; ``taut-q`` skips the verdict and returns q's own draws."""
    verify = peer == "taut"

    def fit(seed: int) -> Found:
        found = taut.fit(posterior.model, data, key=seed, verify=verify)
        spent = found.problem.kernel().gradients if found.problem is not None else 0

        def draws(n: int) -> dict[str, np.ndarray]:
            return found.draws(min(n, found.held)) if verify else {k: v[:n] for k, v in found.values.items()}

        return Found(draws, lambda: spent if verify else found.gradients, found.verdict.level)

    return fit
