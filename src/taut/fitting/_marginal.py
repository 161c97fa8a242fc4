"""One site of a posterior, in the model's own space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from taut import diagnostics


@dataclass(frozen=True, eq=False)
class Marginal:
    """The posterior of one site.

    Attributes:
        name: the site's name.
        kind: ``"latent"``, ``"deterministic"`` or ``"param"``.
        support: its support in a word.
        values: draws from q, ``(S, *shape)``.
        log_weights: importance weights of these draws, where the verdict covers reweighted ones; else ``None``.

    Example:
        >>> marginal = Marginal("x", "latent", "real", np.array([0.0, 2.0]), None)
        >>> float(marginal.mean)
        1.0
    """

    name: str
    kind: str
    support: str
    values: np.ndarray
    log_weights: np.ndarray | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the site's value."""
        return self.values.shape[1:]

    @cached_property
    def mean(self) -> np.ndarray:
        """Posterior mean, of the site's shape."""
        return diagnostics.mean(self.values, self.log_weights)

    @cached_property
    def sd(self) -> np.ndarray:
        """Posterior standard deviation, of the site's shape."""
        return diagnostics.sd(self.values, self.log_weights)

    def quantile(self, q: float | list[float] | np.ndarray) -> np.ndarray:
        """Posterior quantiles.

        Args:
            q: one probability or several.

        Returns:
            An array of the site's shape, with a leading axis when several probabilities are given.
        """
        return diagnostics.quantile(self.values, np.asarray(q), self.log_weights)

    def __repr__(self) -> str:
        if self.shape == ():
            return f"{self.name}: mean {float(self.mean):.4g}, sd {float(self.sd):.4g} ({self.support})"
        return f"{self.name}: {self.support}, shape {self.shape}\n  mean {self.mean}\n  sd   {self.sd}"
