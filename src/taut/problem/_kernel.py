"""The kernel: a batch of points in, their log densities and gradients out, compiled once per program."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._precision import Precision, scope
from taut.problem._coordinates import CENTREDNESS, DISCRETE, Latent, Param
from taut.problem._program import Program

# Every call is cut into blocks of this many rows, the last one padded, so that a program compiles once for densities
# and once for values. Measured on a CPU: larger blocks leave the cache, smaller ones pay for more calls, and a second
# size for the few rows of a start costs more to compile than it saves.
BLOCK = 128

# Numbers of a block: where points have very many, as those of networks, fewer make a block.
_MOST_NUMBERS = 2**24

_compilations = threading.local()


def compilations() -> int:
    """How many kernels this thread has compiled so far."""
    return getattr(_compilations, "count", 0)


def count_compilation() -> None:
    """Say that a function is being compiled; the first statement of every jitted function, which runs only then."""
    _compilations.count = compilations() + 1


def fill(program: Program, flat: Any, centredness: Any, model: Any = None) -> dict[str, Any]:
    """The holes of a program at a flat point.

    Args:
        program: the traced model.
        flat: the coordinates of latents, then of parameters; ``float[dim]``.
        centredness: ``float[dim]``; read only at hierarchical latents.
        model: the coordinates of parameters, where ``flat`` holds those of latents alone: what is the same for all
            particles then stays so. Either may be given by name.

    Returns:
        A value per hole.
    """
    latents, params = list(program.latents.values()), list(program.params.values())
    if model is None:
        holes = shaped(latents + params, flat)
    else:
        holes = shaped(latents, flat) | shaped(params, model)
    start = 0
    for latent in latents:
        stop = start + latent.size
        if latent.movable:
            lam = centredness[start:stop].reshape(latent.coordinate_shape)
            holes[latent.name + CENTREDNESS] = lam if latent.hierarchical else jnp.ones_like(lam)
        start = stop
    return holes


def model_holes(program: Program, model: Any) -> dict[str, Any]:
    """The holes of the model's parameters, from a flat vector or by name."""
    return shaped(list(program.params.values()), model)


def shaped(sites: Sequence[Latent | Param], values: Any) -> dict[str, Any]:
    """Coordinates of sites by name and in their shapes, from a vector of all of them.

    The vector's gradient is put together in one piece, not added up from pieces with zeros around them.
    """
    if isinstance(values, Mapping):
        return {site.name: values[site.name].reshape(site.coordinate_shape) for site in sites}
    parts = jax.lax.split(jnp.asarray(values), [site.size for site in sites]) if sites else []
    return {site.name: part.reshape(site.coordinate_shape) for site, part in zip(sites, parts, strict=True)}


def log_joint(program: Program, flat: Any, centredness: Any, inputs: Any, consts: Any, model: Any = None) -> Any:
    """The log joint density of one flat point, in nats; traceable. See `fill`."""
    terms = program.evaluate("density", fill(program, flat, centredness, model), inputs, consts)
    return sum(terms.values())


@partial(jax.jit, static_argnums=0)
def _densities(program: Program, points: Any, centredness: Any, inputs: Any, consts: Any) -> Any:
    count_compilation()

    def one(z: Any) -> Any:
        return log_joint(program, z, centredness, inputs, consts)

    value, gradient = jax.vmap(jax.value_and_grad(one))(points)
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient), axis=-1)
    return jnp.where(finite, value, -jnp.inf), jnp.where(finite[:, None], gradient, 0.0)


@partial(jax.jit, static_argnums=(0, 1))
def _outputs(program: Program, groups: tuple[str, ...], points: Any, centredness: Any, inputs: Any, consts: Any) -> Any:
    count_compilation()

    def one(z: Any) -> Any:
        return program.evaluate(list(groups), fill(program, z, centredness), inputs, consts)

    return jax.vmap(one)(points)


@partial(jax.jit, static_argnums=0)
def _at_values(program: Program, values: Any, params: Any, inputs: Any, consts: Any) -> Any:
    _compilations.count = compilations() + 1

    def one(values: Any) -> Any:
        holes = {name: params[name] for name in program.params}
        plain, derived, learned = program.evaluate(["plain", "value", "param"], holes, inputs, consts, values=values)
        return sum(plain.values()), derived | learned

    return jax.vmap(one)(values)


class Kernel:
    """Log densities, gradients and values of a program on its data, from the host.

    Args:
        program: the traced model.
        leaves: its data, in the order of its inputs.
        precision: what to compute in.

    Attributes:
        dim: number of coordinates, parameters included; the last ``num_params`` belong to the model's parameters.
        gradients: rows evaluated so far, padding left out.
        compilations: kernels compiled so far on behalf of this object.
    """

    def __init__(self, program: Program, leaves: list[Any], precision: Precision):
        self.program = program
        self.precision: Precision = precision
        self.num_params = program.num_params
        self.dim = program.dim + program.num_params
        self.gradients = 0
        self.compilations = 0
        with scope(precision):
            self._inputs = [jax.device_put(_canonical(leaf)) for leaf in leaves]
            self._inputs.append(jax.device_put(np.zeros(2, np.uint32)))
            self._consts = [jax.device_put(_canonical(const)) for const in program.closed.consts]

    def __call__(self, points: np.ndarray, centredness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""$\log p(z)$ and its gradient at each row.

        Args:
            points: ``float[n, dim]``.
            centredness: ``float[dim]``.

        Returns:
            ``(float64[n], float64[n, dim])``. A row that is not finite in value or gradient has density ``-inf`` and
            gradient 0.
        """
        self._continuous()
        rows = len(points)
        self.gradients += rows
        values = np.empty(rows)
        gradients = np.empty((rows, self.dim))
        # All blocks are dispatched before the first is waited for, so that they may run side by side.
        pending = [
            (start, stop, self._call(_densities, (self.program,), block, centredness))
            for start, stop, block in _blocks(points)
        ]
        for start, stop, (value, gradient) in pending:
            values[start:stop] = np.asarray(value)[: stop - start]
            gradients[start:stop] = np.asarray(gradient)[: stop - start]
        return values, gradients

    def outputs(
        self, groups: tuple[str, ...], points: np.ndarray, centredness: np.ndarray
    ) -> tuple[dict[str, np.ndarray], ...]:
        """Groups of named outputs of the program at each row.

        Args:
            groups: ``"value"`` for latents and deterministics, ``"param"``, ``"density"`` for the log joint by site,
                ``"scale"`` and ``"location"`` of hierarchies.
            points: ``float[n, dim]``.
            centredness: ``float[dim]``.

        Returns:
            For each group a mapping from names to ``(n, *shape)``.
        """
        parts = [
            [
                {name: np.asarray(v)[: stop - start] for name, v in group.items()}
                for group in self._call(_outputs, (self.program, groups), block, centredness)
            ]
            for start, stop, block in _blocks(points)
        ]
        return tuple(
            {name: np.concatenate([part[g][name] for part in parts]) for name in parts[0][g]}
            for g in range(len(groups))
        )

    def at_values(
        self, values: Mapping[str, np.ndarray], params: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Log joint and derived values at latents given in the model's own space.

        Args:
            values: latents by name, ``(n, *shape)``.
            params: unconstrained values of the model's parameters, ``float[num_params]``.

        Returns:
            ``log p(x, z)``, ``float64[n]``, and latents, deterministic sites and parameters by name.
        """
        rows = len(next(iter(values.values())))
        learned, start = {}, 0
        for param in self.program.params.values():
            learned[param.name] = params[start : start + param.size].reshape(param.coordinate_shape)
            start += param.size
        densities, parts = np.empty(rows), []
        names = list(values)
        index = np.arange(rows, dtype=float)[:, None]
        for begin, stop, block in _blocks(index):
            take = block[:, 0].astype(int)
            part = {name: np.asarray(values[name])[take] for name in names}
            density, derived = self._call(_at_values, (self.program,), part, learned)
            densities[begin:stop] = np.asarray(density)[: stop - begin]
            parts.append({name: np.asarray(v)[: stop - begin] for name, v in derived.items()})
        return densities, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def constants(self, groups: tuple[str, ...], names: Collection[str] | None = None) -> list[dict[str, np.ndarray]]:
        """Outputs that depend on no coordinate, evaluated once: initial values, observed values, masks."""
        with scope(self.precision):
            # A loop computes all of its outputs at once, from coordinates too: any will do for those asked for here.
            holes = fill(self.program, jnp.zeros(self.dim), jnp.ones(self.dim))
            found = self.program.evaluate(list(groups), holes, self._inputs, self._consts, names=names)
            return [{name: np.asarray(v) for name, v in group.items()} for group in found]

    def _continuous(self) -> None:
        for latent in self.program.latents.values():
            if latent.transform == DISCRETE:
                raise TautError(
                    "discrete-latent",
                    site=latent.name,
                    source=latent.source,
                    found=f"{latent.family}, whose values are discrete",
                    expected="continuous latents, a guide that draws the discrete one, or a model that sums it out",
                    remedy=f'a guide function with taut.sample("{latent.name}", dist.Bernoulli(p)), fitted by SVI',
                )

    def _call(self, function: Any, static: tuple[Any, ...], *arguments: Any) -> Any:
        before = compilations()
        dtype = np.float64 if self.precision == "float64" else np.float32
        with scope(self.precision):
            cast = jax.tree.map(lambda a: np.asarray(a).astype(dtype, copy=False), arguments)
            result = function(*static, *cast, self._inputs, self._consts)
        self.compilations += compilations() - before
        return result


def _canonical(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _blocks(points: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    blocks = []
    size = max(1, min(BLOCK, _MOST_NUMBERS // max(1, points.shape[1])))
    for start in range(0, len(points), size):
        block = points[start : start + size]
        stop = start + len(block)
        if len(block) < size:
            block = np.concatenate([block, np.repeat(block[:1], size - len(block), axis=0)])
        blocks.append((start, stop, block))
    return blocks
