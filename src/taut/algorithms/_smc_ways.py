"""Coordinates that particles move in: q's own, hierarchies non-centred, and funnels undone."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from taut.algorithms._smc_moves import Cloud
from taut.algorithms._smc_scales import ScaleMap
from taut.algorithms._smc_target import Target


class Way(ABC):
    """A bijection of the particles' space; densities carry its Jacobian, so that moves there are moves here."""

    @abstractmethod
    def enter(self, cloud: Cloud) -> tuple[Cloud, np.ndarray]:
        """The particles in these coordinates, and which of them can be written so, ``bool[P]``."""

    @abstractmethod
    def evaluate(self, x: np.ndarray, *, with_q: bool) -> Cloud:
        """Densities and gradients at rows of these coordinates."""

    @abstractmethod
    def leave(self, moved: Cloud, cloud: Cloud) -> tuple[Cloud, np.ndarray]:
        """The moved particles in q's coordinates, and which of them can be; ``cloud`` is where they came from."""


class Plain(Way):
    """The coordinates of q."""

    def __init__(self, target: Target, centredness: np.ndarray):
        self.target, self.centredness = target, centredness

    def enter(self, cloud: Cloud) -> tuple[Cloud, np.ndarray]:
        """See `Way`."""
        return cloud, np.ones(len(cloud.z), bool)

    def evaluate(self, x: np.ndarray, *, with_q: bool) -> Cloud:
        """See `Way`."""
        return self.target.cloud(x, self.centredness, with_q=with_q)

    def leave(self, moved: Cloud, cloud: Cloud) -> tuple[Cloud, np.ndarray]:
        """See `Way`."""
        return moved, np.ones(len(moved.z), bool)


class NonCentred(Way):
    """Every declared hierarchy non-centred; at the posterior only, since q has no density here."""

    def __init__(self, target: Target, centredness: np.ndarray):
        self.target, self.centredness, self.zero = target, centredness, target.problem.centredness(0.0)

    def enter(self, cloud: Cloud) -> tuple[Cloud, np.ndarray]:
        """See `Way`."""
        z = self.target.swapped(cloud.z, self.centredness, self.zero)
        known = np.asarray(np.isfinite(z).all(axis=1))
        z[~known] = z[known][0] if known.any() else 0.0
        return self.evaluate(z, with_q=False), known

    def evaluate(self, x: np.ndarray, *, with_q: bool) -> Cloud:
        """See `Way`."""
        return self.target.cloud(x, self.zero, with_q=False)

    def leave(self, moved: Cloud, cloud: Cloud) -> tuple[Cloud, np.ndarray]:
        """See `Way`."""
        back = self.target.swapped(moved.z, self.zero, self.centredness)
        known = np.asarray(np.isfinite(back).all(axis=1))
        there = self.target.cloud(np.where(known[:, None], back, cloud.z), self.centredness, with_q=False)
        return there, known & np.isfinite(there.log_p)


class Scaled(Way):
    """The coordinates of a `ScaleMap`."""

    def __init__(self, target: Target, centredness: np.ndarray, learnt: ScaleMap):
        self.target, self.centredness, self.learnt = target, centredness, learnt

    def enter(self, cloud: Cloud) -> tuple[Cloud, np.ndarray]:
        """See `Way`."""
        return self.learnt.pulled(cloud, self.learnt.apart(cloud.z)), np.ones(len(cloud.z), bool)

    def evaluate(self, x: np.ndarray, *, with_q: bool) -> Cloud:
        """See `Way`."""
        there = self.target.cloud(self.learnt.back(x), self.centredness, with_q=with_q)
        return self.learnt.pulled(there, x)

    def leave(self, moved: Cloud, cloud: Cloud) -> tuple[Cloud, np.ndarray]:
        """See `Way`."""
        return self.learnt.pushed(moved), np.ones(len(moved.z), bool)
