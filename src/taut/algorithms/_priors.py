"""Draws that follow the model's own parameters through its priors: what generalised double reparameterisation needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from taut._errors import TautError
from taut._precision import real_dtype
from taut.guides import Flat, Guide, Point
from taut.problem import Problem, Program, fill, model_holes


def learned_priors(program: Program) -> tuple[str, ...]:
    """Latents whose log prior depends on a learned parameter by itself, in program order."""
    return tuple(n for n in program.latents if program.reach["density"][n] & set(program.params))


def check_learned_priors(problem: Problem, guide: Guide) -> None:
    """Refuse learned priors whose draws are no location-scale function of their parameters.

    Raises:
        TautError: ``bad-combination``.
    """
    program = problem.program
    for name in learned_priors(program):
        latent = program.latents[name]
        centred = not latent.hierarchical or getattr(guide, "centredness", 1.0) == 1.0
        if name in program.outputs["prior_location"] and latent.coordinate_shape == latent.shape and centred:
            continue
        raise TautError(
            "bad-combination",
            site=name,
            source=latent.source,
            found=f"GeneralizedDoublyReparam with a learned {latent.family} prior"
            + ("" if centred else " in coordinates that already follow its parameters"),
            expected="a prior of a location-scale family (Normal, StudentT, Laplace, ...), unmasked, as it is written: "
            "the draws of others do not follow their parameters in closed form",
            remedy="gradient=taut.gradients.DoublyReparam()",
        )


def moved_point(program: Program, point: Point, model: Any, inputs: Any) -> Point:
    r"""The same point, following the model's parameters through its learned priors: $m(\theta) + s(\theta)\epsilon$.

    Args:
        program: the traced model.
        point: a draw.
        model: unconstrained values of the model's parameters.
        inputs: `Problem.inputs`.
    """
    point = jax.lax.stop_gradient(point)
    held = jax.lax.stop_gradient(model)
    values = _values(program, point, held, inputs)
    moved = dict(values)
    for name in learned_priors(program):
        loc, scale = _form(program, name, held, inputs, values)
        new_loc, new_scale = _form(program, name, model, inputs, moved)
        loc, scale = jax.lax.stop_gradient((loc, scale))
        moved[name] = new_loc + new_scale * (values[name] - loc) / scale
    if not isinstance(point, Flat):
        return {**point, **{name: moved[name] for name in learned_priors(program)}}
    coordinates = point.coordinates
    for name in learned_priors(program):
        # A latent on the real line, centred, is its own coordinate.
        coordinates = coordinates.at[program.layout[name]].set(jnp.ravel(moved[name]))
    return point._replace(coordinates=coordinates)


def rest_of(program: Program, point: Point, model: Any, inputs: Any, group: str = "") -> dict[str, Any]:
    """Log densities at a point of every site that is no learned prior.

    Args:
        program, point, model, inputs: as for `moved_point`.
        group: ``""`` for sums, ``"_terms"`` for densities before they are summed.
    """
    names = [name for name in program.outputs["density" + group] if name not in learned_priors(program)]
    if isinstance(point, Flat):
        return program.evaluate("density" + group, _holes(program, point, model), *inputs, names=names)
    return program.evaluate("plain" + group, model_holes(program, model), *inputs, values=_real(point), names=names)


def _form(program: Program, name: str, model: Any, inputs: Any, values: Mapping[str, Any]) -> tuple[Any, Any]:
    """Location and scale of a prior at given latents."""
    groups = ["prior_location", "prior_scale"]
    loc, scale = program.evaluate(groups, model_holes(program, model), *inputs, values=values, names=[name])
    return loc[name], scale[name]


def _values(program: Program, point: Point, model: Any, inputs: Any) -> dict[str, Any]:
    if not isinstance(point, Flat):
        return {name: value for name, value in _real(point).items() if name in program.latents}
    return program.evaluate("value", _holes(program, point, model), *inputs, names=list(program.latents))


def _holes(program: Program, point: Flat, model: Any) -> dict[str, Any]:
    return fill(program, point.coordinates, point.centredness, model)


def _real(point: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jnp.asarray(value, real_dtype()) for name, value in point.items()}
