"""A Gaussian that is dense within blocks of sites and independent between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular

from taut._draws import gaussian_log_density, pool
from taut._errors import TautError
from taut.guides._gaussian import by_site, flat
from taut.guides._guide import Flat, NoiseGuide
from taut.guides._start import Start, first_loc
from taut.problem import Problem, Program

_INITIAL_SCALE = 0.1  # as narrow as the other Gaussians begin
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class BlockDense(NoiseGuide):
    r"""Full covariance inside of each block of sites, none between blocks.

    $$q(z) = \prod_b \mathcal N(z_b; m_b, C_b C_b^\top)$$

    Parameters: ``loc`` ``float[D]``, ``log_diagonal`` ``float[D]``, and for each block of more than one coordinate its
    ``lower[mu,tau]``, ``float[n, n]``, of which the strict lower triangle is read.

    Args:
        blocks: groups of sites, ``(("mu", "tau"), ("theta",))``; a site in no group is a block of its own, and by
            default all are.
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where to begin; near the origin by default.

    Raises:
        TautError: ``bad-argument`` for groups that are no sequences of names or that share a site, ``site-missing``
            for a name that is no latent.

    Example:
        >>> def model(y):
        ...     a = taut.sample("a", dist.Normal(0.0, 1.0))
        ...     b = taut.sample("b", dist.Normal(0.0, 1.0))
        ...     c = taut.sample("c", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(a + b, 0.5), obs=y)
        >>> fit = taut.fit(model, dict(y=2.0), guide=taut.guides.BlockDense((("a", "b"),)))
        >>> fit.verdict.level, round(float(fit.log_evidence), 4)
        ('trusted', -2.2133)
    """

    blocks: tuple[tuple[str, ...], ...] | None = None
    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.blocks is None:
            return
        wrong = isinstance(self.blocks, str) or any(isinstance(block, str) for block in self.blocks)
        blocks = () if wrong else tuple(tuple(block) for block in self.blocks)
        names = [name for block in blocks for name in block]
        if wrong or len(set(names)) < len(names):
            raise TautError(
                "bad-argument",
                site="blocks",
                found=f"BlockDense(blocks={self.blocks!r})",
                expected="groups of names, each name in one of them",
                remedy='taut.guides.BlockDense(blocks=(("mu", "tau"), ("theta",)))',
            )
        object.__setattr__(self, "blocks", blocks)

    def bind(self, problem: Problem) -> BlockDense:
        """See `Guide`: the names are checked."""
        self._members(problem.program)
        return self

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """Narrow round normals where the start says."""
        self._members(problem.program)
        loc = first_loc(self.start, problem, self.centredness, key)
        return self.from_gaussian(problem, loc, np.full(problem.dim, _INITIAL_SCALE))

    def from_gaussian(self, problem: Problem, loc: np.ndarray, factor: np.ndarray) -> dict[str, Any]:
        """See `NoiseGuide`: the best member, whose blocks have the inverse of the precision's blocks as covariance."""
        factor = np.asarray(factor, float)
        dense = np.diag(factor) if factor.ndim == 1 else factor
        inverse = solve_triangular(dense, np.eye(len(dense)), lower=True)
        found: dict[str, Any] = {"loc": np.asarray(loc, float), "log_diagonal": np.empty(len(loc))}
        for key, index in self._members(problem.program).items():
            precision = inverse[:, index].T @ inverse[:, index]
            root = np.linalg.cholesky(np.linalg.inv(precision))
            found["log_diagonal"][index] = np.log(np.diag(root))
            if len(index) > 1:
                found[key] = np.tril(root, -1)
        return found

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`."""
        return program.dim

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`."""
        z = params["loc"] + jnp.exp(params["log_diagonal"]) * noise
        for key, index in self._dense(program).items():
            z = z.at[index].add(jnp.tril(params[key], -1) @ noise[index])
        return flat(program, self.centredness, z), jnp.sum(-0.5 * noise**2 - 0.5 * _LOG_2PI - params["log_diagonal"])

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        return jnp.sum(self._terms(program, params, point))

    def log_prob_by_site(
        self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any] | None:
        """See `Guide`: ``None`` where sites share a block."""
        if any(len(block) > 1 for block in self.blocks or ()):
            return None
        terms = self._terms(program, params, point)
        # Elements of a dense site have no density of their own: what is summed are the terms of its Cholesky factor.
        return {n: terms[program.layout[n]].reshape(s.coordinate_shape) for n, s in program.latents.items()}

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        noise = pool(rows, problem.dim, rng)
        log_diagonal = np.asarray(params["log_diagonal"], float)
        z = np.asarray(params["loc"], float) + noise * np.exp(log_diagonal)
        for key, index in self._dense(problem.program).items():
            z[:, index] += noise[:, index] @ np.tril(np.asarray(params[key], float), -1).T
        return flat(problem.program, self.centredness, z, np), gaussian_log_density(noise, float(log_diagonal.sum()))

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`."""
        variance = np.exp(2 * np.asarray(params["log_diagonal"], float))
        for key, index in self._dense(problem.program).items():
            variance[index] += np.sum(np.tril(np.asarray(params[key], float), -1) ** 2, axis=1)
        return by_site(problem, np.asarray(params["loc"]), np.sqrt(variance))

    def square_root(self, problem: Problem, params: Mapping[str, Any]) -> np.ndarray:
        """See `NoiseGuide`."""
        root = np.diag(np.exp(np.asarray(params["log_diagonal"], float)))
        for key, index in self._dense(problem.program).items():
            root[np.ix_(index, index)] += np.tril(np.asarray(params[key], float), -1)
        return root

    def _terms(self, program: Program, params: Mapping[str, Any], point: Any) -> Any:
        difference = point.coordinates - params["loc"]
        noise = difference * jnp.exp(-params["log_diagonal"])
        for key, index in self._dense(program).items():
            factor = jnp.tril(params[key], -1) + jnp.diag(jnp.exp(params["log_diagonal"][index]))
            noise = noise.at[index].set(jax.scipy.linalg.solve_triangular(factor, difference[index], lower=True))
        return -0.5 * noise**2 - 0.5 * _LOG_2PI - params["log_diagonal"]

    def _dense(self, program: Program) -> dict[str, np.ndarray]:
        return {key: index for key, index in self._members(program).items() if len(index) > 1}

    def _members(self, program: Program) -> dict[str, np.ndarray]:
        """The coordinates of each block, by the name of its parameter."""
        named = {name for block in self.blocks or () for name in block}
        unknown = sorted(named - set(program.latents))
        if unknown:
            raise TautError(
                "site-missing",
                site=unknown[0],
                found=f"a block with {unknown[0]!r}",
                expected=f"latents of the model: {', '.join(program.latents)}",
                remedy=f"leave {unknown[0]!r} out of blocks=",
            )
        groups = [block for block in self.blocks or () if block]
        groups += [(name,) for name in program.latents if name not in named]
        places = np.arange(program.dim)
        return {f"lower[{','.join(g)}]": np.concatenate([places[program.layout[n]] for n in g]) for g in groups}
