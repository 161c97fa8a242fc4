r"""A Gaussian for many latents: independent scales, and a few directions in which they move together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._draws import gaussian_log_density, pool
from taut._keys import generator
from taut.guides._gaussian import flat
from taut.guides._guide import Flat, NoiseGuide
from taut.guides._start import Start, first_loc
from taut.problem import Problem, Program

_INITIAL_SCALE = 0.1  # as narrow as the other Gaussians begin
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class LowRank(NoiseGuide):
    r"""A normal whose correlations lie in a few directions, with $O(Dr)$ numbers instead of $D^2$.

    $$z = m + s \odot R u,\qquad R = I + V\,\mathrm{diag}(e^{h} - 1)\,V^\top,\qquad u \sim \mathcal N(0, I),$$

    with $V$ the orthonormal basis (Gram-Schmidt) of the columns of ``directions``: along column k, in units of $s$, the
    spread is $e^{h_k}$ instead of 1, wider or narrower. Hence $\log q$ costs $O(Dr)$ too:
    $R^{-1} = I + V\,\mathrm{diag}(e^{-h} - 1)\,V^\top$ and $\log|R| = \sum_k h_k$.

    Parameters: ``loc`` $m$ ``float[D]``, ``log_scale`` $\log s$ ``float[D]``, ``directions`` ``float[D, r]``,
    ``log_stretch`` $h$ ``float[r]``.

    Args:
        rank: largest number of directions $r$; an algorithm may need fewer, and D latents have no more than D.
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where to begin; near the origin by default.
    """

    rank: int = 10
    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """A narrow round normal where the start says, with random directions."""
        d, rng = problem.dim, generator(key)
        loc = first_loc(self.start, problem, self.centredness, key)
        directions = np.linalg.qr(rng.standard_normal((d, min(self.rank, d))))[0]
        return self.from_moments(loc, np.full(d, _INITIAL_SCALE), directions, np.zeros(directions.shape[1]))

    @staticmethod
    def from_moments(
        loc: np.ndarray, scale: np.ndarray, directions: np.ndarray, log_stretch: np.ndarray
    ) -> dict[str, Any]:
        """Parameters from $m$, $s$, orthonormal columns $V$ and $h$."""
        return {"loc": loc, "log_scale": np.log(scale), "directions": directions, "log_stretch": log_stretch}

    @staticmethod
    def parts(params: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """$s$ ``(D,)``, orthonormal $V$ ``(D, r)`` and $e^h$ ``(r,)`` from the parameters."""
        basis = np.linalg.qr(np.asarray(params["directions"], float))[0]
        return np.exp(np.asarray(params["log_scale"], float)), basis, np.exp(np.asarray(params["log_stretch"], float))

    @classmethod
    def factor(cls, params: Mapping[str, Any]) -> np.ndarray:
        """The square root $\\mathrm{diag}(s) R$ of the covariance, ``(D, D)``; not triangular."""
        scale, basis, stretch = cls.parts(params)
        return scale[:, None] * (np.eye(len(scale)) + (basis * (stretch - 1)) @ basis.T)

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`."""
        return program.dim

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`."""
        basis = jnp.linalg.qr(params["directions"])[0]
        stretched = noise + basis @ (jnp.expm1(params["log_stretch"]) * (noise @ basis))
        z = params["loc"] + jnp.exp(params["log_scale"]) * stretched
        return flat(program, self.centredness, z), _density(noise, params)

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        basis = jnp.linalg.qr(params["directions"])[0]
        stretched = (point.coordinates - params["loc"]) * jnp.exp(-params["log_scale"])
        noise = stretched + basis @ (jnp.expm1(-params["log_stretch"]) * (stretched @ basis))
        return _density(noise, params)

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        scale, basis, stretch = self.parts(params)
        noise = pool(rows, problem.dim, rng)
        z = np.asarray(params["loc"], float) + (noise + ((noise @ basis) * (stretch - 1)) @ basis.T) * scale
        log_det = float(np.log(scale).sum() + np.log(stretch).sum())
        return flat(problem.program, self.centredness, z, np), gaussian_log_density(noise, log_det)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`; ``scale`` is the whole standard deviation."""
        scale, basis, stretch = self.parts(params)
        loc = np.asarray(params["loc"], float)
        spread = scale * np.sqrt(1 + basis**2 @ (stretch**2 - 1))
        found = {}
        for name, latent in problem.latents.items():
            part = problem.layout[name]
            found[name] = {
                "loc": loc[part].reshape(latent.coordinate_shape),
                "scale": spread[part].reshape(latent.coordinate_shape),
                "transform": latent.transform,
            }
        return found


def _density(noise: Any, params: Mapping[str, Any]) -> Any:
    log_det = jnp.sum(params["log_scale"]) + jnp.sum(params["log_stretch"])
    return -0.5 * jnp.sum(noise**2, axis=-1) - 0.5 * noise.shape[-1] * _LOG_2PI - log_det
