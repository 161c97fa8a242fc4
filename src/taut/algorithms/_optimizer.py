"""How a gradient becomes a step: a default without a step size to choose, and optax's optimisers."""

from __future__ import annotations

import abc
import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut.problem import digest

_map = jax.tree.map


class Optimizer(abc.ABC):
    """A rule from gradients to steps. Optimisers are frozen and hashable; equal ones share compilations."""

    @abc.abstractmethod
    def init(self, params: Any) -> Any:
        """The state before the first step."""

    @abc.abstractmethod
    def update(self, gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """Parameters and state after one step uphill; traceable."""

    def marks(self, params: Any) -> bool:
        """Whether an entry whose gradient is not finite is never finite again, without anybody's doing."""
        return False

    @abc.abstractmethod
    def restart(self, params: Any, average: Any, state: Any) -> tuple[Any, Any]:
        """Parameters and state with which the next stage begins, given the average of the last one; traceable."""


class Travelled(NamedTuple):
    """What `Distance` remembers: where the stage began, how far it has come, and the squared gradients met."""

    start: Any
    radius: Any
    squares: Any


@dataclass(frozen=True)
class Distance(Optimizer):
    r"""Distance over gradients, for each coordinate, restarted from averages: no step size to choose.

    $$x_{t+1} = x_t + \frac{\max_{s \le t} |x_s - x_0|}{\sqrt{\sum_{s \le t} g_s^2}} \, g_t$$

    The radius grows geometrically until the optimum is within it, whatever the coordinate's unit; the sum then makes
    the step fall as $1/\sqrt t$. Each stage begins at the average of the last with a smaller radius and no memory of
    its gradients, which forgives a bad start.

    Args:
        radius: first radius, in units of the guide's parameters; too small costs some steps, too large more.
        shrink: factor on the radius from stage to stage.

    Source: Ivgi, Hinder, Carmon (2023), DoG is SGD's best friend; restarts and coordinates are ours.
    """

    radius: float = 0.01
    shrink: float = 0.1

    def init(self, params: Any) -> Travelled:
        """See `Optimizer`."""
        return Travelled(params, _map(lambda x: jnp.full_like(x, self.radius), params), _map(jnp.zeros_like, params))

    def update(self, gradient: Any, state: Travelled, params: Any) -> tuple[Any, Travelled]:
        """See `Optimizer`."""
        radius = _map(lambda r, x, x0: jnp.maximum(r, jnp.abs(x - x0)), state.radius, params, state.start)
        squares = _map(lambda s, g: s + g * g, state.squares, gradient)
        # A gradient that has always been zero moves nothing.
        moved = _map(
            lambda x, r, s, g: x + r * g / jnp.sqrt(jnp.where(s > 0, s, 1.0)), params, radius, squares, gradient
        )
        return moved, Travelled(state.start, radius, squares)

    def marks(self, params: Any) -> bool:
        """See `Optimizer`: infinity over the root of its square is no number."""
        return True

    def restart(self, params: Any, average: Any, state: Travelled) -> tuple[Any, Travelled]:
        """See `Optimizer`."""
        radius = _map(lambda r: r * self.shrink, state.radius)
        return average, Travelled(average, radius, _map(jnp.zeros_like, average))


@dataclass(frozen=True)
class Optax(Optimizer):
    """An optax optimiser, told apart by what it computes: two of ``optax.adam(1e-2)`` are one.

    Args:
        transformation: an optax ``GradientTransformation``.
        fingerprint: of its equations, from `optimizer_for`.
    """

    transformation: Any = field(compare=False)
    fingerprint: str

    def init(self, params: Any) -> Any:
        """See `Optimizer`."""
        return self.transformation.init(params)

    def update(self, gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """See `Optimizer`."""
        # optax walks downhill.
        updates, state = self.transformation.update(_map(jnp.negative, gradient), state, params)
        return _map(lambda x, u: (x + u).astype(x.dtype), params, updates), state

    def marks(self, params: Any) -> bool:
        """See `Optimizer`; tried out."""
        leaves, treedef = jax.tree.flatten(params)
        return _marks(self, treedef, tuple((np.shape(x), str(jnp.result_type(x))) for x in leaves))

    def restart(self, params: Any, average: Any, state: Any) -> tuple[Any, Any]:
        """The user's optimiser goes on as it was; averages are only read."""
        return params, state


def optimizer_for(choice: Any, params: Any) -> Optimizer:
    """The optimiser that a user's choice stands for.

    Args:
        choice: ``None``, an `Optimizer`, or an optax ``GradientTransformation``.
        params: what it will move.

    Raises:
        TautError: ``bad-argument`` for anything else.
    """
    if choice is None:
        return Distance()
    if isinstance(choice, Optimizer):
        return choice
    if not (callable(getattr(choice, "init", None)) and callable(getattr(choice, "update", None))):
        raise TautError(
            "bad-argument",
            site="optimizer",
            found=f"optimizer={choice!r}",
            expected="an optax optimiser",
            remedy="optimizer=optax.adam(1e-2), or none: the default needs no step size",
        )
    leaves, treedef = jax.tree.flatten(params)
    return Optax(choice, _fingerprint(choice, treedef, tuple((np.shape(x), str(jnp.result_type(x))) for x in leaves)))


@lru_cache(maxsize=64)
def _marks(optimizer: Optax, treedef: Any, shapes: tuple[tuple[tuple[int, ...], str], ...]) -> bool:
    def tried(bad: float) -> Any:
        params = jax.tree.unflatten(treedef, [jnp.ones(shape, dtype) for shape, dtype in shapes])
        gradient = _map(lambda x: jnp.full_like(x, bad), params)
        moved, _ = optimizer.update(gradient, optimizer.init(params), params)
        return [jnp.any(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(moved)]

    return not any(bool(left) for bad in (np.nan, np.inf, -np.inf) for left in jax.jit(tried)(bad))


@lru_cache(maxsize=64)
def _fingerprint(choice: Any, treedef: Any, shapes: tuple[tuple[tuple[int, ...], str], ...]) -> str:
    params = jax.tree.unflatten(treedef, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes])
    state = jax.eval_shape(choice.init, params)
    hasher = hashlib.blake2b(digest_size=16)
    for closed in (jax.make_jaxpr(choice.init)(params), jax.make_jaxpr(choice.update)(params, state, params)):
        hasher.update(digest(closed).encode())
        for const in closed.consts:
            hasher.update(np.asarray(const).tobytes())
    return hasher.hexdigest()
