"""Laplace's method for the last layer of a network that was fitted as a point."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular

from taut._errors import TautError
from taut._keys import generator
from taut._precision import real_dtype, scope
from taut.guides import At
from taut.nn._fitted import Fitted, problem_of
from taut.problem import Problem, Program, fill

# Newton steps, and the promised gain at which they end, in nats.
_STEPS = 50
_ENOUGH = 1e-9

# Columns of the Hessian that are taken at once.
_COLUMNS = 64


@dataclass(frozen=True)
class LastLayer:
    r"""A normal over the last layer at the point of all others.

    Attributes:
        sites: the last layer's latents.
        mean: $\hat u$, on the real line, ``float[D]``.
        covariance: $\Lambda^{-1}$, ``float[D, D]``.
        log_evidence: $\log p(y \mid \hat w)$ with the last layer integrated out, by Laplace's method, in nats; exact
            for a linear layer with normal noise.
        point: the whole network, latents and then parameters on the real line, at the mode.
        problem: the problem.
    """

    sites: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray
    log_evidence: float
    point: np.ndarray = field(repr=False)
    problem: Problem = field(repr=False)

    def draws(self, n: int = 1000, key: int | jax.Array = 0) -> dict[str, np.ndarray]:
        """Draws by site, ``(n, *shape)``: the last layer varies, everything else stays at its point."""
        noise = generator(key).normal(size=(n, len(self.mean)))
        points = np.repeat(self.point[None], n, axis=0)
        points[:, _index(self.problem, self.sites)] = self.mean + noise @ np.linalg.cholesky(self.covariance).T
        return self.problem.constrain(points)

    def predict(
        self, data: Mapping[str, Any] | None = None, n: int = 1000, key: int | jax.Array = 0
    ) -> dict[str, np.ndarray]:
        """Predictive draws; ``data`` as for ``fit.predict``."""
        return self.problem.predict(self.draws(n, key), data, key=key)


def last_layer_laplace(
    fit: Fitted, last: str | Iterable[str] | None = None, *, data: Mapping[str, Any] | None = None
) -> LastLayer:
    r"""The Laplace approximation of a network's last layer, the others being held at the point that was fitted.

    $$q(u) = \mathcal N(u; \hat u, \Lambda^{-1}), \qquad \Lambda = -\nabla_u^2 \log p(y, u, \hat w)\big|_{\hat u}$$

    The mode is polished by Newton steps in the last layer alone; the Hessian is that of the log joint itself, prior
    included, so that for a linear last layer with normal noise the result is its exact posterior.

    Args:
        fit: a fit of a network: a point (``guide=taut.guides.Delta()``), or any other, which is taken at its mean.
        last: the layer's name, such as ``"net$layers[2]"``, or names of sites; by default the layer of the last latent.
        data: the data of the curvature; by default the fit's own. A fit on batches of a file needs it.

    Raises:
        TautError: ``site-missing`` for other names, ``flat-direction`` where the curvature has no inverse, ``no-model``
            for a loaded fit, ``bad-combination`` for a fit on a file without ``data``.

    Source: Daxberger, Kristiadi, Immer, Eschenhagen, Bauer, Hennig (2021), Laplace redux; MacKay (1992), A practical
    Bayesian framework for backpropagation networks.

    Example:
        >>> taut.nn.last_layer_laplace(fit).predict(dict(x=x))          # doctest: +SKIP
    """
    problem = problem_of(fit, "taut.nn.last_layer_laplace(fit)")
    if problem.batches is not None:
        data = problem.batches.whole if data is None else data
    if data is not None:
        problem = Problem(problem.model, data, precision=problem.precision)
    elif problem.batches is not None:
        raise TautError(
            "bad-combination",
            site="data",
            found="a fit on batches of a file, and a curvature that is a sum over all rows",
            expected="the rows that the curvature is taken of",
            remedy="taut.nn.last_layer_laplace(fit, data=dict(x=x, y=y))",
        )
    sites = _sites(problem, last)
    values = {name: np.asarray(fit[name].mean) for name in problem.latents}
    lam = problem.centredness()
    z = At(values).points(problem, lam, np.random.default_rng(0), 1)[0]
    learned = _learned(fit, problem)
    where = _index(problem, sites)
    with scope(problem.precision):
        whole = jnp.asarray(np.concatenate([z, learned]), real_dtype())
        static = (problem.program, sites)
        fixed = (whole, jnp.asarray(lam, real_dtype()))
        u = np.asarray(whole[where], float)
        for _ in range(_STEPS):
            value, step, promised = (np.asarray(v, float) for v in _newton(*static, *fixed, u, problem.inputs))
            if promised < _ENOUGH * max(1.0, abs(float(value))):
                break
            for shrink in 0.5 ** np.arange(30):
                if float(_density(*static, *fixed, u + shrink * step, problem.inputs)) >= value:
                    break
            else:
                break
            u = u + shrink * step
        value, curvature = (np.asarray(v, float) for v in _curvature(*static, *fixed, u, problem.inputs))
    try:
        factor = np.linalg.cholesky(curvature)
    except np.linalg.LinAlgError as error:
        raise TautError(
            "flat-direction",
            site=sites[0],
            source=problem.latents[sites[0]].source,
            found="a last layer whose log density does not fall off in every direction at its mode",
            expected="a proper prior for each of its weights",
            remedy="prior=taut.nn.FanIn()",
        ) from error
    inverse = solve_triangular(factor, np.eye(len(u)), lower=True)
    covariance = inverse.T @ inverse
    point = np.array(whole, float)
    point[where] = u
    evidence = float(value) + 0.5 * len(u) * math.log(2 * math.pi) - float(np.log(np.diag(factor)).sum())
    return LastLayer(sites, u, covariance, evidence, point, problem)


def _of_layer(program: Program, sites: tuple[str, ...], whole: Any, lam: Any, inputs: Any) -> Any:
    """The log joint as a function of the last layer, up to what does not depend on it."""
    names = [n for n in program.outputs["density"] if n in sites or n not in program.latents]
    latents = [program.latents[name] for name in sites]
    held = fill(program, whole, lam)

    def density(u: Any) -> Any:
        # Only these holes depend on u: derivatives of the layers below would be long sums of zeros.
        parts = jnp.split(u, np.cumsum([latent.size for latent in latents])[:-1])
        own = {s.name: part.reshape(s.coordinate_shape) for s, part in zip(latents, parts, strict=True)}
        return sum(program.evaluate("density", held | own, *inputs, names=names).values())

    return density


@partial(jax.jit, static_argnums=(0, 1))
def _density(program: Program, sites: tuple[str, ...], whole: Any, lam: Any, u: Any, inputs: Any) -> Any:
    return _of_layer(program, sites, whole, lam, inputs)(u.astype(whole.dtype))


@partial(jax.jit, static_argnums=(0, 1))
def _newton(program: Program, sites: tuple[str, ...], whole: Any, lam: Any, u: Any, inputs: Any) -> Any:
    """The density, an uphill step by conjugate gradients, and the gain that it promises.

    Products with the Hessian are all that is needed: a layer of 400 x 10 takes a second and no matrix. Where the
    density is not concave, the step ends at the first direction that says so.
    """
    u = u.astype(whole.dtype)
    density = _of_layer(program, sites, whole, lam, inputs)
    value, slope = jax.value_and_grad(density)(u)
    _, bent = jax.linearize(jax.grad(density), u)
    enough = jnp.sum(slope**2) * jnp.finfo(u.dtype).eps

    def go_on(state: Any) -> Any:
        _, left, _, done, concave = state
        return concave & (done < 2 * len(u)) & (jnp.sum(left**2) > enough)

    def advance(state: Any) -> Any:
        step, left, along, done, _ = state
        curved = -bent(along)
        height, size = along @ curved, left @ left
        concave = height > 0
        # The very first direction is the gradient: uphill, whatever the curvature.
        length = jnp.where(concave, size / jnp.where(concave, height, 1.0), jnp.where(done == 0, 1.0, 0.0))
        after = left - length * curved
        return step + length * along, after, after + (after @ after) / size * along, done + 1, concave

    opening = (jnp.zeros_like(u), slope, slope, 0, jnp.asarray(True))
    step, *_ = jax.lax.while_loop(go_on, advance, opening)
    return value, step, 0.5 * slope @ step


@partial(jax.jit, static_argnums=(0, 1))
def _curvature(program: Program, sites: tuple[str, ...], whole: Any, lam: Any, u: Any, inputs: Any) -> Any:
    """The density and its negative Hessian, in slabs of columns; what all columns share is computed once."""
    u = u.astype(whole.dtype)
    density = _of_layer(program, sites, whole, lam, inputs)
    _, bent = jax.linearize(jax.grad(density), u)
    columns = jax.lax.map(bent, jnp.eye(len(u), dtype=u.dtype), batch_size=_COLUMNS)
    return density(u), -0.5 * (columns + columns.T)


def _learned(fit: Fitted, problem: Problem) -> np.ndarray:
    solution = getattr(fit, "solution", None)
    return np.zeros(0) if solution is None else np.asarray(solution.model_params, float)


def _sites(problem: Problem, last: str | Iterable[str] | None) -> tuple[str, ...]:
    names = list(problem.latents)
    if last is None:
        # "net$layers[2]" of "net$layers[2].bias"; of "net$bias" the whole module, which is one layer.
        last = names[-1].rpartition(".")[0] or names[-1].partition("$")[0]
    if isinstance(last, str):
        layer = last
        wanted = [n for n in names if n == layer or n.startswith((f"{layer}.", f"{layer}[", f"{layer}$"))]
    else:
        wanted, layer = list(last), ", ".join(last)
    missing = [n for n in wanted if n not in names]
    if missing or not wanted:
        raise TautError(
            "site-missing",
            site=missing[0] if missing else layer,
            found=f"last={layer!r}",
            expected=f"a layer of {', '.join(names)}",
            remedy=f"taut.nn.last_layer_laplace(fit, last={names[-1]!r})",
        )
    return tuple(wanted)


def _index(problem: Problem, sites: Iterable[str]) -> np.ndarray:
    return np.concatenate([np.arange(problem.dim)[problem.layout[name]] for name in sites])
