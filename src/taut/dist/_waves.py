"""Orthonormal waves along the last axis: cosines and Haar's steps, for series of any length."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import jax.scipy.fft
import numpy as np


class Wave(Protocol):
    """An invertible linear map of determinant 1 or -1."""

    @property
    def title(self) -> str:
        """Its name."""
        ...

    def forward(self, x: Any) -> Any:
        """Coefficients of a series."""
        ...

    def inverse(self, u: Any) -> Any:
        """The series of some coefficients."""
        ...


class Cosines(NamedTuple):
    r"""The discrete cosine transform, $u_k = w_k \sum_t x_t c_k(t)$ with orthonormal $c_k$ and $\prod_k w_k = 1$.

    Attributes:
        smooth: $w_k \propto (k + 1)^{\text{smooth}}$: 0 for white noise, 1 for a series that moves like a random walk.

    Source: Ahmed, Natarajan, Rao (1974), Discrete cosine transform.
    """

    smooth: float = 0.0

    @property
    def title(self) -> str:
        """Its name."""
        return "dct"

    def weights(self, n: int) -> np.ndarray:
        """The $w_k$."""
        logs = self.smooth * np.log(np.arange(1, n + 1))
        return np.exp(logs - logs.mean())

    def forward(self, x: Any) -> Any:
        """See `Wave`."""
        return jax.scipy.fft.dct(x, norm="ortho") * self.weights(x.shape[-1])

    def inverse(self, u: Any) -> Any:
        """See `Wave`."""
        return jax.scipy.fft.idct(u / self.weights(u.shape[-1]), norm="ortho")


class Steps(NamedTuple):
    r"""Haar's wavelets: sums and differences of neighbours over $\sqrt 2$, then the same of the sums.

    The last of an odd number of entries goes on to the next level as it is, so any length will do.

    Source: Haar (1910), Zur Theorie der orthogonalen Funktionensysteme.
    """

    @property
    def title(self) -> str:
        """Its name."""
        return "haar"

    def forward(self, x: Any) -> Any:
        """See `Wave`; the sum of all comes first, the finest differences last."""
        parts = []
        while (n := x.shape[-1]) > 1:
            even, odd = x[..., : n - n % 2 : 2], x[..., 1::2]
            parts.append((even - odd) / math.sqrt(2.0))
            x = jnp.concatenate([(even + odd) / math.sqrt(2.0), x[..., n - n % 2 :]], axis=-1)
        return jnp.concatenate([x, *parts[::-1]], axis=-1)

    def inverse(self, u: Any) -> Any:
        """See `Wave`."""
        lengths = [u.shape[-1]]
        while lengths[-1] > 1:
            lengths.append(lengths[-1] - lengths[-1] // 2)
        x, rest = u[..., :1], u[..., 1:]
        for n in lengths[-2::-1]:
            pairs = n // 2
            sums, left, details, rest = x[..., :pairs], x[..., pairs:], rest[..., :pairs], rest[..., pairs:]
            both = jnp.stack([sums + details, sums - details], axis=-1) / math.sqrt(2.0)
            x = jnp.concatenate([both.reshape(*u.shape[:-1], 2 * pairs), left], axis=-1)
        return x
