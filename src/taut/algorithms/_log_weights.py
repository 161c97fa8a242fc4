r"""Log-weights, $\log w = \log p(x, z) - \log q(z)$ with $z \sim q$: the one place where loops compute them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from taut._precision import real_dtype
from taut.algorithms._closed_form import closed_log_weights
from taut.guides import Flat, Guide, Point
from taut.problem import Program, log_joint


def log_p(program: Program, point: Point, model: Any, inputs: Any) -> Any:
    r"""$\log p_\theta(x, z)$ in nats at a guide's point; traceable.

    Args:
        program: the traced model.
        point: `Flat` coordinates, whose density includes the Jacobian of the map, or values in the model's own space.
        model: unconstrained values of the model's parameters, ``float[num_params]``.
        inputs: `Problem.inputs`.

    Returns:
        A scalar.
    """
    if isinstance(point, Flat):
        whole = jnp.concatenate([point.coordinates, model]) if program.num_params else point.coordinates
        return log_joint(program, whole, point.centredness, *inputs)
    values = {name: jnp.asarray(value, real_dtype()) for name, value in point.items()}
    return sum(program.evaluate("plain", model_holes(program, model), *inputs, values=values).values())


def model_holes(program: Program, model: Any) -> dict[str, Any]:
    """The holes of the model's parameters, from a flat vector."""
    holes, start = {}, 0
    for param in program.params.values():
        holes[param.name] = model[start : start + param.size].reshape(param.coordinate_shape)
        start += param.size
    return holes


@dataclass(frozen=True)
class LogWeights:
    r"""Log-weights of fresh draws; traceable and differentiable in each role of the parameters.

    Args:
        program: the traced model.
        guide: the family.
        key: JAX key; the same draws in every call.
        inputs: `Problem.inputs`; rows of subsampled plates are the same for all particles.
        particles: how many.
        closed_form: take the KL part in closed form; then ``density`` is not read.
    """

    program: Program
    guide: Guide
    key: Any
    inputs: Any
    particles: int
    closed_form: bool = False

    def __call__(self, draw: Any, density: Any, model: Any) -> Any:
        r"""$\log p(x, z_k) - \log q(z_k)$, ``float[particles]``, in nats.

        Args:
            draw: parameters that the draws follow.
            density: parameters inside $\log q$; the same object as ``draw`` saves evaluating $\log q$ again.
            model: unconstrained values of the model's parameters.
        """

        def one(key: Any) -> Any:
            point, log_q = self.guide.sample_and_log_prob(self.program, draw, key, self.inputs)
            if density is not draw:
                log_q = self.guide.log_prob(self.program, density, point, self.inputs)
            return log_p(self.program, point, model, self.inputs) - log_q

        keys = jax.random.split(self.key, self.particles)
        if self.closed_form:
            return closed_log_weights(self.program, self.guide, draw, model, keys, self.inputs)
        return jax.vmap(one)(keys)

    def still(self, draw: Any) -> Any:
        r"""$\log q$ of the same draws at the sites that do not follow their parameters, ``float[particles]``."""

        def one(key: Any) -> Any:
            return self.guide.still_log_prob(self.program, draw, key, self.inputs)

        return jax.vmap(one)(jax.random.split(self.key, self.particles))
