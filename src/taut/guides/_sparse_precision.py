"""A Gaussian whose precision is as sparse as the model: time series, fields, and hierarchies of many latents."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._draws import gaussian_log_density, pool
from taut._errors import TautError
from taut._precision import real_dtype, scope
from taut.guides._elimination import Elimination, colours, elimination
from taut.guides._gaussian import by_site, flat
from taut.guides._guide import Flat, NoiseGuide
from taut.guides._start import Start, coordinates_of, first_loc, learned
from taut.problem import Problem, Program, count_compilation, log_joint

_INITIAL_SCALE = 0.1  # as narrow as the other Gaussians begin
_LOG_2PI = math.log(2 * math.pi)
_COLUMNS = 128  # of the Hessian at a time
_TRIES = 8  # points at which its pattern is looked at, until two have a finite density
_NOTHING = 1e-10  # an entry below this, in units of its row and column, is rounding
_DIFFERENCE = {"float64": 1e-5, "float32": 1e-2}
_NEWTON_STEPS = 12
_SCORING_DRAWS = 32
_LIFTED = 1e-12  # of a variance: what rounding leaves of one that is none


@dataclass(frozen=True)
class SparsePrecision(NoiseGuide):
    r"""A normal whose precision has entries only where the log joint ties two coordinates (and the fill of its factor).

    Coordinates are taken in an order found once from the model, each given its neighbours among the later ones:

    $$z_v = m_v + \sum_{u \in N(v)} w_{vu} (z_u - m_u) + s_v \epsilon_v
      \iff \Sigma^{-1} = (I - W)^\top S^{-2} (I - W).$$

    Where a posterior is Gaussian it is a member. A chain of $D$ latents has at most $4D$ numbers and is drawn in
    $\log_2 D$ steps; a hierarchy has as many as it has ties. Which coordinates are tied is read off the Hessian of the
    log joint at random points, so that plates, loops and matrices of zeros all count as what they are.

    Parameters: ``loc`` $m$ and ``log_scale`` $\log s$, ``float[D]``, ``weights`` $w$ ``float[n]``; and where the last
    coordinates are all tied to each other, ``lower`` ``float[k, k]``, the strict lower triangle of their factor.

    Args:
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where to begin; near the origin by default.
        edges: the ties, found when the guide is bound to a problem.

    Raises:
        TautError: ``impossible-start`` where no density is finite at which ties could be read off.

    Source: Tan and Nott (2018), Gaussian variational approximation with sparse precision matrices.

    Example:
        >>> def model(y):
        ...     x = taut.sample("x", dist.GaussianRandomWalk(1.0, len(y)))
        ...     taut.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)
        >>> fit = taut.fit(model, dict(y=np.arange(6.0)), guide=taut.guides.SparsePrecision())
        >>> fit.verdict.level
        'trusted'
    """

    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)
    edges: bytes | None = field(default=None, repr=False)

    def bind(self, problem: Problem) -> SparsePrecision:
        """See `Guide`: the ties are found."""
        if self.edges is not None:
            return self
        known = _BOUND.setdefault(problem, {})
        if self.centredness not in known:
            known[self.centredness] = _ties(problem, coordinates_of(problem, self.centredness))
        return replace(self, edges=known[self.centredness])

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """A narrow round normal where the start says."""
        found = self.bind(problem)._elimination(problem.dim)
        loc = first_loc(self.start, problem, self.centredness, key)
        params = {
            "loc": loc,
            "log_scale": np.full(problem.dim, math.log(_INITIAL_SCALE)),
            "weights": np.zeros(found.weights),
        }
        rest = len(found.rest)
        return params if rest < 2 else {**params, "lower": np.zeros((rest, rest))}

    def from_gaussian(self, problem: Problem, loc: np.ndarray, factor: np.ndarray) -> dict[str, Any]:
        """See `NoiseGuide`: of the member nearest to it and the Laplace ones there and uphill, that of highest ELBO."""
        guide, loc, factor = self.bind(problem), np.asarray(loc, float), np.asarray(factor, float)
        tried = [_nearest(guide, loc, factor), *_laplace(guide, problem, loc, factor)]
        return max(tried, key=lambda params: _elbo(guide, problem, params))

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`."""
        return program.dim

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`: from the last level to the first."""
        found = self._elimination(program.dim)
        x = jnp.exp(params["log_scale"]) * noise
        if len(found.rest) > 1:
            x = x.at[found.rest].add(jnp.tril(params["lower"], -1) @ noise[found.rest])
        for level in reversed(found.levels):
            weights = jnp.where(level.real, params["weights"][level.place], 0.0)
            x = x.at[level.nodes].add(jnp.sum(weights * x[level.near], axis=1))
        log_q = jnp.sum(-0.5 * noise**2 - 0.5 * _LOG_2PI - params["log_scale"])
        return flat(program, self.centredness, params["loc"] + x), log_q

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        found = self._elimination(program.dim)
        x = rest = point.coordinates - params["loc"]
        for level in found.levels:
            weights = jnp.where(level.real, params["weights"][level.place], 0.0)
            rest = rest.at[level.nodes].add(-jnp.sum(weights * x[level.near], axis=1))
        noise = rest * jnp.exp(-params["log_scale"])
        if len(found.rest) > 1:
            lower = jnp.tril(params["lower"], -1) + jnp.diag(jnp.exp(params["log_scale"][found.rest]))
            solved = jax.scipy.linalg.solve_triangular(lower, x[found.rest], lower=True)
            noise = noise.at[found.rest].set(solved)
        return jnp.sum(-0.5 * noise**2 - 0.5 * _LOG_2PI - params["log_scale"])

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        noise = pool(rows, problem.dim, rng)
        params = {name: np.asarray(value, float) for name, value in params.items()}
        z = params["loc"] + self._spread(problem, params, noise)
        log_q = gaussian_log_density(noise, float(params["log_scale"].sum()))
        return flat(problem.program, self.centredness, z, np), log_q

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`; ``scale`` is the whole standard deviation."""
        params = {name: np.asarray(value, float) for name, value in params.items()}
        variance = np.zeros(problem.dim)
        for start in range(0, problem.dim, _COLUMNS):
            columns = np.eye(min(_COLUMNS, problem.dim - start), problem.dim, start)
            variance += np.sum(self._spread(problem, params, columns) ** 2, axis=0)
        return by_site(problem, params["loc"], np.sqrt(variance))

    def square_root(self, problem: Problem, params: Mapping[str, Any]) -> np.ndarray:
        """See `NoiseGuide`."""
        given = {name: np.asarray(value, float) for name, value in params.items()}
        return self._spread(problem, given, np.eye(problem.dim)).T

    def _spread(self, problem: Problem, params: Mapping[str, np.ndarray], noise: np.ndarray) -> np.ndarray:
        """``push`` of many rows without ``loc``, in NumPy."""
        found = self.bind(problem)._elimination(problem.dim)
        x = np.exp(params["log_scale"]) * noise
        if len(found.rest) > 1:
            x[:, found.rest] += noise[:, found.rest] @ np.tril(params["lower"], -1).T
        for level in reversed(found.levels):
            weights = np.where(level.real, params["weights"][level.place], 0.0)
            x[:, level.nodes] += np.einsum("kw,nkw->nk", weights, x[:, level.near])
        return x

    def _elimination(self, dim: int) -> Elimination:
        if self.edges is None:
            raise TautError(
                "bad-argument",
                site="guide",
                found="a SparsePrecision guide that is not bound to a problem",
                expected="a guide that knows which latents are tied",
                remedy="guide = taut.guides.bind(guide, problem)",
            )
        return elimination(self.edges, dim)


_BOUND: weakref.WeakKeyDictionary[Problem, dict[Any, bytes]] = weakref.WeakKeyDictionary()


def _ties(problem: Problem, centredness: np.ndarray) -> bytes:
    """Pairs of coordinates with a second derivative of the log joint, at either of two random points."""
    d, rng, point = problem.dim, np.random.default_rng(0), learned(problem)
    tied, seen = np.zeros((d, d), bool), 0
    with scope(problem.precision):
        for attempt in range(_TRIES):
            z = np.concatenate([rng.standard_normal(d) * 0.7**attempt, point])
            columns = [
                np.asarray(_hessian(problem.program, z.astype(real_dtype()), centredness, start, *problem.inputs))
                for start in range(0, d, _COLUMNS)
            ]
            size = np.abs(np.concatenate(columns)[:d, :d].astype(float))
            if not np.isfinite(size).all():
                continue
            largest = np.sqrt(np.maximum(size.max(axis=1, initial=0.0), 1e-300))
            tied |= size > _NOTHING * np.outer(largest, largest)
            seen += 1
            if seen == 2:
                break
    if not seen:
        latent = next(iter(problem.latents.values()))
        raise TautError(
            "impossible-start",
            site=latent.name,
            source=latent.source,
            found=f"second derivatives of the log joint that are not finite at any of {_TRIES} random points",
            expected="a log density with finite second derivatives, which tell what is tied to what",
            remedy="guide=taut.guides.LowRank()",
        )
    rows, columns = np.nonzero(np.triu(tied | tied.T, 1))
    return np.stack([rows, columns], axis=1).astype(np.int32).tobytes()


@partial(jax.jit, static_argnums=0)
def _hessian(program: Program, z: Any, centredness: Any, start: Any, inputs: Any, consts: Any) -> Any:
    """Some columns of the Hessian of the log joint, ``float[_COLUMNS, dim + num_params]``."""
    count_compilation()
    slope = jax.grad(lambda z: log_joint(program, z, centredness, inputs, consts))

    def column(j: Any) -> Any:
        return jax.jvp(slope, (z,), ((jnp.arange(len(z)) == j).astype(z.dtype),))[1]

    return jax.vmap(column)(start + jnp.arange(_COLUMNS))


def _elbo(guide: SparsePrecision, problem: Problem, params: Mapping[str, Any]) -> float:
    """The ELBO on a few draws that are the same for all members, nats."""
    point, log_q = guide.draws(problem, params, _SCORING_DRAWS, np.random.default_rng(0))
    rows = np.concatenate([point.coordinates, np.tile(learned(problem), (_SCORING_DRAWS, 1))], axis=1)
    score = float(np.mean(problem.kernel()(rows, np.asarray(point.centredness, float))[0] - log_q))
    return score if np.isfinite(score) else -np.inf


def _nearest(guide: SparsePrecision, loc: np.ndarray, factor: np.ndarray) -> dict[str, Any]:
    """Each coordinate regressed on its neighbours, as a Gaussian says."""
    dim = len(loc)
    found = guide._elimination(dim)
    params: dict[str, Any] = {"loc": loc, "log_scale": np.empty(dim), "weights": np.zeros(found.weights)}
    rest = found.rest
    if factor.ndim == 1:
        params["log_scale"] = np.log(factor)
        return params if len(rest) < 2 else {**params, "lower": np.zeros((len(rest), len(rest)))}
    cov = factor @ factor.T
    for level in found.levels:
        for k, v in enumerate(level.nodes):
            near = level.near[k][level.real[k]]
            slope = np.linalg.solve(cov[np.ix_(near, near)], cov[near, v])
            params["weights"][level.place[k][level.real[k]]] = slope
            params["log_scale"][v] = 0.5 * math.log(max(cov[v, v] - slope @ cov[near, v], _LIFTED * cov[v, v]))
    root = np.linalg.cholesky(cov[np.ix_(rest, rest)]) if len(rest) else np.zeros((0, 0))
    params["log_scale"][rest] = np.log(np.diag(root))
    return params if len(rest) < 2 else {**params, "lower": np.tril(root, -1)}


def _laplace(guide: SparsePrecision, problem: Problem, loc: np.ndarray, factor: np.ndarray) -> list[dict[str, Any]]:
    """Members with the Hessian as precision: at a point, and where Newton's steps lead from it."""
    assert guide.edges is not None
    d, kernel = problem.dim, problem.kernel()
    point, lam = learned(problem), coordinates_of(problem, guide.centredness)
    spread = factor if factor.ndim == 1 else np.linalg.norm(factor, axis=1)
    colour = colours(guide.edges, d)
    step = _DIFFERENCE[problem.precision]
    pairs = np.frombuffer(guide.edges, np.int32).reshape(-1, 2)

    def at(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.concatenate([z, np.broadcast_to(point, (len(z), len(point)))], axis=1)
        value, gradient = kernel(rows, lam)
        return value, gradient[:, :d]

    def curvature(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moves = (np.arange(colour.max() + 1)[:, None] == colour) * (step * spread)
        _, gradient = at(np.concatenate([z + moves, z - moves]))
        difference = -(gradient[: len(moves)] - gradient[len(moves) :]) / 2
        diagonal = difference[colour, np.arange(d)] / (step * spread)
        i, j = pairs.T
        off = 0.5 * (difference[colour[j], i] / (step * spread[j]) + difference[colour[i], j] / (step * spread[i]))
        return diagonal, off

    best, member = loc, _member(guide, loc, *curvature(loc), spread)
    first = member
    value, gradient = at(best[None])
    for _ in range(_NEWTON_STEPS):
        move = _solve(guide, d, member, gradient[0])
        promise = 0.5 * float(gradient[0] @ move)
        if not promise > 1e-12:
            break
        tries = best + move * 0.5 ** np.arange(8)[:, None]
        values, gradients = at(tries)
        k = int(np.argmax(values))
        if not values[k] > value[0] - 1e-9 * (1 + abs(value[0])):
            break
        best, value, gradient = tries[k], values[k : k + 1], gradients[k : k + 1]
        member = _member(guide, best, *curvature(best), spread)
    return [first, {**member, "loc": best}]


def _solve(guide: SparsePrecision, dim: int, member: Mapping[str, np.ndarray], g: np.ndarray) -> np.ndarray:
    r"""$\Sigma g$ by the member's factor: $A A^\top g$ with $z = A \epsilon$, without forming $A$."""
    found = guide._elimination(dim)
    g, scale = g.copy(), np.exp(member["log_scale"])
    for level in found.levels:
        weights = np.where(level.real, member["weights"][level.place], 0.0)
        np.add.at(g, level.near, weights * g[level.nodes][:, None])
    noise = scale * g
    lower = np.tril(member["lower"], -1) if "lower" in member else None
    if lower is not None:
        noise[found.rest] += lower.T @ g[found.rest]
    x = scale * noise
    if lower is not None:
        x[found.rest] += lower @ noise[found.rest]
    for level in reversed(found.levels):
        weights = np.where(level.real, member["weights"][level.place], 0.0)
        x[level.nodes] += np.sum(weights * x[level.near], axis=1)
    return x


def _member(
    guide: SparsePrecision, loc: np.ndarray, diagonal: np.ndarray, off: np.ndarray, spread: np.ndarray
) -> dict[str, np.ndarray]:
    """The member with a given precision; pivots that are not positive are lifted."""
    assert guide.edges is not None
    dim, found = len(diagonal), guide._elimination(len(diagonal))
    rows: list[dict[int, float]] = [{} for _ in range(dim)]
    for (i, j), value in zip(np.frombuffer(guide.edges, np.int32).reshape(-1, 2).tolist(), off, strict=True):
        rows[i][j] = rows[j][i] = float(value)
    pivot = np.where(np.isfinite(diagonal), diagonal, 0.0)
    least = 1e-3 / spread**2
    log_scale, weights = np.empty(dim), np.zeros(found.weights)
    for level in found.levels:
        for k, v in enumerate(level.nodes):
            p = max(pivot[v], least[v]) if not pivot[v] > 1e-10 * abs(diagonal[v]) else pivot[v]
            near = level.near[k][level.real[k]]
            entries = np.array([rows[v].get(int(u), 0.0) for u in near])
            log_scale[v] = -0.5 * math.log(p)
            weights[level.place[k][level.real[k]]] = -entries / p
            for a, u in enumerate(near):
                pivot[u] -= entries[a] ** 2 / p
                for b in range(a):
                    value = rows[u].get(int(near[b]), 0.0) - entries[a] * entries[b] / p
                    rows[u][int(near[b])] = rows[near[b]][int(u)] = value
    member = {"loc": loc, "log_scale": log_scale, "weights": weights}
    rest = found.rest
    if len(rest):
        precision = np.array([[pivot[u] if u == v else rows[u].get(int(v), 0.0) for v in rest] for u in rest])
        value, vector = np.linalg.eigh(0.5 * (precision + precision.T) * np.outer(spread[rest], spread[rest]))
        root = spread[rest][:, None] * vector / np.sqrt(np.maximum(value, 1e-3 if value.min() <= 0 else 0.0))
        lower = np.asarray(np.linalg.qr(root.T, mode="r")).T
        lower = lower * np.sign(np.diag(lower))
        log_scale[rest] = np.log(np.diag(lower))
        if len(rest) > 1:
            member["lower"] = np.tril(lower, -1)
    return member
