"""The log density of a guide at values in the model's own space."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut import guides
from taut._errors import TautError
from taut._precision import real_dtype, scope
from taut.fitting._skeleton import Skeleton, fixed_supports, mapping, needs_model
from taut.guides import Flat, Guide
from taut.problem import Problem, Program, count_compilation


def log_density(
    problem: Problem, guide: Guide, params: Mapping[str, Any], own: np.ndarray, example: Any, values: Mapping[str, Any]
) -> Any:
    """See `FittedGuide.log_prob`.

    Args:
        problem: the problem, or what a file keeps of it.
        guide, params: the guide, ready for it.
        own: unconstrained values of the model's parameters.
        example: a point of the guide: its kind, and its coordinates.
        values: as there.
    """
    rows, single = _rows(problem, values)
    if isinstance(guide, guides.Delta):
        raise _no_density("a point has no density", next(iter(rows)))
    with scope(problem.precision):
        if not isinstance(example, Flat):
            given = {n: jnp.asarray(v) for n, v in rows.items()}
            found = _at_values(guide, problem.program, dict(params), given, problem.inputs)
        else:
            lam = np.asarray(example.centredness, float)[: problem.dim]
            u, volume = _coordinates(problem, own, rows, lam)
            fine = np.isfinite(u).all(axis=1) & np.isfinite(volume)
            z = jnp.asarray(np.where(fine[:, None], u, 0.0), real_dtype())
            log_q = _at_coordinates(guide, problem.program, dict(params), z, lam, problem.inputs)
            found = np.where(fine, np.asarray(log_q, float) - np.where(fine, volume, 0.0), -np.inf)
    found = np.asarray(found, float)
    return float(found[0]) if single else found


def _rows(problem: Problem, values: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], bool]:
    latents = problem.latents
    missing = [name for name in latents if name not in values]
    if missing:
        raise TautError(
            "site-missing",
            site=missing[0],
            found=f"values for {', '.join(values) or 'nothing'}",
            expected=f"a value for each of {', '.join(latents)}",
            remedy=f"add {missing[0]!r} to the mapping",
        )
    arrays = {name: np.asarray(values[name]) for name in latents}
    single = all(a.shape == latents[n].shape for n, a in arrays.items())
    lengths = {a.shape[:1] for n, a in arrays.items()}
    for name, array in arrays.items():
        if not single and (array.shape[1:] != latents[name].shape or array.ndim == 0 or len(lengths) > 1):
            raise TautError(
                "bad-argument",
                site=name,
                found=f"a value of shape {array.shape}",
                expected=f"shape {latents[name].shape}, or with one first axis that all sites share",
                remedy="fit.guide.log_prob(fit.guide.sample())",
            )
    return ({n: a[None] for n, a in arrays.items()} if single else arrays), single


def _coordinates(
    problem: Problem, own: np.ndarray, rows: Mapping[str, np.ndarray], lam: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of values, and the log volume of the map there; NaN outside of the support."""
    supports, count = fixed_supports(problem), len(next(iter(rows.values())))
    u, volume = np.zeros((count, problem.dim)), np.zeros(count)
    rest = []
    for name, latent in problem.latents.items():
        if latent.transform == "direction":
            raise _no_density("it has one coordinate more than its direction has freedom", name)
        part = problem.layout[name]
        if (latent.hierarchical and bool(np.any(lam[part] != 1))) or name not in supports:
            rest.append(name)
            continue
        support = supports[name]
        transform, x = mapping(support), jnp.asarray(rows[name], real_dtype())
        inside: Any = np.reshape(np.asarray(support(x)), (count, -1)).all(axis=1)
        there = transform.inv(x)
        stretch = np.asarray(transform.log_abs_det_jacobian(there, x), float).reshape(count, -1).sum(axis=1)
        u[:, part] = np.where(inside[:, None], np.asarray(there, float).reshape(count, -1), np.nan)
        volume += np.where(inside, stretch, np.nan)
    if not rest:
        return u, volume
    if isinstance(problem, Skeleton):
        raise needs_model(rest[0], "a map from the real line that depends on other latents")
    whole = np.concatenate([lam, np.ones(problem.num_params)])
    given = {name: np.asarray(value, float) for name, value in rows.items()}
    found = guides.unconstrain(problem, given, np.nan_to_num(u), whole)
    extra = np.broadcast_to(own, (count, problem.num_params))
    points = np.concatenate([found, extra], axis=1)
    moved, plain = problem.kernel().outputs(("density", "plain"), points, whole)
    for name in rest:
        u[:, problem.layout[name]] = found[:, problem.layout[name]]
        volume += moved[name].reshape(count) - plain[name].reshape(count)
    return u, volume


def _no_density(why: str, site: str) -> TautError:
    return TautError(
        "bad-combination",
        site=site,
        found=f"log_prob of {site!r}: {why}",
        expected="a guide with a density over the model's values",
        remedy="taut.fit(model, data, guide=taut.guides.FullRank())",
    )


@partial(jax.jit, static_argnums=(0, 1))
def _at_coordinates(guide: Guide, program: Program, params: Any, z: Any, lam: Any, inputs: Any) -> Any:
    count_compilation()
    real = jax.tree.map(jnp.asarray, params)
    return jax.vmap(lambda row: guide.log_prob(program, real, Flat(row, lam), inputs))(z)


@partial(jax.jit, static_argnums=(0, 1))
def _at_values(guide: Guide, program: Program, params: Any, values: Any, inputs: Any) -> Any:
    count_compilation()
    real = jax.tree.map(jnp.asarray, params)
    return jax.vmap(lambda row: guide.log_prob(program, real, row, inputs))(values)
