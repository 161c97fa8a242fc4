r"""Gaussian guides on the real line: mean-field, full-rank, and a point.

$q(z) = \mathcal N(m, C C^\top)$ with $C$ diagonal (mean-field) or lower triangular (full-rank); diagonals are kept as
logarithms, so that every real parameter is valid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._draws import pool
from taut.guides._guide import Flat, Guide, NoiseGuide
from taut.guides._start import Start, first_loc
from taut.problem import Problem, Program

_LOG_2PI = math.log(2 * math.pi)

# A fresh guide is narrow, so that its first draws stay where the density is finite.
_INITIAL_SCALE = 0.1


@dataclass(frozen=True)
class MeanField(NoiseGuide):
    r"""Independent normals on the real line: $q(z) = \prod_j \mathcal N(z_j; m_j, s_j^2)$.

    Parameters: ``loc`` $m$ and ``log_scale`` $\log s$, each ``float[D]``.

    Args:
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
    """

    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """A narrow normal near the origin."""
        loc = first_loc(self.start, problem, self.centredness, key)
        return {"loc": loc, "log_scale": np.full(problem.dim, math.log(_INITIAL_SCALE))}

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`."""
        return program.dim

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`."""
        z = params["loc"] + jnp.exp(params["log_scale"]) * noise
        return flat(program, self.centredness, z), _standard(noise) - jnp.sum(params["log_scale"])

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        noise = (point.coordinates - params["loc"]) * jnp.exp(-params["log_scale"])
        return _standard(noise) - jnp.sum(params["log_scale"])

    def log_prob_by_site(
        self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any] | None:
        """See `Guide`: over each site's coordinates."""
        noise = (point.coordinates - params["loc"]) * jnp.exp(-params["log_scale"])
        terms = -0.5 * noise**2 - 0.5 * _LOG_2PI - params["log_scale"]
        return {n: terms[program.layout[n]].reshape(s.coordinate_shape) for n, s in program.latents.items()}

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        noise = pool(rows, problem.dim, rng)
        log_scale = np.asarray(params["log_scale"], float)
        z = np.asarray(params["loc"], float) + noise * np.exp(log_scale)
        return flat(problem.program, self.centredness, z, np), _standard(noise, np) - log_scale.sum()

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`."""
        return by_site(problem, np.asarray(params["loc"]), np.exp(np.asarray(params["log_scale"])))


@dataclass(frozen=True)
class FullRank(NoiseGuide):
    r"""A normal with full covariance on the real line: $q(z) = \mathcal N(z; m, C C^\top)$.

    Parameters: ``loc`` $m$ ``float[D]``, ``log_diagonal`` $\log C_{jj}$ ``float[D]``, ``lower`` ``float[D, D]`` of
    which only the strict lower triangle counts.

    Args:
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
    """

    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """A narrow round normal near the origin."""
        loc = first_loc(self.start, problem, self.centredness, key)
        return self.from_moments(loc, _INITIAL_SCALE * np.eye(problem.dim))

    @staticmethod
    def from_moments(loc: np.ndarray, factor: np.ndarray) -> dict[str, Any]:
        """Parameters of $\\mathcal N(m, C C^\\top)$ from $m$ and lower-triangular $C$ with a positive diagonal."""
        return {"loc": loc, "log_diagonal": np.log(np.diag(factor)), "lower": np.tril(factor, -1)}

    @staticmethod
    def factor(params: Mapping[str, Any]) -> np.ndarray:
        """$C$ from the parameters."""
        return np.tril(np.asarray(params["lower"], float), -1) + np.diag(
            np.exp(np.asarray(params["log_diagonal"], float))
        )

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`."""
        return program.dim

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`."""
        z = params["loc"] + _factor(params) @ noise
        return flat(program, self.centredness, z), _standard(noise) - jnp.sum(params["log_diagonal"])

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        difference = point.coordinates - params["loc"]
        noise = jax.scipy.linalg.solve_triangular(_factor(params), difference, lower=True)
        return _standard(noise) - jnp.sum(params["log_diagonal"])

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        noise = pool(rows, problem.dim, rng)
        z = np.asarray(params["loc"], float) + noise @ self.factor(params).T
        log_q = _standard(noise, np) - np.asarray(params["log_diagonal"], float).sum()
        return flat(problem.program, self.centredness, z, np), log_q

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`."""
        return by_site(problem, np.asarray(params["loc"]), np.linalg.norm(self.factor(params), axis=1))


@dataclass(frozen=True)
class Delta(Guide):
    r"""All mass at one point of the real line; $\log q$ counts as 0, so that the ELBO is the log joint there.

    Parameters: ``loc`` ``float[D]``. What maximises it is the mode in unconstrained coordinates (MAP).

    Args:
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
    """

    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """A point near the origin."""
        return {"loc": first_loc(self.start, problem, self.centredness, key)}

    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[Flat, Any]:
        """See `Guide`."""
        return flat(program, self.centredness, params["loc"]), jnp.zeros((), params["loc"].dtype)

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        return jnp.zeros((), params["loc"].dtype)

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        z = np.repeat(np.asarray(params["loc"], float)[None], rows, axis=0)
        return flat(problem.program, self.centredness, z, np), np.zeros(rows)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`."""
        return by_site(problem, np.asarray(params["loc"]), np.zeros(problem.dim))


def _factor(params: Mapping[str, Any]) -> Any:
    return jnp.tril(params["lower"], -1) + jnp.diag(jnp.exp(params["log_diagonal"]))


def _standard(noise: Any, backend: Any = jnp) -> Any:
    return -0.5 * backend.sum(noise**2, axis=-1) - 0.5 * noise.shape[-1] * _LOG_2PI


def flat(program: Program, centredness: float | tuple[float, ...], z: Any, backend: Any = jnp) -> Flat:
    if isinstance(centredness, tuple):
        return Flat(z, backend.asarray(centredness, z.dtype))
    return Flat(z, backend.where(program.hierarchical, backend.asarray(centredness, z.dtype), 1.0))


def by_site(problem: Problem, loc: np.ndarray, scale: np.ndarray) -> dict[str, dict[str, Any]]:
    found = {}
    for name, latent in problem.latents.items():
        part = problem.layout[name]
        found[name] = {
            "loc": loc[part].reshape(latent.coordinate_shape),
            "scale": scale[part].reshape(latent.coordinate_shape),
            "transform": latent.transform,
        }
    return found
