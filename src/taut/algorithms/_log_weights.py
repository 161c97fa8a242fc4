r"""Log-weights, $\log w = \log p(x, z) - \log q(z)$ with $z \sim q$: the one place where loops compute them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from taut._precision import real_dtype
from taut.algorithms._closed_form import closed_log_weights
from taut.algorithms._closed_pairs import paired_log_weights
from taut.algorithms._priors import moved_point, rest_of
from taut.gradients import Fresh, Noise
from taut.guides import Flat, Guide, NoiseGuide, Point
from taut.guides import Program as GuideProgram
from taut.problem import Program, fill, log_joint, model_holes


def log_p(program: Program, point: Point, model: Any, inputs: Any, rows: Mapping[str, Any] | None = None) -> Any:
    r"""$\log p_\theta(x, z)$ in nats at a guide's point; traceable.

    Args:
        program: the traced model.
        point: `Flat` coordinates, whose density includes the Jacobian of the map, or values in the model's own space.
        model: unconstrained values of the model's parameters, ``float[num_params]``.
        inputs: `Problem.inputs`.
        rows: log densities of sites that stand in place of those at the point; see `Guide.row_densities`.

    Returns:
        A scalar.
    """
    if rows:
        return sum(log_p_parts(program, point, model, inputs, rows))
    if isinstance(point, Flat):
        return log_joint(program, point.coordinates, point.centredness, *inputs, model=model)
    values = {name: jnp.asarray(value, real_dtype()) for name, value in point.items()}
    return sum(program.evaluate("plain", model_holes(program, model), *inputs, values=values).values())


def log_p_parts(
    program: Program, point: Point, model: Any, inputs: Any, rows: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    r"""$\log p$ of the latents, Jacobians included, and of everything else; arguments as for `log_p`."""
    if isinstance(point, Flat):
        rows = dict(rows or {})
        others = [name for name in program.outputs["density"] if name not in rows]
        holes = fill(program, point.coordinates, point.centredness, model)
        terms = program.evaluate("density", holes, *inputs, names=others) | rows
    else:
        values = {name: jnp.asarray(value, real_dtype()) for name, value in point.items()}
        terms = program.evaluate("plain", model_holes(program, model), *inputs, values=values)
    prior = sum((terms[name] for name in terms if name in program.latents), jnp.zeros(()))
    return prior, sum((terms[name] for name in terms if name not in program.latents), jnp.zeros(()))


def _over(fn: Callable[[Any], Any], stacked: Any) -> Any:
    """``vmap``, where there is something to map: an axis of one changes what the compiler makes of the rest."""
    if len(stacked) > 1:
        return jax.vmap(fn)(stacked)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], fn(stacked[0]))


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
        noise: where the noise of a smooth guide comes from.
        kl_weight: weight of $\log p(z) - \log q(z)$; ``None`` is 1.
    """

    program: Program
    guide: Guide
    key: Any
    inputs: Any
    particles: int
    closed_form: bool = False
    noise: Noise = Fresh()
    kl_weight: Any = None

    def __call__(self, draw: Any, density: Any, model: Any) -> Any:
        r"""$\log p(x, z_k) - \log q(z_k)$, ``float[particles]``, in nats.

        Args:
            draw: parameters that the draws follow.
            density: parameters inside $\log q$; the same object as ``draw`` saves evaluating $\log q$ again.
            model: unconstrained values of the model's parameters.
        """

        def one(point: Point, log_q: Any) -> Any:
            if density is not draw:
                log_q = self.guide.log_prob(self.program, density, point, self.inputs)
            rows = self.guide.row_densities(self.program, draw, point, model, self.inputs)
            if self.kl_weight is None:
                return log_p(self.program, point, model, self.inputs, rows) - log_q
            prior, rest = log_p_parts(self.program, point, model, self.inputs, rows)
            return rest + self.kl_weight * (prior - log_q)

        if self.closed_form:
            points = self.each(draw, lambda point, _: point)
            if isinstance(self.guide, GuideProgram):
                return paired_log_weights(self.program, self.guide, draw, model, points, self.inputs)
            return closed_log_weights(self.program, self.guide, draw, model, points, self.inputs)
        return self.each(draw, one)

    def each(self, draw: Any, fn: Callable[[Point, Any], Any]) -> Any:
        """A function of every draw and its log density under the guide."""
        if isinstance(self.guide, NoiseGuide) and self.noise.sort != "fresh":
            guide = self.guide
            noise = self.noise.normals(self.key, self.particles, guide.noise_size(self.program))
            return _over(lambda e: fn(*guide.push(self.program, draw, e, self.inputs)), noise)
        keys = jax.random.split(self.key, self.particles)
        return _over(lambda k: fn(*self.guide.sample_and_log_prob(self.program, draw, k, self.inputs)), keys)

    def still(self, draw: Any) -> Any:
        r"""$\log q$ of the same draws at the sites that do not follow their parameters, ``float[particles]``."""

        def one(key: Any) -> Any:
            return self.guide.still_log_prob(self.program, draw, key, self.inputs)

        return jax.vmap(one)(jax.random.split(self.key, self.particles))

    def quadratic(self, draw: Any, model: Any) -> Any:
        r"""The second-order Taylor polynomial of $\log p$ at the mean of a Gaussian guide, less its mean under q.

        Args:
            draw: parameters that the draws follow; the polynomial itself is held.
            model: unconstrained values of the model's parameters.

        Returns:
            ``float[particles]``, of mean zero.
        """
        guide = self.guide
        assert isinstance(guide, NoiseGuide)
        size = guide.noise_size(self.program)

        def at(noise: Any) -> Flat:
            point, _ = guide.push(self.program, draw, noise, self.inputs)
            assert isinstance(point, Flat)
            return point

        middle = at(jnp.zeros(size, real_dtype()))
        mean, centredness = middle.coordinates, middle.centredness
        spread = jax.vmap(lambda noise: at(noise).coordinates)(jnp.eye(size, dtype=real_dtype())) - mean
        centre = jax.lax.stop_gradient(mean)

        def density(z: Any) -> Any:
            held = jax.lax.stop_gradient(model)
            return log_p(self.program, Flat(z, centredness), held, self.inputs)

        slope, bend = jax.lax.stop_gradient((jax.grad(density)(centre), jax.hessian(density)(centre)))
        known = jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(bend))
        slope, bend = jnp.where(known, slope, 0.0), jnp.where(known, bend, 0.0)

        def polynomial(away: Any) -> Any:
            return slope @ away + 0.5 * away @ bend @ away

        expected = polynomial(mean - centre) + 0.5 * jnp.sum((spread @ bend) * spread)

        def drawn(point: Point, _: Any) -> Any:
            assert isinstance(point, Flat)
            return polynomial(point.coordinates - centre)

        return self.each(draw, drawn) - expected

    def through_priors(self, draw: Any, model: Any) -> tuple[Any, Any]:
        r"""Draws that follow the model's parameters through its learned priors, $z = T(\epsilon; \theta)$.

        Args:
            draw: the guide's parameters, held.
            model: unconstrained values of the model's parameters.

        Returns:
            $\log p$ without the learned priors; and the log-weights, of which the draws alone follow ``model``.
        """
        held = jax.lax.stop_gradient(model)

        def one(point: Point, _: Any) -> tuple[Any, Any]:
            moved = moved_point(self.program, point, model, self.inputs)
            rest = rest_of(self.program, moved, model, self.inputs)
            log_q = self.guide.log_prob(self.program, draw, moved, self.inputs)
            return sum(rest.values(), jnp.zeros(())), log_p(self.program, moved, held, self.inputs) - log_q

        return self.each(draw, one)
