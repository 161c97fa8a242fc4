"""The fixed-noise ELBO of a guide as functions of one flat vector, and the metric in which it is climbed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular

from taut._precision import real_dtype
from taut.algorithms._log_weights import log_p
from taut.guides import NoiseGuide, with_model
from taut.problem import Problem, Program, count_compilation

_BLOCK = 128  # draws evaluated side by side
# Parameters up to which the guide's whole Fisher matrix is the metric; past it, its diagonal.
_DENSE = 400


class NoiseFit:
    """The objective of one level, counting gradients.

    Args:
        problem, guide: what is fitted.
        params, point: the guide's parameters and the model's, where the fit begins.
        units: the size of a step of the model's parameters.
    """

    def __init__(
        self, problem: Problem, guide: NoiseGuide, params: dict[str, np.ndarray], point: np.ndarray, units: np.ndarray
    ):
        self.problem, self.guide, self.units = problem, guide, units
        self.shapes = tuple((name, np.shape(value)) for name, value in params.items())
        self.start = np.concatenate([*(np.ravel(v) for v in params.values()), point]).astype(float)
        self.own = len(self.start) - len(point)
        self.static = (problem.program, guide, self.shapes)
        self.gradients = 0

    def parts(self, x: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The guide's parameters by name, and the model's."""
        guide, model = _unflatten(x, self.shapes)
        return {name: np.asarray(value) for name, value in guide.items()}, np.asarray(model)

    def value_and_grad(self, x: np.ndarray, noise: np.ndarray, landing: bool = False) -> tuple[float, np.ndarray]:
        """The fixed-noise ELBO and its gradient, or the gradient without its score."""
        total, slope = 0.0, np.zeros_like(x)
        for block, weight in _blocks(noise):
            value, gradient = _objective(*self.static, landing, _real(x), _real(block), _real(weight), *self._inputs)
            total += float(value)
            slope += np.asarray(gradient, float)
        self.gradients += len(noise)
        return total / len(noise), slope / len(noise)

    def fisher(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        r"""$E_q[\nabla\log q\,\nabla\log q^\top]$ of the guide's parameters, or its diagonal where they are many."""
        if not self.guide.evaluable:
            return np.ones(self.own)
        dense = self.own <= _DENSE
        total: Any = 0.0
        for block, weight in _blocks(noise):
            part = _scores(*self.static, dense, _real(x), _real(block), _real(weight), *self._inputs)
            total = total + np.asarray(part, float)
        return total / len(noise)

    def log_weights(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Log weights of draws, ``float64[rows]``."""
        self.gradients += len(noise)
        parts = [
            np.asarray(_weights(*self.static, _real(x), _real(block), *self._inputs), float)[weight > 0]
            for block, weight in _blocks(noise)
        ]
        return np.concatenate(parts)

    @property
    def _inputs(self) -> tuple[Any, ...]:
        return (self.problem.inputs,)


def information_metric(fitted: NoiseFit, noise: np.ndarray, x: np.ndarray) -> Callable[[np.ndarray, bool], np.ndarray]:
    r"""Maps steps of unit information to steps of the parameters, $L^{-\top}$, and gradients back, $L^{-1}$."""
    own, fisher = fitted.own, fitted.fisher(x, noise)
    diagonal = np.diagonal(fisher) if fisher.ndim == 2 else fisher
    floor = 1e-8 * max(float(diagonal.max(initial=0.0)), 1e-300)
    unit = np.concatenate([1 / np.sqrt(np.maximum(diagonal, floor)), fitted.units])
    if fisher.ndim == 1 or not np.isfinite(fisher).all():
        return _diagonal_metric(fitted, x, np.where(np.isfinite(unit), unit, 1.0))
    scaled = fisher * np.outer(unit[:own], unit[:own])
    # Scores of fewer draws than parameters leave directions without information.
    root = np.linalg.cholesky(scaled + (1e-3 if own > len(noise) else 1e-6) * np.eye(own))

    def towards(v: np.ndarray, back: bool) -> np.ndarray:
        head = v[:own] * unit[:own] if back else v[:own]
        head = solve_triangular(root, head, lower=True, trans=0 if back else 1, check_finite=False)
        return np.concatenate([head if back else head * unit[:own], v[own:] * unit[own:]])

    return towards


def _diagonal_metric(fitted: NoiseFit, x: np.ndarray, unit: np.ndarray) -> Callable[[np.ndarray, bool], np.ndarray]:
    """Units for each parameter; for ``loc`` the guide's own map from noise to draws, at its centre."""
    names = [name for name, _ in fitted.shapes]
    dim = fitted.problem.dim
    if dict(fitted.shapes).get("loc") != (dim,) or fitted.guide.noise_size(fitted.problem.program) != dim:
        return lambda v, back: unit * v
    start = sum(int(np.prod(shape)) for _, shape in fitted.shapes[: names.index("loc")])
    part = slice(start, start + dim)

    def towards(v: np.ndarray, back: bool) -> np.ndarray:
        moved = unit * v
        moved[part] = _spread(*fitted.static, back, _real(x), _real(v[part]), fitted.problem.inputs)
        return moved

    return towards


def _real(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, real_dtype())


def _blocks(noise: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Blocks of one size, the last one padded with rows of weight zero."""
    found = []
    for start in range(0, len(noise), _BLOCK):
        block = noise[start : start + _BLOCK]
        weight = np.zeros(_BLOCK)
        weight[: len(block)] = 1.0
        found.append((np.concatenate([block, np.repeat(block[:1], _BLOCK - len(block), axis=0)]), weight))
    return found


def _unflatten(x: Any, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> tuple[dict[str, Any], Any]:
    params, start = {}, 0
    for name, shape in shapes:
        stop = start + int(np.prod(shape))
        params[name] = x[start:stop].reshape(shape)
        start = stop
    return params, x[start:]


def _given(guide: NoiseGuide, x: Any, shapes: Any) -> tuple[Any, Any]:
    """What the guide is called with, and the model's parameters."""
    params, model = _unflatten(x, shapes)
    return with_model(guide, params, model), model


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _objective(
    program: Program, guide: NoiseGuide, shapes: Any, landing: bool, x: Any, noise: Any, weight: Any, inputs: Any
) -> Any:
    count_compilation()

    def total(x: Any) -> Any:
        params, model = _given(guide, x, shapes)

        def one(noise: Any) -> Any:
            point, log_q = guide.push(program, params, noise, inputs)
            if landing:
                log_q = guide.log_prob(program, jax.lax.stop_gradient(params), point, inputs)
            return log_p(program, point, model, inputs) - log_q

        return jnp.sum(jax.vmap(one)(noise) * weight)

    return jax.value_and_grad(total)(x)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _scores(
    program: Program, guide: NoiseGuide, shapes: Any, dense: bool, x: Any, noise: Any, weight: Any, inputs: Any
) -> Any:
    count_compilation()
    params, _ = _given(guide, x, shapes)

    def one(noise: Any) -> Any:
        point = jax.lax.stop_gradient(guide.push(program, params, noise, inputs)[0])
        slope = jax.grad(lambda p: guide.log_prob(program, p, point, inputs))(params)
        return jnp.concatenate([jnp.ravel(slope[name]) for name, _ in shapes])

    scores = jax.vmap(one)(noise)
    return (scores * weight[:, None]).T @ scores if dense else weight @ scores**2


@partial(jax.jit, static_argnums=(0, 1, 2))
def _weights(program: Program, guide: NoiseGuide, shapes: Any, x: Any, noise: Any, inputs: Any) -> Any:
    count_compilation()
    params, model = _given(guide, x, shapes)

    def one(noise: Any) -> Any:
        point, log_q = guide.push(program, params, noise, inputs)
        return log_p(program, point, model, inputs) - log_q

    return jax.vmap(one)(noise)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _spread(program: Program, guide: NoiseGuide, shapes: Any, back: bool, x: Any, v: Any, inputs: Any) -> Any:
    """The linear part of the map from noise to coordinates times a vector, or its transpose."""
    count_compilation()
    params, _ = _given(guide, x, shapes)

    def coordinates(noise: Any) -> Any:
        return guide.push(program, params, noise, inputs)[0].coordinates  # type: ignore[union-attr]

    at = jnp.zeros_like(v)
    return jax.vjp(coordinates, at)[1](v)[0] if back else jax.jvp(coordinates, (at,), (v,))[1]
