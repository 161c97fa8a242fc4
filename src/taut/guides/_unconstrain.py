"""From values in the model's own space to coordinates on the real line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from taut import dist
from taut._errors import TautError
from taut._precision import real_dtype, scope
from taut.problem import Problem, fill

# How far the map may miss a value, relative to its size, before the value counts as outside of the support.
_MISS = {"float64": 1e-6, "float32": 1e-3}


def checked(problem: Problem, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The values, if each is a point of a latent's support in its shape.

    Raises:
        TautError: ``site-missing``, ``bad-argument``.
    """
    found = {}
    for name, value in values.items():
        if name not in problem.latents:
            raise TautError(
                "site-missing",
                site=name,
                found=f"a start for {name!r}",
                expected=f"latents of the model: {', '.join(problem.latents)}",
                remedy=f"leave {name!r} out of At({{...}})",
            )
        latent = problem.latents[name]
        value = np.asarray(value, float)
        if value.shape != latent.shape:
            size = "one number" if latent.shape == () else f"an array of shape {latent.shape}"
            raise TautError(
                "bad-argument",
                site=name,
                source=latent.source,
                found=f"a start of shape {value.shape} for {name!r}",
                expected=size,
                remedy=f'taut.guides.At({{"{name}": '
                + ("1.0" if latent.shape == () else f"np.full({latent.shape}, 1.0)")
                + "})",
            )
        support = problem.program.supports.get(name)
        if not np.all(np.isfinite(value)) or (support is not None and not _inside(problem, support, value)):
            raise _outside(problem, name, value)
        found[name] = value
    return found


def unconstrain(
    problem: Problem, values: Mapping[str, np.ndarray], base: np.ndarray, centredness: np.ndarray
) -> np.ndarray:
    r"""Coordinates of values, $u = T^{-1}(x)$; for hierarchical latents $u = \lambda m + s^{\lambda - 1}(x - m)$.

    Args:
        problem: the problem.
        values: latents by name, ``(n, *shape)``; some may be missing.
        base: coordinates of the latents that are missing, ``float[n, dim]``.
        centredness: the coordinates wanted, ``float[dim + num_params]``.

    Returns:
        ``float[n, dim]``.

    Raises:
        TautError: ``bad-argument`` for a value outside of a support that other latents decide.
    """
    program, rows = problem.program, len(base)
    points = np.concatenate([base, np.zeros((rows, problem.num_params))], axis=1)
    if problem.num_params:
        (inits,) = problem.kernel().constants(("init",))
        points[:, problem.dim :] = np.concatenate([inits[name].ravel() for name in problem.params])
    with scope(problem.precision):
        given = {name: jnp.asarray(value, real_dtype()) for name, value in values.items()}

        def hierarchies(point: Any, given: Any) -> Any:
            holes = fill(program, point, jnp.asarray(centredness, real_dtype()))
            return program.evaluate(["scale", "location"], holes, *problem.inputs, values=given)

        scales, locations = jax.vmap(hierarchies)(jnp.asarray(points, real_dtype()), given)
        for name, value in values.items():
            latent, part = problem.latents[name], problem.layout[name]
            if latent.movable:
                lam = centredness[part].reshape(latent.coordinate_shape) if latent.hierarchical else 1.0
                m, s = np.asarray(locations[name], float), np.asarray(scales[name], float)
                u = lam * m + s ** (lam - 1) * (value - m)
            elif name in program.outputs["coordinate"]:
                # Coordinates that a handler chose know the way back themselves.
                u = _chosen(problem, name, values, points, centredness)
            elif latent.transform == "direction":
                u = value
            elif name in program.supports:
                transform = dist.unconstrainer(program.supports[name])
                assert transform is not None
                u = np.asarray(transform.inv(given[name]), float)
            else:
                u = np.stack([_solve(problem, name, values, points, centredness, row) for row in range(rows)])
            points[:, part] = np.reshape(u, (rows, -1))
    return points[:, : problem.dim]


def _chosen(
    problem: Problem, name: str, values: Mapping[str, np.ndarray], points: np.ndarray, centredness: np.ndarray
) -> np.ndarray:
    """Coordinates in which `taut.handlers.reparam` has put a site."""
    program = problem.program

    def back(point: Any, given: Any) -> Any:
        holes = fill(program, point, jnp.asarray(centredness, real_dtype()))
        return program.evaluate("coordinate", holes, *problem.inputs, values=given, names=[name])[name]

    given = {n: jnp.asarray(v, real_dtype()) for n, v in values.items()}
    return np.asarray(jax.vmap(back)(jnp.asarray(points, real_dtype()), given), float)


def _solve(
    problem: Problem,
    name: str,
    values: Mapping[str, np.ndarray],
    points: np.ndarray,
    centredness: np.ndarray,
    row: int,
) -> np.ndarray:
    """The coordinate of one site whose support depends on other latents, by least squares through the map."""
    program, part = problem.program, problem.layout[name]
    others = {n: jnp.asarray(v[row], real_dtype()) for n, v in values.items() if n != name}
    target = np.asarray(values[name][row], float)

    @jax.jit
    def forward(u: Any) -> Any:
        point = jnp.asarray(points[row], real_dtype()).at[part].set(u)
        holes = fill(program, point, jnp.asarray(centredness, real_dtype()))
        return program.evaluate("value", holes, *problem.inputs, values=others, names=[name])[name].ravel()

    slope = jax.jit(jax.jacfwd(forward))
    found = least_squares(
        lambda u: np.asarray(forward(u), float) - target.ravel(),
        np.zeros(problem.latents[name].size),
        jac=lambda u: np.asarray(slope(u), float),  # type: ignore[arg-type]
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    if not np.max(np.abs(found.fun), initial=0.0) <= _MISS[problem.precision] * (1 + np.max(np.abs(target), initial=0)):
        raise _outside(problem, name, target)
    return found.x


def _inside(problem: Problem, support: Any, value: np.ndarray) -> bool:
    with scope(problem.precision):
        return bool(np.all(np.asarray(dist.contains(support, jnp.asarray(value, real_dtype())))))


def _outside(problem: Problem, name: str, value: np.ndarray) -> TautError:
    latent = problem.latents[name]
    shown = np.asarray(value).ravel()
    text = (
        f"{shown[0]:g}"
        if shown.size == 1
        else f"[{', '.join(f'{v:g}' for v in shown[:4])}{', ...' * (len(shown) > 4)}]"
    )
    return TautError(
        "bad-argument",
        site=name,
        source=latent.source,
        found=f"a start of {text} for {name!r}",
        expected=f"values inside its support, {latent.support}",
        remedy=f'taut.guides.At({{"{name}": ...}}) with a value inside {latent.support}',
    )
