"""Linear response: the covariance that a fitted Gaussian implies and, in a mean-field fit, does not show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from taut._draws import orthogonal_antithetic
from taut._errors import TautError
from taut._keys import generator
from taut.algorithms._algorithm import Solution
from taut.algorithms._deterministic import evaluator
from taut.algorithms._fixed_draws import init
from taut.algorithms._low_rank_shape import Shape, round_shape
from taut.algorithms._mean_field import linear_response as whole_response
from taut.algorithms._mean_field import mean_field_draws
from taut.algorithms._mode_search import centredness_of, precise
from taut.algorithms._moving_frame import lower_indices, metric
from taut.algorithms._polish import polish
from taut.algorithms._starts import Evaluate
from taut.guides import Delta, FullRank, LowRank, MeanField
from taut.problem import Problem

WHOLE_LIMIT = 300  # up to this dimension a mean-field fit gets its whole covariance at once
_STEPS = 200  # most iterations of conjugate gradients
_FEW = 512  # latents up to which draws are white at once
_COLUMNS = 128  # coordinates whose effect on the sites is taken in one call


class Response(NamedTuple):
    """What linear response says of the sites asked for, in the model's own space.

    sd ``(k,)`` and covariance ``(k, k)`` of their scalars, side by side; gradients: what it took; residual: the largest
    relative residual that conjugate gradients left (0 where the whole Hessian was taken): above ``1e-3`` it ran out
    of steps, and the variances are lower limits.
    """

    sd: np.ndarray
    covariance: np.ndarray
    gradients: int
    residual: float = 0.0


def linear_response(
    problem: Problem, solution: Solution, names: str | Sequence[str] | None = None, key: int | jax.Array = 0
) -> Response:
    r"""Posterior covariance of sites by linear response.

    Tilting the target by $t^\top z$ moves the mean of the best q by $\mathrm{Cov}\,t$. With $H$ the negative Hessian of
    the fixed-draw ELBO in the mean and the spread of q,

    $$\mathrm{Cov}(z) = [H^{-1}]_{mm},\qquad
      \mathrm{Cov}(x) = J\,[H^{-1}]_{mm}\,J^\top,\quad J = \partial x/\partial z|_m,$$

    which is exact for a Gaussian posterior, whatever the guide leaves out. $J$ is the identity for sites on the real
    line and comes from differences of the map elsewhere (the delta method). A mean-field guide of at most 300 latents
    takes all of $H$ ($2DM$ gradients); otherwise each scalar costs one run of conjugate gradients on Hessian-vector
    products, $2M$ gradients each, in q's own units, where $H$ is close to diag(1, 2): nothing of size $D^2$ is formed
    for a `MeanField` or `LowRank` guide (of the latter the directions stay, mean and scales answer). For a point it is
    Laplace's covariance. The model's own parameters are held where they are.

    Args:
        problem: the problem on its full data.
        solution: a `MeanField`, `LowRank`, `FullRank` or `Delta` guide at its optimum, with its parameters.
        names: sites; all latents by default.
        key: of the fixed draws.

    Returns:
        `Response`.

    Raises:
        TautError: ``bad-combination`` for another guide; ``no-maximum`` where the solution is no maximum of the ELBO;
            ``site-missing``.

    Source: Giordano, Broderick, Jordan (2018), Covariances, robustness, and variational Bayes.

    Example:
        >>> import numpy as np, taut
        >>> from taut import dist
        >>> def model(y):
        ...     x = taut.sample("x", dist.MultivariateNormal(np.zeros(2), np.array([[1.0, 0.9], [0.9, 1.0]])))
        ...     taut.sample("y", dist.Normal(x[0], 1e3), obs=y)
        >>> problem, guide = taut.Problem(model, dict(y=0.0)), taut.guides.MeanField()
        >>> solution = taut.algorithms.Run()(taut.algorithms.FixedDraws(), problem, guide, 0)
        >>> taut.algorithms.linear_response(problem, solution, "x").covariance.round(4)
        array([[1. , 0.9],
               [0.9, 1. ]])
    """
    wanted = list(problem.latents) if names is None else [names] if isinstance(names, str) else list(names)
    guide, params = solution.guide, solution.params
    if not isinstance(guide, FullRank | LowRank | MeanField | Delta):
        raise TautError(
            "bad-combination",
            found=f"linear response of {type(guide).__name__}",
            expected="a MeanField, LowRank, FullRank or Delta guide: one Gaussian, or a point",
            remedy="taut.fit(model, data, guide=taut.guides.MeanField())",
        )
    if solution.status in ("nonfinite", "diverged"):
        raise _no_maximum(f"the run that found it ended as {solution.status!r}")
    lam = centredness_of(problem, guide.centredness)
    evaluate = evaluator(problem, lam)
    mean, point = np.asarray(params["loc"], float), np.asarray(solution.model_params, float)
    d, difference, rng = len(mean), precise(problem)["difference"], generator(key, 3000)
    if isinstance(guide, Delta):
        row, tight = np.concatenate([mean, point]), precise(problem)
        first = polish(evaluate, row, np.eye(d), **tight)
        mode = polish(evaluate, row, first.factor, **tight)  # again, in units of its own
        if not mode.converged:
            raise _no_maximum("the density has a direction without curvature there")
        directions = _directions(problem, wanted, row, np.diagonal(mode.factor), lam)
        half = directions @ mode.factor
        return _response(half @ half.T, first.gradients + mode.gradients)
    factor: np.ndarray | Shape
    if isinstance(guide, FullRank):
        factor = FullRank.factor(params)
        scale, draws = (
            np.linalg.norm(factor, axis=1),
            orthogonal_antithetic(max(8 * d, 128), d, rng, radii="stratified"),
        )
    else:
        scale, draws = np.exp(np.asarray(params["log_scale"], float)), mean_field_draws(0, d, rng, white=_FEW)
        factor = Shape(mean, *LowRank.parts(params)) if isinstance(guide, LowRank) else round_shape(mean, scale)
    directions = _directions(problem, wanted, np.concatenate([mean, point]), scale, lam)
    if isinstance(guide, MeanField) and d <= WHOLE_LIMIT:
        state = init(evaluate, mean, scale, draws, point=point)
        covariance, used = whole_response(evaluate, state, difference)
        return _response(directions @ covariance @ directions.T, used + len(state.draws))
    try:
        covariance, used, residual = respond(evaluate, mean, factor, point, draws, directions, difference=difference)
    except TautError as error:
        # Few draws may show a direction that rises where the ELBO has none: scalars that many others share.
        if error.code != "no-maximum" or len(draws) >= d:
            raise
        draws = mean_field_draws(0, d, rng)
        covariance, used, residual = respond(evaluate, mean, factor, point, draws, directions, difference=difference)
    return _response(covariance, used)._replace(residual=residual)


def respond(
    evaluate: Evaluate,
    mean: np.ndarray,
    factor: np.ndarray | Shape,
    point: np.ndarray,
    draws: np.ndarray,
    directions: np.ndarray,
    *,
    difference: float = 1e-3,
    tolerance: float = 1e-6,
) -> tuple[np.ndarray, int, float]:
    r"""$J [H^{-1}]_{mm} J^\top$ by conjugate gradients, one run for each row of $J$.

    In the frame ``z = m + C (a + L u)``, with logarithms on the diagonal of ``L``, or of the scales alone where C is a
    `Shape`; the preconditioner is the inverse of what ``H`` is when the target is q itself.

    Args:
        evaluate: rows ``(n, D + P)`` to ``(log_p, gradients)``.
        mean: ``(D,)``.
        factor: ``(D, D)`` lower triangular, ``(D,)`` standard deviations, or a `Shape`.
        point: the model's own parameters, ``(P,)``.
        draws: fixed draws ``(M, D)``.
        directions: $J$, ``(k, D)``.
        difference: length of a difference of gradients, in q's units.
        tolerance: of the residual, relative; the answer's error is its square.

    Returns:
        ``(k, k)``, the number of gradients, and the largest relative residual.
    """
    d = len(mean)
    if isinstance(factor, np.ndarray) and factor.ndim == 2:
        small, pulled = metric(factor, 0), directions @ factor
        gradient = _frame_gradient(evaluate, mean, factor, point, draws)
    else:
        shape = factor if isinstance(factor, Shape) else round_shape(mean, factor)
        small, pulled = metric(shape.scale, 0), shape.back(directions)
        gradient = _shape_gradient(evaluate, shape, point, draws)
    solved = np.empty_like(pulled)
    used, residual = 0, 0.0

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal used
        used += 2 * len(draws)
        h = difference / float(np.linalg.norm(v))
        return (gradient(-h * v) - gradient(h * v)) / (2 * h)

    for k, right in enumerate(pulled):
        x, r = np.zeros(len(small)), np.zeros(len(small))
        r[:d] = right
        p = small * r
        size = first = float(r @ p)
        for _ in range(min(_STEPS, len(small))):
            if size <= tolerance**2 * first:
                break
            q = product(p)
            curvature = float(p @ q)
            if not curvature > 0:
                raise _no_maximum("the ELBO has a direction along which it rises both ways")
            x += (size / curvature) * p
            r -= (size / curvature) * q
            old, size = size, float(r @ (small * r))
            p = small * r + (size / old) * p
        solved[k] = x[:d]
        residual = max(residual, float(np.sqrt(size / first)) if first > 0 else 0.0)
    covariance = pulled @ solved.T
    return 0.5 * (covariance + covariance.T), used, residual


def _frame_gradient(
    evaluate: Evaluate, mean: np.ndarray, factor: np.ndarray, point: np.ndarray, u: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Gradient of the fixed-draw ELBO at ``(a, L)`` of the frame, the lower triangle of ``L`` row by row."""
    m, d = u.shape
    i, j, diagonal = lower_indices(d)

    def gradient(v: np.ndarray) -> np.ndarray:
        a, spread = v[:d], v[d:].copy()
        spread[diagonal] = np.exp(spread[diagonal])
        low = np.zeros((d, d))
        low[i, j] = spread
        gw = _slopes(evaluate, mean + (a + u @ low.T) @ factor.T, point) @ factor
        moment = (gw.T @ u)[i, j] / m
        moment[diagonal] = moment[diagonal] * spread[diagonal] + 1.0
        return np.concatenate([gw.mean(0), moment])

    return gradient


def _shape_gradient(
    evaluate: Evaluate, shape: Shape, point: np.ndarray, u: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """The same at ``(a, b)`` of ``z = m + C a + s exp(b) R u``."""
    m, d = u.shape
    spread = shape.rotate(u) * shape.scale

    def gradient(v: np.ndarray) -> np.ndarray:
        stretched = spread * np.exp(v[d:])
        g = _slopes(evaluate, shape.out(v[:d]) + stretched, point)
        return np.concatenate([shape.back(g.mean(0)), np.einsum("ij,ij->j", g, stretched) / m + 1.0])

    return gradient


def _slopes(evaluate: Evaluate, z: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Gradients in the latents, ``(M, D)``; all must be finite."""
    log_p, g = evaluate(np.concatenate([z, np.broadcast_to(point, (len(z), len(point)))], axis=1))
    if not np.isfinite(log_p).all():
        raise TautError(
            "nonfinite",
            found="a density of zero, or not finite, at a draw of the fitted guide",
            expected="a guide whose draws all have a finite density",
            remedy="taut.fit(model, data), and look at the verdict first",
        )
    return g[:, : z.shape[1]]


def _directions(problem: Problem, names: list[str], row: np.ndarray, scale: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Derivatives of the scalars of the sites in the coordinates of the latents, ``(k, D)``."""
    d = problem.dim
    own = [name for name in names if name in problem.latents and _is_real(problem, name, lam)]
    if len(own) == len(names):
        return np.concatenate([_rows(d, problem.layout[name]) for name in names])
    here = problem.constrain(row[None], lam)
    for name in names:
        if name not in here or name in problem.params:
            raise TautError(
                "site-missing",
                site=name,
                found=f"linear response of {name!r}",
                expected=f"one of {', '.join(n for n in here if n not in problem.params)}",
                remedy="fit.linear_response(name) with the name of a latent or of a deterministic site",
            )
    h = (1e-4 if problem.precision == "float64" else 1e-2) * scale
    parts = []
    for start in range(0, d, _COLUMNS):
        columns = np.arange(start, min(d, start + _COLUMNS))
        rows = np.repeat(row[None, None], 2, axis=0).repeat(len(columns), axis=1)
        rows[0, np.arange(len(columns)), columns] += h[columns]
        rows[1, np.arange(len(columns)), columns] -= h[columns]
        values = problem.constrain(rows.reshape(-1, len(row)), lam)
        flat = np.concatenate([values[name].reshape(2, len(columns), -1) for name in names], axis=2)
        parts.append((flat[0] - flat[1]) / (2 * h[columns])[:, None])
    found = np.concatenate(parts).T
    start = 0
    for name in names:  # differences are exact for the identity up to rounding: leave the rounding out
        size = int(np.prod(here[name].shape[1:]))
        if name in own:
            found[start : start + size] = _rows(d, problem.layout[name])
        start += size
    return found


def _rows(d: int, part: slice) -> np.ndarray:
    """These rows of the identity."""
    return np.eye(part.stop - part.start, d, part.start)


def _is_real(problem: Problem, name: str, lam: np.ndarray) -> bool:
    """Whether a latent is its own coordinate."""
    return problem.latents[name].transform == "identity" and bool(np.all(lam[problem.layout[name]] == 1.0))


def _response(covariance: np.ndarray, gradients: int) -> Response:
    return Response(np.sqrt(np.diagonal(covariance)), covariance, gradients)


def _no_maximum(found: str) -> TautError:
    return TautError(
        "no-maximum",
        found=found,
        expected="a fit that ended at a maximum, which is where linear response is defined",
        remedy="taut.fit(model, data, guide=taut.guides.MeanField(), algorithm=taut.algorithms.FixedDraws(levels=3))",
    )
