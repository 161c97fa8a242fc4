"""Where the noise of smooth guides comes from."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from taut._errors import TautError
from taut._precision import real_dtype

# Quasi-random points stay this far from 0 and 1, where the normal quantile is infinite.
_EDGE = {"float64": 1e-12, "float32": 1e-7}

# Dimensions for which direction numbers are tabulated.
_MOST_DIMENSIONS = 21_201


class Noise(abc.ABC):
    r"""How the standard normals $\epsilon_1, \dots, \epsilon_K$ of one step are drawn, for draws $z_k = g(\epsilon_k)$.

    Every $\epsilon_k$ by itself is $\mathcal N(0, I)$, so that each estimate keeps its mean; how they depend on one
    another, and on the step, is the choice. Which estimators allow which is in `taut.gradients.TABLE`.

    Attributes:
        sort: ``"fresh"`` for independent draws, ``"balanced"`` for draws of a step that depend on one another,
            ``"fixed"`` for the same draws in every step.
    """

    sort: ClassVar[Literal["fresh", "balanced", "fixed"]]

    @abc.abstractmethod
    def normals(self, key: Any, rows: int, dim: int) -> Any:
        """``float[rows, dim]``; traceable."""


@dataclass(frozen=True)
class Fresh(Noise):
    """Independent draws, new in every step."""

    sort: ClassVar[Literal["fresh", "balanced", "fixed"]] = "fresh"

    def normals(self, key: Any, rows: int, dim: int) -> Any:
        """See `Noise`."""
        keys = jax.random.split(key, rows)
        return jax.vmap(lambda k: jax.random.normal(k, (dim,), real_dtype()))(keys)


@dataclass(frozen=True)
class Antithetic(Noise):
    r"""Draws in pairs $\pm\epsilon$: terms odd in $\epsilon$ cancel, most of a location's noise among them.

    Source: Hammersley, Morton (1956), A new Monte Carlo technique: antithetic variates.
    """

    sort: ClassVar[Literal["fresh", "balanced", "fixed"]] = "balanced"

    def normals(self, key: Any, rows: int, dim: int) -> Any:
        """See `Noise`."""
        half = Fresh().normals(key, (rows + 1) // 2, dim)
        return jnp.concatenate([half, -half])[:rows]


@dataclass(frozen=True)
class Orthogonal(Noise):
    r"""Draws in pairs $\pm\epsilon$ along orthogonal directions, with independent chi lengths.

    Up to $2D$ draws cover as many half-axes of a random frame; more come in further frames.

    Source: Yu, Suresh, Choromanski, Holtmann-Rice, Kumar (2016), Orthogonal random features.
    """

    sort: ClassVar[Literal["fresh", "balanced", "fixed"]] = "balanced"

    def normals(self, key: Any, rows: int, dim: int) -> Any:
        """See `Noise`."""
        half = (rows + 1) // 2
        blocks = -(-half // dim)
        width = min(half, dim)
        frames, lengths = jax.random.split(key)
        raw = jax.random.normal(frames, (blocks, dim, width), real_dtype())
        q, r = jnp.linalg.qr(raw)
        q = q * jnp.sign(jnp.diagonal(r, axis1=1, axis2=2))[:, None, :]
        directions = jnp.swapaxes(q, 1, 2).reshape(blocks * width, dim)[:half]
        radii = jnp.linalg.norm(jax.random.normal(lengths, (half, dim), real_dtype()), axis=1)
        found = directions * radii[:, None]
        return jnp.concatenate([found, -found])[:rows]


@dataclass(frozen=True)
class QuasiMonteCarlo(Noise):
    """Sobol points, scrambled anew in every step by a random digital shift, through the normal quantile function.

    The error of a mean falls faster than with independent draws in few dimensions; powers of two are best.

    Source: Buchholz, Wenzel, Mandt (2018), Quasi-Monte Carlo variational inference; Owen (1997) for scrambling.
    """

    sort: ClassVar[Literal["fresh", "balanced", "fixed"]] = "balanced"

    def normals(self, key: Any, rows: int, dim: int) -> Any:
        """See `Noise`."""
        if dim > _MOST_DIMENSIONS:
            raise TautError(
                "bad-combination",
                site="noise",
                found=f"QuasiMonteCarlo noise in {dim} dimensions",
                expected=f"at most {_MOST_DIMENSIONS:,} dimensions, for which Sobol's numbers are known",
                remedy="noise=taut.gradients.Orthogonal()",
            )
        shift = jax.random.bits(key, (dim,), jnp.uint32)
        digits = jnp.asarray(_sobol(rows, dim)) ^ shift
        uniform = (digits.astype(real_dtype()) + 0.5) * 2.0**-32
        edge = _EDGE[np.dtype(real_dtype()).name]
        return jax.scipy.special.ndtri(jnp.clip(uniform, edge, 1.0 - edge))


@dataclass(frozen=True)
class Fixed(Noise):
    """The same draws in every step: the objective becomes a function without noise, a sample average.

    It is optimised for these draws, so it needs more of them than latents, and says less than it seems: the report
    weighs q on fresh draws.

    Args:
        seed: of the draws.

    Source: Giordano, Ingram, Broderick (2024), Black box variational inference with a deterministic objective.
    """

    seed: int = 0
    sort: ClassVar[Literal["fresh", "balanced", "fixed"]] = "fixed"

    def normals(self, key: Any, rows: int, dim: int) -> Any:
        """See `Noise`."""
        return Orthogonal().normals(jax.random.key(self.seed), rows, dim)


@cache
def _sobol(rows: int, dim: int) -> np.ndarray:
    """The first Sobol points, as whole numbers of 32 bits."""
    points = qmc.Sobol(dim, scramble=False, bits=32).random_base2(max(rows - 1, 0).bit_length())
    return np.floor(points[:rows] * 2.0**32).astype(np.uint32)
