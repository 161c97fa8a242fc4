"""The marginal of one site under q, in the model's own space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from taut._errors import TautError
from taut._precision import Precision, real_dtype, scope

_NODES = 128


class Normals(NamedTuple):
    """A mixture of normals for every coordinate of a site: weights ``(K,)``, loc and scale ``(K, *shape)``."""

    weights: np.ndarray
    loc: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, eq=False)
class GuideMarginal:
    r"""One site under q: scalar by scalar, in the model's own space.

    Where q is Gaussian on the real line and the site's map takes its coordinates one by one, $x = T(u)$ with
    $u \sim \mathcal N(m, s^2)$, everything is exact: quantiles are $T$ of the normal's, moments are quadrature, and

    $$\log q(x) = \log \mathcal N(T^{-1}(x); m, s^2) - \log |T'(T^{-1}(x))|.$$

    Elsewhere moments and quantiles are those of 16,000 draws.

    Attributes:
        name: the site.
        support: its support in a word.
        shape: of its value.
        exact: whether all of it is exact.

    Example:
        >>> fit.guide.marginal("tau").quantile([0.05, 0.95])         # doctest: +SKIP
    """

    name: str
    support: str
    shape: tuple[int, ...]
    precision: Precision
    values: np.ndarray | None = None
    normals: Normals | None = None
    transform: Any = None

    @property
    def exact(self) -> bool:
        """Whether mean, sd, quantiles and the log density are exact."""
        return self.normals is not None

    @property
    def mean(self) -> np.ndarray:
        """Mean under q, of the site's shape."""
        return self._moments[0]

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation under q, of the site's shape."""
        return self._moments[1]

    def quantile(self, q: float | list[float] | np.ndarray) -> np.ndarray:
        """Quantiles under q.

        Args:
            q: one probability or several.

        Returns:
            An array of the site's shape, with a leading axis when several probabilities are given.
        """
        q = np.asarray(q, float)
        if self.normals is None:
            assert self.values is not None
            return np.quantile(self.values, q, axis=0)
        levels = np.atleast_1d(q).reshape(-1, *(1,) * len(self.shape))
        # A map onto numbers below a bound turns the order around.
        rising = self._map(np.ones(self.shape)) >= self._map(np.zeros(self.shape))
        found = self._map(_normal_quantile(self.normals, np.where(rising, levels, 1 - levels)))
        return found if q.ndim else found[0]

    def log_density(self, x: Any) -> np.ndarray:
        """Log density of each scalar of the site by itself, in nats.

        Args:
            x: values of the site's shape, with further axes in front if there are several; outside of the support the
                log density is ``-inf``.

        Raises:
            TautError: ``bad-combination`` where the marginal is known by draws alone.
        """
        if self.normals is None:
            raise TautError(
                "bad-combination",
                site=self.name,
                found="a marginal that is known by draws alone",
                expected="a Gaussian guide, and a map that takes coordinates one by one",
                remedy=f'fit.guide.marginal("{self.name}").quantile([0.05, 0.5, 0.95])',
            )
        x = np.asarray(x, float)
        with scope(self.precision), np.errstate(all="ignore"):
            value = jnp.asarray(x, real_dtype())
            u = self.transform.inv(value)
            volume = np.asarray(self.transform.log_abs_det_jacobian(u, value), float)
            u, inside = np.asarray(u, float), np.asarray(self.transform.codomain(value))
            inside = inside & np.isfinite(u)
            w, m, s = self.normals
            r = _behind(np.where(inside, u, 0.0), len(self.shape))
            terms = -0.5 * ((r - m) / s) ** 2 - np.log(s) - 0.5 * np.log(2 * np.pi)
            axis = terms.ndim - len(self.shape) - 1
            log_w = np.log(w).reshape(-1, *(1,) * len(self.shape))
            return np.where(inside, logsumexp(terms + log_w, axis=axis) - volume, -np.inf)

    def __repr__(self) -> str:
        how = "exact" if self.exact else "of draws"
        if self.shape == ():
            return f"{self.name} under q: mean {float(self.mean):.4g}, sd {float(self.sd):.4g} ({self.support}; {how})"
        return f"{self.name} under q: {self.support}, shape {self.shape}; {how}\n  mean {self.mean}\n  sd   {self.sd}"

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        if self.normals is None:
            assert self.values is not None
            return self.values.mean(axis=0), self.values.std(axis=0)
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        used = weights > 1e-300
        nodes, weights = nodes[used], weights[used] / weights.sum()
        w, m, s = self.normals
        at = self._map(m + s * nodes.reshape(-1, *(1,) * m.ndim))  # (nodes, K, *shape)
        each = weights.reshape(-1, *(1,) * m.ndim) * w.reshape(-1, *(1,) * len(self.shape))
        mean = np.sum(each * at, axis=(0, 1))
        return mean, np.sqrt(np.sum(each * (at - mean) ** 2, axis=(0, 1)))

    def _map(self, u: np.ndarray) -> np.ndarray:
        with scope(self.precision):
            return np.asarray(self.transform(jnp.asarray(u, real_dtype())), float)


def _behind(u: np.ndarray, event: int) -> np.ndarray:
    """With an axis for the components before the site's own."""
    return np.expand_dims(u, u.ndim - event)


def _normal_quantile(normals: Normals, levels: np.ndarray) -> np.ndarray:
    w, m, s = normals
    if len(w) == 1:
        return m[0] + s[0] * ndtri(levels)
    # The distribution function of a mixture is inverted by halving.
    low = np.min(m + s * ndtri(np.expand_dims(levels, 1)), axis=1)
    high = np.max(m + s * ndtri(np.expand_dims(levels, 1)), axis=1)
    weights = w.reshape(-1, *(1,) * (m.ndim - 1))
    for _ in range(200):
        middle = 0.5 * (low + high)
        below = np.sum(weights * ndtr((np.expand_dims(middle, 1) - m) / s), axis=1) < levels
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)
