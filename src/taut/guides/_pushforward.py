r"""Latents that are a function of base draws: $\log q(x) = \log q(u) - \log |\det f'(u)|$."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut.core import Site
from taut.handlers import Trace
from taut.problem import Program as Model
from taut.problem import count_compilation

# Draws at which a map is looked at, and Newton steps towards a second point that it may send to the same place.
LOOKS = 16
_STEPS = 40

# Damped steps from each of `LOOKS` draws towards the origin of a point, and how far apart two origins must be, relative
# to their size, to count as two.
_DAMPED = 120
_APART = 1e-4

# Of the largest singular value: below this a map loses a direction.
_SINGULAR = 1e-12


class Runs(Protocol):
    """What this file needs of a guide's binding."""

    @property
    def base(self) -> tuple[str, ...]:
        """Auxiliary draws."""
        ...

    @property
    def pushed(self) -> tuple[str, ...]:
        """Transformed latents."""
        ...

    def run(
        self,
        program: Model,
        inputs: Any,
        *,
        key: Any = None,
        params: Mapping[str, Any] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> Trace:
        """Run the guide; see `Binding.run`."""
        ...


class _Part(NamedTuple):
    """One site among the base draws, or among what is made of them."""

    name: str
    shape: tuple[int, ...]
    coordinate_shape: tuple[int, ...]
    transform: Any

    def coordinates(self, value: Any) -> Any:
        """As many numbers as the value can move in."""
        return jnp.ravel(value if self.transform is None else self.transform.inv(value))

    def value(self, coordinates: Any) -> Any:
        """The way back."""
        u = coordinates.reshape(self.coordinate_shape)
        return u if self.transform is None else self.transform(u)

    def volume(self, value: Any) -> Any:
        """The log determinant of the way back."""
        if self.transform is None:
            return 0.0
        return jnp.sum(self.transform.log_abs_det_jacobian(self.transform.inv(value), value))

    @property
    def size(self) -> int:
        """How many numbers."""
        return int(np.prod(self.coordinate_shape, dtype=int))


def part(name: str, shape: tuple[int, ...], support: Any) -> _Part:
    """A site as numbers: its own where they can move freely, else unconstrained ones, as for a simplex."""
    transform = dist.unconstrainer(support)
    if transform is None or tuple(transform.inverse_shape(shape)) == shape:
        return _Part(name, shape, shape, None)
    return _Part(name, shape, tuple(transform.inverse_shape(shape)), transform)


class Map:
    """The map from base draws to latents in one run of a guide, at fixed values of its other latents.

    Args:
        binding: the guide.
        program: the traced model.
        inputs: `Problem.inputs`.
        params: the guide's parameters.
        sites: a run.
        made: the latents that are made; by default the transformed ones.
    """

    def __init__(
        self, binding: Runs, program: Model, inputs: Any, params: Any, sites: Trace, made: tuple[str, ...] | None = None
    ):
        self.binding, self.program, self.inputs, self.params = binding, program, inputs, params
        self.base = [part(n, tuple(sites[n].fn.shape()), sites[n].fn.support) for n in binding.base]
        self.supports = [sites[n].fn.support for n in binding.base]
        made = binding.pushed if made is None else made
        self.made = [part(n, program.latents[n].shape, program.supports.get(n, dist.constraints.real)) for n in made]
        self.others = {n: s.value for n, s in sites.items() if s.kind == "sample" and n in program.latents}
        self.others = {n: v for n, v in self.others.items() if n not in made}

    def __call__(self, coordinates: Any) -> Any:
        """Coordinates of the made latents, from those of the base draws."""
        # All draws are given; the key is for points, which draw nothing.
        given, key = self.values(coordinates), jax.random.key(0)
        sites = self.binding.run(self.program, self.inputs, key=key, params=self.params, values=given)
        return jnp.concatenate([p.coordinates(sites[p.name].value) for p in self.made])

    def values(self, coordinates: Any) -> dict[str, Any]:
        """Values of base draws at given coordinates, and the other latents."""
        found, start = dict(self.others), 0
        for p in self.base:
            found[p.name] = p.value(coordinates[start : start + p.size])
            start += p.size
        return found

    def at(self, values: Mapping[str, Any]) -> Any:
        """The coordinates of given base draws."""
        return jnp.concatenate([p.coordinates(values[p.name]) for p in self.base])

    def target(self, values: Mapping[str, Any]) -> Any:
        """The coordinates of given made latents."""
        return jnp.concatenate([p.coordinates(values[p.name]) for p in self.made])

    def log_det(self, values: Mapping[str, Any], made: Mapping[str, Any]) -> Any:
        r"""$\log |\det f'|$ between the densities of base draws and of made latents."""
        slope = jnp.linalg.slogdet(jax.jacfwd(self)(self.at(values)))[1]
        volumes = sum(p.volume(made[p.name]) for p in self.made) - sum(p.volume(values[p.name]) for p in self.base)
        return slope + volumes

    def find(self, made: Mapping[str, Any]) -> tuple[Any, Any]:
        """The base coordinates of given latents, searched for from several draws of the guide.

        Returns:
            ``(coordinates, alone)``: the best that was found, and whether it is an origin and the only one found.
        """
        frozen = Map.__new__(Map)
        frozen.__dict__.update(self.__dict__)
        frozen.params, frozen.others, made = jax.lax.stop_gradient((self.params, self.others, dict(made)))
        target = frozen.target(made)
        free = [dist.unconstrainer(s) for s in self.supports]

        def coordinates(numbers: Any) -> Any:
            found, start = [], 0
            for p, transform in zip(self.base, free, strict=True):
                u = numbers[start : start + p.size]
                start += p.size
                # Where a base draw is bounded the search is on the real line.
                found.append(u if transform is None or p.transform is not None else transform(u))
            return jnp.concatenate(found)

        def one(key: Any) -> Any:
            sites = frozen.binding.run(frozen.program, frozen.inputs, key=key, params=frozen.params)
            parts = zip(self.base, free, strict=True)
            begin = [
                p.coordinates(
                    sites[p.name].value if t is None or p.transform is not None else t.inv(sites[p.name].value)
                )
                for p, t in parts
            ]
            return damped(lambda v: frozen(coordinates(v)) - target, jnp.concatenate(begin))

        # The same keys each time: a density is a function.
        ends, misses = jax.vmap(one)(jax.random.split(jax.random.key(0), LOOKS))
        ends = jax.vmap(coordinates)(ends)
        best = ends[jnp.argmin(misses)]
        tolerance = jnp.sqrt(jnp.finfo(best.dtype).eps) * (1.0 + jnp.max(jnp.abs(target)))
        arrived = misses <= tolerance
        apart = jnp.max(jnp.abs(ends - best), axis=1) > _APART * (1.0 + jnp.max(jnp.abs(best)))
        return best, jnp.any(arrived) & ~jnp.any(arrived & apart)

    def solve(self, made: Mapping[str, Any], guess: Any) -> Any:
        """The base coordinates of given latents, near a guess; differentiable in latents and parameters."""
        target = self.target(made)
        frozen = Map.__new__(Map)
        frozen.__dict__.update(self.__dict__)
        frozen.params, frozen.others = jax.lax.stop_gradient((self.params, self.others))
        near = newton(frozen, jax.lax.stop_gradient(target), jax.lax.stop_gradient(guess))
        # The iterations find the point, one more step its slope.
        return near - jnp.linalg.solve(jax.jacfwd(self)(near), self(near) - target)


def newton(fn: Any, target: Any, guess: Any) -> Any:
    """A root of ``fn(u) = target`` by Newton's method; where there is none near, wherever the steps end."""
    tolerance = 100 * jnp.finfo(guess.dtype).eps * (1.0 + jnp.max(jnp.abs(target)))

    def unfinished(state: Any) -> Any:
        count, u = state
        return (count < _STEPS) & (jnp.max(jnp.abs(fn(u) - target)) > tolerance)

    def step(state: Any) -> Any:
        count, u = state
        return count + 1, u - jnp.linalg.solve(jax.jacfwd(fn)(u), fn(u) - target)

    return jax.lax.while_loop(unfinished, step, (0, guess))[1]


def damped(fn: Any, guess: Any) -> tuple[Any, Any]:
    """A root of ``fn`` by damped least squares, and by how much it is missed; never farther off than the guess.

    Source: Marquardt (1963), An algorithm for least-squares estimation of nonlinear parameters.
    """

    def size(residual: Any) -> Any:
        return jnp.where(jnp.all(jnp.isfinite(residual)), jnp.sum(residual**2), jnp.inf)

    def step(_: Any, state: Any) -> Any:
        u, residual, damping = state
        slope = jax.jacfwd(fn)(u)
        matrix = slope.T @ slope
        move = jnp.linalg.solve(matrix + damping * (jnp.trace(matrix) / len(u)) * jnp.eye(len(u)), slope.T @ residual)
        trial = u - move
        after = fn(trial)
        better = size(after) < size(residual)
        return (
            jnp.where(better, trial, u),
            jnp.where(better, after, residual),
            jnp.where(better, damping / 8.0, jnp.maximum(4.0 * damping, 1e-12)),
        )

    u, residual, _ = jax.lax.fori_loop(0, _DAMPED, step, (guess, fn(guess), jnp.asarray(1e-2, guess.dtype)))
    miss = jnp.max(jnp.abs(residual))
    return u, jnp.where(jnp.isfinite(miss), miss, jnp.inf)


def check_counts(sites: Mapping[str, Site], base: list[_Part], made: list[_Part]) -> None:
    """Refuse a map between spaces of different dimensions.

    Raises:
        TautError: ``guide-map``.
    """
    drawn, needed = sum(p.size for p in base), sum(p.size for p in made)
    if drawn == needed:
        return
    first = sites[made[0].name]
    counts = [", ".join(f"{p.name}: {p.size}" for p in parts) for parts in (base, made)]
    raise TautError(
        "guide-map",
        site=first.name,
        source=first.source,
        found=f"{drawn} numbers drawn ({counts[0]}) for {needed} to be made ({counts[1]})",
        expected="as many numbers drawn as made: only then can the map be inverted",
        remedy=f'taut.sample("u", dist.Normal(0, 1).expand([{needed}]).to_event(1), auxiliary=True)',
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def look(recipe: Any, program: Model, made: tuple[str, ...], inputs: Any, params: Any, words: Any) -> Any:
    """A map at some draws: log determinants, how singular, and whether another draw goes to the same place.

    Returns:
        ``(log_det, ratio, twice)``, each of length `LOOKS`.
    """
    count_compilation()
    binding = recipe.binding
    keys = jax.random.split(jax.random.wrap_key_data(words), (LOOKS, 2))

    def one(pair: Any) -> Any:
        sites, elsewhere = (binding.run(program, inputs, key=key, params=params) for key in pair)
        values, others = ({n: s[n].value for n in (*binding.base, *made)} for s in (sites, elsewhere))
        there = Map(binding, program, inputs, params, sites, made)
        u = there.at(values)
        singular = jnp.linalg.svd(jax.jacfwd(there)(u), compute_uv=False)
        ratio = jnp.min(singular) / jnp.max(singular)
        # From another draw, at the same values of the other latents: does it lead to a second origin?
        target = there.target(values)
        second = newton(there, target, there.at(others))
        size = 1.0 + jnp.max(jnp.abs(u))
        slack = jnp.sqrt(jnp.finfo(u.dtype).eps)
        hit = jnp.max(jnp.abs(there(second) - target)) <= slack * 1e-2 * (1.0 + jnp.max(jnp.abs(target)))
        apart = jnp.max(jnp.abs(second - u)) > 1e3 * slack * size
        given = there.values(second)
        inside = jnp.all(
            jnp.stack([jnp.all(dist.contains(sites[n].fn.support, given[n])) for n in binding.base])
        ) & jnp.all(jnp.isfinite(second))
        return there.log_det(values, values), ratio, hit & apart & inside

    return jax.vmap(one)(keys)


def check_map(source: str, made: tuple[str, ...], ratio: Any, twice: Any) -> None:
    """Refuse a map that loses a direction, or that sends two draws to one place.

    Raises:
        TautError: ``guide-map``.
    """
    flat, double = int(np.sum(~(np.asarray(ratio) > _SINGULAR))), int(np.sum(np.asarray(twice)))
    if not flat and not double:
        return
    what = "its slope loses a direction" if flat else "another draw goes to the same place"
    names = ", ".join(map(repr, made))
    raise TautError(
        "guide-map",
        site=made[0],
        source=source,
        found=f"the map to {names} at {flat or double} of {LOOKS} first draws: {what}",
        expected="a smooth map that can be inverted",
        remedy=f'taut.transformed("{made[0]}", shift + scale * u) with scale > 0, or a monotone function of u such as '
        "jnp.exp(u)",
    )
