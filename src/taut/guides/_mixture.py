r"""A mixture of full-rank Gaussians: what several modes of comparable mass need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular

from taut._draws import gaussian_log_density, pool
from taut._keys import generator
from taut.guides._gaussian import FullRank, flat
from taut.guides._guide import Flat, Guide
from taut.guides._start import Mode, Start, coordinates_of
from taut.problem import Problem, Program


@dataclass(frozen=True)
class GaussianMixture(Guide):
    r"""$q(z) = \sum_k w_k \, \mathcal N(z; m_k, C_k C_k^\top)$ on the real line.

    Parameters: ``log_weight`` ``float[K]`` (normalised by softmax), ``loc`` ``float[K, D]``, ``log_diagonal``
    ``float[K, D]``, ``lower`` ``float[K, D, D]``.

    Args:
        components: number of components $K$.
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where the components begin; by default at the ends of several climbs, as far apart as they go.
    """

    components: int
    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """Narrow normals at different points of the start: two that begin at one mode seldom part."""
        start = Mode() if self.start is None else self.start
        rng = generator(key)
        loc = start.apart(problem, coordinates_of(problem, self.centredness), rng, self.components)
        return self.from_moments(np.ones(self.components), loc, np.stack([0.1 * np.eye(problem.dim)] * self.components))

    @staticmethod
    def from_moments(weights: np.ndarray, means: np.ndarray, factors: np.ndarray) -> dict[str, Any]:
        """Parameters from weights ``[K]``, means ``[K, D]`` and lower-triangular factors ``[K, D, D]``."""
        parts = [FullRank.from_moments(m, c) for m, c in zip(means, factors, strict=True)]
        stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        return {"log_weight": np.log(weights / weights.sum()), **stacked}

    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[Flat, Any]:
        """See `Guide`; the component is drawn, so the draw is not differentiable in the weights."""
        which, noise = jax.random.split(key)
        k = jax.random.categorical(which, jnp.asarray(params["log_weight"]))
        loc, log_diagonal, lower = (jnp.asarray(params[name])[k] for name in ("loc", "log_diagonal", "lower"))
        factor = jnp.tril(lower, -1) + jnp.diag(jnp.exp(log_diagonal))
        point = flat(program, self.centredness, loc + factor @ jax.random.normal(noise, loc.shape, loc.dtype))
        return point, self.log_prob(program, params, point)

    @property
    def still(self) -> dict[str, str]:
        """See `Guide`: the component is drawn."""
        return {"log_weight": "GaussianMixture"}

    def still_log_prob(self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None) -> Any:
        """See `Guide`."""
        which, _ = jax.random.split(key)
        log_weight = jax.nn.log_softmax(jnp.asarray(params["log_weight"]))
        return log_weight[jax.random.categorical(which, jax.lax.stop_gradient(log_weight))]

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""

        def one(loc: Any, log_diagonal: Any, lower: Any) -> Any:
            part = {"loc": loc, "log_diagonal": log_diagonal, "lower": lower}
            return FullRank(self.centredness).log_prob(program, part, point)

        terms = jax.vmap(one)(params["loc"], params["log_diagonal"], params["lower"])
        return jax.nn.logsumexp(jax.nn.log_softmax(params["log_weight"]) + terms)

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`; the components get ``rows`` in proportion to their weights, rounded at random."""
        mix = _mixture_of(params)
        z, _ = mixture_draws(rows, mix, rng)
        rng.shuffle(z)
        return flat(problem.program, self.centredness, z, np), mixture_log_density(z, mix)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`; arrays have a leading axis over components."""
        found: dict[str, dict[str, Any]] = {}
        for name, latent in problem.latents.items():
            part = problem.layout[name]
            factors = [
                FullRank.factor({n: params[n][k] for n in ("log_diagonal", "lower")}) for k in range(self.components)
            ]
            shape = (self.components, *latent.coordinate_shape)
            found[name] = {
                "weight": np.exp(np.asarray(params["log_weight"])),
                "loc": np.asarray(params["loc"])[:, part].reshape(shape),
                "scale": np.stack([np.linalg.norm(c, axis=1)[part] for c in factors]).reshape(shape),
                "transform": latent.transform,
            }
        return found


def _mixture_of(params: Mapping[str, Any]) -> Mixture:
    weights = np.exp(np.asarray(params["log_weight"], float))
    parts = [{n: params[n][k] for n in ("log_diagonal", "lower")} for k in range(len(weights))]
    return Mixture(
        weights / weights.sum(), np.asarray(params["loc"], float), np.stack([FullRank.factor(part) for part in parts])
    )


class Mixture(NamedTuple):
    """A mixture of Gaussians. weights ``(K,)``, means ``(K, D)``, factors ``(K, D, D)`` lower triangular."""

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray


def mixture(
    means: Sequence[np.ndarray], factors: Sequence[np.ndarray], log_evidences: Sequence[float] | np.ndarray
) -> Mixture:
    r"""Gaussians weighted by the evidence of the mode each of them covers: :math:`w_k = Z_k / \sum_j Z_j`.

    Args:
        means: one ``(D,)`` per mode.
        factors: one ``(D, D)`` lower triangular per mode.
        log_evidences: log of the importance-sampling evidence found with each, nats.

    Returns:
        `Mixture`.
    """
    log_z = np.asarray(log_evidences, dtype=float)
    weights = np.exp(log_z - log_z.max())
    return Mixture(weights / weights.sum(), np.stack(list(means)), np.stack(list(factors)))


def mixture_log_density(z: np.ndarray, mix: Mixture) -> np.ndarray:
    r""":math:`\log\sum_k w_k N(z; m_k, C_k C_k^\top)`, ``(n,)`` nats, with the largest term taken out of the sum."""
    terms = np.empty((len(mix.weights), len(z)))
    for k, (weight, mean, factor) in enumerate(zip(*mix, strict=True)):
        u = solve_triangular(factor, (z - mean).T, lower=True, check_finite=False).T
        log_weight = np.log(weight) if weight > 0 else -np.inf
        terms[k] = log_weight + gaussian_log_density(u, np.log(np.diagonal(factor)).sum())
    top = terms.max(0)
    return top + np.log(np.exp(terms - top).sum(0))


def mixture_draws(rows: int, mix: Mixture, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws stratified by component: every component gets ``rows * weight`` of them, rounded systematically.

    With one uniform ``v``, component k gets the number of points ``v + i`` in its stretch of the cumulated weights;
    its expectation is exactly ``rows * weight``, so averages over the draws stay unbiased.

    Returns:
        Draws ``(rows, D)`` ordered by component, and the component of each ``(rows,)``.
    """
    edges = np.concatenate([[0.0], np.cumsum(mix.weights) * rows])
    edges[-1] = rows
    counts = np.diff(np.ceil(edges - rng.uniform()).clip(0)).astype(int)
    z = [
        mean + pool(count, len(mean), rng) @ factor.T
        for count, mean, factor in zip(counts, mix.means, mix.factors, strict=True)
        if count
    ]
    return np.concatenate(z), np.repeat(np.arange(len(counts)), counts)
