r"""An amortised guide: the latents of a plate are functions of their row's data.

$q(z_i \mid x_i; \phi) = \mathcal N(z_i; m_\phi(x_i), \operatorname{diag} s_\phi(x_i)^2)$ in unconstrained coordinates,
with an encoder $(m_\phi, \log s_\phi)$ that the user gives. What stands outside of the plate has a family of its own.
"""

from __future__ import annotations

import copy
import hashlib
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._draws import orthogonal_antithetic, pool
from taut._errors import TautError
from taut._keys import jax_key
from taut._precision import scope
from taut.guides._encoded import (
    Standing,
    axis_of,
    check_others,
    data_taken,
    frame_of,
    is_batch,
    rows_given,
    sites_of,
    without,
)
from taut.guides._encoder import check_call, names_of_rows, outputs_by_site, take_apart
from taut.guides._gaussian import MeanField
from taut.guides._guide import Flat, NoiseGuide
from taut.guides._part import coordinates_of_part, part_of_problem, part_of_program
from taut.problem import Problem, Program, count_compilation, digest, user_errors

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False, init=False)
class Amortised(NoiseGuide):
    r"""Latents of a plate as functions of their row's data, $q(z_i) = \mathcal N(m_\phi(x_i), s_\phi(x_i)^2)$.

    The encoder sees one row at a time and returns ``loc`` and ``log_scale`` of that row's latents, in unconstrained
    coordinates: a pair of arrays, one array of both, or a mapping from sites to either. Under a subsampled plate only
    the chosen rows are encoded, and each counts N/B times. Other latents belong to ``globals``.

    Args:
        of: the plate; or one or several of its latents, the others in it then belonging to ``globals``.
        encoder: an Equinox module (any callable pytree), whose real arrays are learnt; or a function
            ``(params, *row)``, with ``init``.
        takes: names of the data whose rows the encoder gets, in order; by default those that a function's arguments
            after the first are named after, else all arrays that are as long as the plate.
        init: for a function: its first parameters, a pytree of arrays, or a function from a JAX key to one.
        globals: the family of all other latents: `MeanField`, `FullRank`, `LowRank` or another guide of noise.

    Raises:
        TautError: ``bad-argument`` for an encoder without arrays or with outputs of the wrong shape, or data that do
            not have the plate's rows; ``bad-combination`` for rows that the encoder cannot stand for.

    Source: Kingma, Welling (2014), Auto-encoding variational Bayes; Gershman, Goodman (2014), Amortized inference in
    probabilistic reasoning.

    Example:
        >>> def model(y):
        ...     with taut.plate("rows", len(y)):
        ...         z = taut.sample("z", dist.Normal(0.0, 1.0))
        ...         taut.sample("y", dist.Normal(z, 1.0), obs=y)
        >>> def encoder(p, y):
        ...     return p["a"] * y + p["b"], p["c"]
        >>> guide = taut.guides.Amortised("rows", encoder, init=dict(a=0.0, b=0.0, c=0.0))
        >>> problem = taut.Problem(model, dict(y=np.array([0.0, 2.0, 4.0])))
        >>> sorted(guide.bind(problem).init(problem, key=0))
        ["encoder['a']", "encoder['b']", "encoder['c']"]
    """

    of: str | tuple[str, ...]
    encoder: Callable[..., Any]
    takes: tuple[str, ...] | None
    globals: NoiseGuide
    first: Any = field(repr=False)
    standing: Standing | None = field(repr=False)

    def __init__(
        self,
        of: str | Sequence[str],
        encoder: Callable[..., Any],
        *,
        takes: str | Sequence[str] | None = None,
        init: Any = None,
        globals: NoiseGuide = MeanField(),  # noqa: B008
    ):
        if not isinstance(globals, NoiseGuide) or isinstance(globals, Amortised):
            name = globals.__name__ if isinstance(globals, type) else type(globals).__name__
            raise TautError(
                "bad-argument",
                site="globals",
                found=f"globals={name}",
                expected="a guide of noise for the latents that are not encoded",
                remedy="globals=taut.guides.FullRank()",
            )
        self._set(
            of=of if isinstance(of, str) else tuple(of),
            encoder=encoder,
            takes=(takes,) if isinstance(takes, str) else None if takes is None else tuple(takes),
            globals=globals,
            first=init,
            standing=None,
        )

    def __hash__(self) -> int:
        return id(self) if self.standing is None else hash((self.standing.digest, self.globals))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Amortised) or self.standing is None or other.standing is None:
            return self is other
        mine, others = self._facts(), other._facts()
        return type(self) is type(other) and mine == others

    @property
    def follows_rows(self) -> bool:
        """See `Guide`; what the family of the other latents cannot follow is refused by `bind`."""
        return True

    def bind(self, problem: Problem) -> Amortised:
        """The guide on a problem: the encoder is run once, abstractly, and what it returns is checked.

        Raises:
            TautError: ``bad-argument``, ``bad-combination``.
        """
        origin = self if self.standing is None else self.standing.origin
        known = _BOUND.setdefault(problem, {})
        if origin not in known:
            with scope(problem.precision):
                known[origin] = origin.stand(problem.program, problem.arrays, problem.constants, problem.inputs)
        return known[origin]

    def stand(
        self,
        program: Program,
        arrays: Mapping[str, Any],
        constants: Mapping[str, Any],
        inputs: Any,
        takes: tuple[str, ...] | None = None,
    ) -> Any:
        """The guide on a traced program; see `bind`.

        Args:
            program: the traced model.
            arrays, constants: the model's arguments, as `taut.problem.split` tells them apart.
            inputs: leaves of ``arrays`` and a key; constants of the program.
            takes: what the encoder got before; by default what the user or the encoder's arguments say.
        """
        plate, sites = sites_of(program, self.of)
        check_others(program, plate, sites, self.globals)
        encoder = take_apart(self.encoder, self.first)
        arguments = {**arrays, **constants}
        wanted = takes or self.takes or names_of_rows(encoder, arguments)
        takes = data_taken(wanted, arguments, rows_given(program, sites[0], plate), plate)
        check_call(encoder, takes)
        treedef = jax.tree.structure(dict(arrays))
        standing = Standing(plate, sites, takes, treedef, dict(constants), encoder, "", self)
        bound = self._with(standing)
        first = [jax.ShapeDtypeStruct(v.shape, jnp.zeros(()).dtype) for v in encoder.start(jax.random.key(0))]
        closed = jax.make_jaxpr(lambda p, i: bound._encoded(program, p, i))(first, inputs)
        hasher = hashlib.blake2b(digest(closed).encode(), digest_size=16)
        for const in closed.consts:
            hasher.update(np.asarray(const).tobytes())
        return self._with(standing._replace(digest=hasher.hexdigest()))

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """The encoder's first parameters, and those of ``globals``."""
        bound = self.bind(problem)
        encoder = bound._bound().encoder
        params = dict(zip(encoder.names, encoder.start(jax_key(key)), strict=True))
        others = bound.others(problem.program)
        if others:
            params |= {f"{_GLOBALS}{n}": v for n, v in self.globals.init(part_of_problem(problem, others), key).items()}
        return params

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`."""
        sizes = sum(program.latents[name].size for name in self._bound().sites)
        others = self.others(program)
        return sizes + (self.globals.noise_size(part_of_program(program, others)) if others else 0)

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`."""
        return self.push_at(program, params, *self.local(program, params, inputs), noise, inputs)

    def push_at(
        self, program: Program, params: Mapping[str, Any], loc: Any, log_scale: Any, noise: Any, inputs: Any
    ) -> tuple[Flat, Any]:
        """`push`, with given locations and log scales of the encoded latents."""
        first = noise[: loc.size]
        log_q = jnp.sum(self._each(program, first, log_scale))
        z = loc + jnp.exp(log_scale) * first
        others = self.others(program)
        if not others:
            return Flat(z, jnp.ones(program.dim + program.num_params, z.dtype)), log_q
        rest, more = self.globals.push(part_of_program(program, others), of_globals(params), noise[loc.size :], inputs)
        assert isinstance(rest, Flat)
        return self._merged(program, z, rest), log_q + more

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        total = jnp.sum(self._local_terms(program, params, point, inputs))
        others = self.others(program)
        if not others:
            return total
        rest = part_of_program(program, others)
        return total + self.globals.log_prob(rest, of_globals(params), self._rest(program, point), inputs)

    def log_prob_by_site(
        self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any] | None:
        """See `Guide`: over each site's coordinates."""
        terms, found, start = self._local_terms(program, params, point, inputs), {}, 0
        for name in self._bound().sites:
            latent = program.latents[name]
            found[name] = terms[start : start + latent.size].reshape(latent.coordinate_shape)
            start += latent.size
        others = self.others(program)
        if not others:
            return found
        rest = part_of_program(program, others)
        more = self.globals.log_prob_by_site(rest, of_globals(params), self._rest(program, point), inputs)
        return None if more is None else found | more

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        bound = self.bind(problem)
        noise = pool(rows, bound.noise_size(problem.program), rng)
        with scope(problem.precision):
            found = _pushed(bound, problem.program, dict(params), noise, problem.inputs)
        z, centredness, log_q = (np.asarray(v, float) for v in found)
        return Flat(z, centredness[0]), log_q

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`."""
        bound = self.bind(problem)
        with scope(problem.precision):
            centre, scale = (np.asarray(v, float) for v in _local(bound, problem.program, dict(params), problem.inputs))
        found, start = {}, 0
        for name in bound._bound().sites:
            latent = problem.latents[name]
            part = slice(start, start + latent.size)
            found[name] = {
                "loc": centre[part].reshape(latent.coordinate_shape),
                "scale": np.exp(scale[part]).reshape(latent.coordinate_shape),
                "transform": latent.transform,
            }
            start += latent.size
        others = bound.others(problem.program)
        if others:
            found |= self.globals.named(part_of_problem(problem, others), of_globals(params))
        return {name: found[name] for name in problem.latents}

    def local(self, program: Program, params: Mapping[str, Any], inputs: Any) -> tuple[Any, Any]:
        """Locations and log scales of the encoded latents, ``float[n]`` twice, in the order of their coordinates."""
        return self._encoded(program, [params[name] for name in self._bound().encoder.names], inputs)

    def local_index(self, program: Program) -> np.ndarray:
        """Where the encoded latents' coordinates stand in a point."""
        return coordinates_of_part(program, self._bound().sites)

    def row_noise(self, program: Program, draws: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of exact first two moments, the same for every row: ``float[draws, encoded coordinates]``."""
        standing, parts, start = self._bound(), [], 0
        for name in standing.sites:
            shape, axis = program.latents[name].coordinate_shape, axis_of(program, name, standing.plate)
            inner = without(shape, axis)
            size = math.prod(inner)
            within = np.broadcast_to(np.arange(start, start + size).reshape(inner), (shape[axis], *inner))
            parts.append(np.moveaxis(within, 0, axis).ravel())
            start += size
        return orthogonal_antithetic(draws, start, rng)[:, np.concatenate(parts)]

    def others(self, program: Program) -> list[str]:
        """The latents that are not encoded."""
        return [name for name in program.latents if name not in self._bound().sites]

    def _encoded(self, program: Program, params: list[Any], inputs: Any) -> tuple[Any, Any]:
        standing = self._bound()
        if inputs is None:
            raise TautError(
                "bad-argument",
                site="inputs",
                found="an encoder without the data",
                expected="the problem's inputs, whose rows are encoded",
                remedy="guide.log_prob(program, params, point, inputs=problem.inputs)",
            )
        axes = {name: axis_of(program, name, standing.plate) for name in standing.sites}
        shapes = {name: without(program.latents[name].coordinate_shape, axes[name]) for name in standing.sites}
        arguments = {**jax.tree.unflatten(standing.treedef, inputs[0][:-1]), **standing.constants}
        taken = [jax.tree.map(jnp.asarray, arguments[name]) for name in standing.takes]
        if standing.plate in program.outputs["rows"] and not is_batch(program, standing.plate):
            chosen = program.evaluate("rows", {}, *inputs)[standing.plate]
            taken = jax.tree.map(lambda leaf: leaf[chosen], taken)
        with user_errors():
            found = jax.vmap(lambda *row: standing.encoder.call(params, *row))(*taken)
        by_site = outputs_by_site(found, {name: math.prod(shape) for name, shape in shapes.items()})
        sides = []
        for side in (0, 1):
            parts = [jnp.moveaxis(by_site[n][side].reshape(-1, *shapes[n]), 0, axes[n]).ravel() for n in standing.sites]
            sides.append(jnp.concatenate(parts).astype(jnp.zeros(()).dtype))
        return sides[0], sides[1]

    def _local_terms(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any) -> Any:
        loc, log_scale = self.local(program, params, inputs)
        noise = (point.coordinates[self.local_index(program)] - loc) * jnp.exp(-log_scale)
        return self._each(program, noise, log_scale)

    def _each(self, program: Program, noise: Any, log_scale: Any) -> Any:
        """Log density of each encoded coordinate, as often as its row counts."""
        standing = self._bound()
        frame = frame_of(program, standing.sites[0], standing.plate)
        return (-0.5 * noise**2 - 0.5 * _LOG_2PI - log_scale) * (frame.size / frame.length)

    def _merged(self, program: Program, z: Any, rest: Flat) -> Flat:
        others = coordinates_of_part(program, self.others(program))
        mine = self.local_index(program)
        coordinates = jnp.zeros(program.dim, z.dtype).at[mine].set(z).at[others].set(rest.coordinates)
        centredness = jnp.ones(program.dim + program.num_params, z.dtype)
        return Flat(coordinates, centredness.at[others].set(rest.centredness[: len(others)]))

    def _rest(self, program: Program, point: Flat) -> Flat:
        others = coordinates_of_part(program, self.others(program))
        return Flat(point.coordinates[others], point.centredness[others])

    def _with(self, standing: Standing) -> Any:
        bound = copy.copy(self)
        bound._set(standing=standing)
        return bound

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _facts(self) -> tuple[Any, ...]:
        standing = self._bound()
        return standing.digest, standing.plate, standing.sites, self.globals

    def _bound(self) -> Standing:
        if self.standing is None:
            raise TautError(
                "bad-combination",
                found="an amortised guide that no problem has been shown to",
                expected="one bound to a problem",
                remedy="guide.bind(problem)",
            )
        return self.standing


_GLOBALS = "globals."


def of_globals(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the latents that are not encoded, by the names that their family gives them."""
    return {name.removeprefix(_GLOBALS): value for name, value in params.items() if name.startswith(_GLOBALS)}


# A problem is bound once per guide; the problem's end is the binding's.
_BOUND: weakref.WeakKeyDictionary[Problem, dict[Amortised, Amortised]] = weakref.WeakKeyDictionary()


@partial(jax.jit, static_argnums=(0, 1))
def _pushed(guide: Amortised, program: Program, params: Any, noise: Any, inputs: Any) -> Any:
    count_compilation()

    def one(noise: Any) -> Any:
        point, log_q = guide.push(program, real, noise, inputs)
        assert isinstance(point, Flat)
        return point.coordinates, point.centredness, log_q

    real = jax.tree.map(jnp.asarray, params)
    return jax.vmap(one)(jnp.asarray(noise, jnp.zeros(()).dtype))


@partial(jax.jit, static_argnums=(0, 1))
def _local(guide: Amortised, program: Program, params: Any, inputs: Any) -> Any:
    count_compilation()
    return guide.local(program, jax.tree.map(jnp.asarray, params), inputs)
