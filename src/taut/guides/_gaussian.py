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
from taut._errors import TautError
from taut._precision import real_dtype, scope
from taut.guides._guide import Flat, Guide, NoiseGuide
from taut.guides._local import Place, at_place, each_counts, place, wide_dim, wide_layout, wide_shape
from taut.guides._start import Start, first_loc
from taut.problem import Problem, Program, shaped

_LOG_2PI = math.log(2 * math.pi)

# A fresh guide is narrow, so that its first draws stay where the density is finite.
_INITIAL_SCALE = 0.1


def check_scale(title: str, scale: Any) -> None:
    """Refuse a first standard deviation that is none.

    Raises:
        TautError: ``bad-argument``.
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise TautError(
            "bad-argument",
            site="scale",
            found=f"{title}(scale={scale!r})",
            expected="a positive number",
            remedy=f"taut.guides.{title}(scale={_INITIAL_SCALE})",
        )


@dataclass(frozen=True)
class MeanField(NoiseGuide):
    r"""Independent normals on the real line: $q(z) = \prod_j \mathcal N(z_j; m_j, s_j^2)$.

    Parameters: ``loc`` $m$ and ``log_scale`` $\log s$, each ``float[D]``. Latents of a subsampled plate have parameters
    for all N rows; a step draws and moves those of its B rows, each of which counts N/B times.

    Args:
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where to begin; near the origin by default.
        scale: standard deviation of every coordinate at the start; the weights of a network want a smaller one.

    Raises:
        TautError: ``bad-argument`` for a scale that is not positive.

    Example:
        >>> def model(y):
        ...     with taut.plate("rows", 4, subsample_size=2) as rows:
        ...         z = taut.sample("z", dist.Normal(0.0, 1.0))
        ...         taut.sample("y", dist.Normal(z, 1.0), obs=y[rows])
        >>> problem = taut.Problem(model, dict(y=np.array([0.0, 2.0, 4.0, 6.0])), subsample=True)
        >>> problem.dim, taut.guides.MeanField().init(problem, key=0)["loc"].shape
        (2, (4,))
    """

    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)
    scale: float = field(default=_INITIAL_SCALE, compare=False)

    def __post_init__(self) -> None:
        check_scale("MeanField", self.scale)

    @property
    def follows_rows(self) -> bool:
        """See `Guide`."""
        return True

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """A narrow normal where the start says."""
        dim = wide_dim(problem.program)
        loc = first_loc(self.start, problem, self.centredness, key, dim)
        return {"loc": loc, "log_scale": np.full(dim, math.log(self.scale))}

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`."""
        return program.dim

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`."""
        if isinstance(params["loc"], Mapping):
            return self._push_cut(program, params, shaped(list(program.latents.values()), noise))
        there = place(program, inputs)
        here = at_place(there, params)
        z = here["loc"] + jnp.exp(here["log_scale"]) * noise
        return flat(program, self.centredness, z, there=there), jnp.sum(_each(here, noise) * each_counts(there))

    def cut(self, program: Program, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `Guide`; parameters for more rows than the program has stay whole."""
        if wide_dim(program) != program.dim:
            return dict(params)
        return {name: shaped(list(program.latents.values()), value) for name, value in params.items()}

    def joined(self, program: Program, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `Guide`."""
        if wide_dim(program) != program.dim:
            return dict(params)
        return {n: jnp.concatenate([jnp.ravel(value[s]) for s in program.latents]) for n, value in params.items()}

    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[Flat, Any]:
        """See `Guide`; noise of many sites is drawn site by site."""
        if not isinstance(params["loc"], Mapping):
            return super().sample_and_log_prob(program, params, key, inputs)  # type: ignore[return-value]
        keys = jax.random.split(key, max(1, len(program.latents)))
        shapes = {name: latent.coordinate_shape for name, latent in program.latents.items()}
        noise = {n: jax.random.normal(k, shapes[n], real_dtype()) for n, k in zip(shapes, keys, strict=False)}
        return self._push_cut(program, params, noise)

    def _push_cut(self, program: Program, params: Mapping[str, Any], noise: Any) -> tuple[Flat, Any]:
        z, log_q = {}, jnp.zeros((), real_dtype())
        for name, part in noise.items():
            here = {key: value[name] for key, value in params.items()}
            z[name] = here["loc"] + jnp.exp(here["log_scale"]) * part
            # Sums of their own: the compiler reads arrays and makes none.
            log_q -= 0.5 * jnp.sum(part**2) + jnp.sum(here["log_scale"]) + 0.5 * part.size * _LOG_2PI
        return flat(program, self.centredness, jnp.zeros(program.dim, real_dtype()))._replace(coordinates=z), log_q

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        terms = self._terms(program, params, point, inputs)
        return sum(map(jnp.sum, terms.values())) if isinstance(terms, Mapping) else jnp.sum(terms)

    def log_prob_by_site(
        self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any] | None:
        """See `Guide`: over each site's coordinates."""
        return shaped(list(program.latents.values()), self._terms(program, params, point, inputs))

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        noise, there = pool(rows, problem.dim, rng), host_place(problem)
        here = at_place(there, {name: np.asarray(value, float) for name, value in params.items()})
        z = here["loc"] + noise * np.exp(here["log_scale"])
        log_q = np.sum(_each(here, noise) * each_counts(there), axis=-1)
        return flat(problem.program, self.centredness, z, np, there), log_q

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`."""
        return by_site(problem, np.asarray(params["loc"]), np.exp(np.asarray(params["log_scale"])))

    def _terms(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any) -> Any:
        if isinstance(params["loc"], Mapping):
            found = {}
            for name, z in point.coordinates.items():
                here = {key: value[name] for key, value in params.items()}
                found[name] = _each(here, (z - here["loc"]) * jnp.exp(-here["log_scale"]))
            return found
        there = place(program, inputs)
        here = at_place(there, params)
        noise = (point.coordinates - here["loc"]) * jnp.exp(-here["log_scale"])
        return _each(here, noise) * each_counts(there)


@dataclass(frozen=True)
class FullRank(NoiseGuide):
    r"""A normal with full covariance on the real line: $q(z) = \mathcal N(z; m, C C^\top)$.

    Parameters: ``loc`` $m$ ``float[D]``, ``log_diagonal`` $\log C_{jj}$ ``float[D]``, ``lower`` ``float[D, D]`` of
    which only the strict lower triangle counts.

    Args:
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where to begin; near the origin by default.
    """

    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """A narrow round normal where the start says."""
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

    Parameters: ``loc`` ``float[D]``, for all rows of subsampled plates. What maximises it is the mode in unconstrained
    coordinates (MAP).

    Args:
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where to begin; near the origin by default.
    """

    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    @property
    def follows_rows(self) -> bool:
        """See `Guide`."""
        return True

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """The point that the start says."""
        return {"loc": first_loc(self.start, problem, self.centredness, key, wide_dim(problem.program))}

    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[Flat, Any]:
        """See `Guide`."""
        there = place(program, inputs)
        z = at_place(there, params)["loc"]
        return flat(program, self.centredness, z, there=there), jnp.zeros((), z.dtype)

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        return jnp.zeros((), params["loc"].dtype)

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        there = host_place(problem)
        z = np.repeat(at_place(there, {"loc": np.asarray(params["loc"], float)})["loc"][None], rows, axis=0)
        return flat(problem.program, self.centredness, z, np, there), np.zeros(rows)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`."""
        return by_site(problem, np.asarray(params["loc"]), np.zeros(len(params["loc"])))


def _factor(params: Mapping[str, Any]) -> Any:
    return jnp.tril(params["lower"], -1) + jnp.diag(jnp.exp(params["log_diagonal"]))


def _standard(noise: Any, backend: Any = jnp) -> Any:
    return -0.5 * backend.sum(noise**2, axis=-1) - 0.5 * noise.shape[-1] * _LOG_2PI


def flat(
    program: Program, centredness: float | tuple[float, ...], z: Any, backend: Any = jnp, there: Place | None = None
) -> Flat:
    if isinstance(centredness, tuple):
        given = backend.asarray(centredness, z.dtype)
        if there is not None:
            given = backend.concatenate([given[there.index], given[wide_dim(program) :]])
        return Flat(z, given)
    return Flat(z, backend.where(program.hierarchical, backend.asarray(centredness, z.dtype), 1.0))


def host_place(problem: Problem) -> Place | None:
    with scope(problem.precision):
        there = place(problem.program, problem.inputs)
        return None if there is None else there._replace(index=np.asarray(there.index))


def _each(params: Mapping[str, Any], noise: Any) -> Any:
    """Log density of each coordinate."""
    return -0.5 * noise**2 - 0.5 * _LOG_2PI - params["log_scale"]


def by_site(problem: Problem, loc: np.ndarray, scale: np.ndarray) -> dict[str, dict[str, Any]]:
    """`Guide.named` of independent coordinates, or of the margins of others."""
    found = {}
    for name, part in wide_layout(problem.program).items():
        latent = problem.latents[name]
        shape = wide_shape(problem.program, latent)
        found[name] = {
            "loc": loc[part].reshape(shape),
            "scale": scale[part].reshape(shape),
            "transform": latent.transform,
        }
    return found
