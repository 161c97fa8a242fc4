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
_COLUMNS = 16


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
        run = partial(_curvature, problem.program, sites, whole, jnp.asarray(where), jnp.asarray(lam, real_dtype()))
        u = np.asarray(whole[where], float)
        value, slope, curvature = (np.asarray(v, float) for v in run(u, problem.inputs))
        for _ in range(_STEPS):
            step, promised = _newton(slope, curvature)
            if promised < _ENOUGH * max(1.0, abs(float(value))):
                break
            for shrink in 0.5 ** np.arange(30):
                found = [np.asarray(v, float) for v in run(u + shrink * step, problem.inputs)]
                if found[0] >= value:
                    break
            else:
                break
            u, (value, slope, curvature) = u + shrink * step, found
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
    inverse = np.linalg.solve(factor, np.eye(len(u)))
    covariance = inverse.T @ inverse
    point = np.array(whole, float)
    point[where] = u
    evidence = float(value) + 0.5 * len(u) * math.log(2 * math.pi) - float(np.log(np.diag(factor)).sum())
    return LastLayer(sites, u, covariance, evidence, point, problem)


@partial(jax.jit, static_argnums=(0, 1))
def _curvature(program: Program, sites: tuple[str, ...], whole: Any, where: Any, lam: Any, u: Any, inputs: Any) -> Any:
    names = [n for n in program.outputs["density"] if n in sites or n not in program.latents]

    def density(u: Any) -> Any:
        holes = fill(program, whole.at[where].set(u), lam)
        return sum(program.evaluate("density", holes, *inputs, names=names).values())

    u = u.astype(whole.dtype)
    slope = jax.grad(density)
    columns = jax.lax.map(lambda e: jax.jvp(slope, (u,), (e,))[1], jnp.eye(len(u), dtype=u.dtype), batch_size=_COLUMNS)
    return density(u), slope(u), -0.5 * (columns + columns.T)


def _newton(slope: np.ndarray, curvature: np.ndarray) -> tuple[np.ndarray, float]:
    """An uphill step and the gain that it promises; where the density is not concave, along what it would be."""
    try:
        step = np.linalg.solve(curvature, slope)
        np.linalg.cholesky(curvature)
    except np.linalg.LinAlgError:
        roots, axes = np.linalg.eigh(curvature)
        size = np.maximum(np.abs(roots), 1e-6 * np.abs(roots).max())
        step = axes @ ((axes.T @ slope) / size)
    return step, 0.5 * float(slope @ step)


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
