"""Different guides for different latents."""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut._keys import jax_key
from taut._precision import real_dtype, scope
from taut.guides._amortised import Amortised
from taut.guides._block_dense import BlockDense
from taut.guides._flow import Flow
from taut.guides._gaussian import Delta, FullRank, MeanField
from taut.guides._guide import Flat, Guide
from taut.guides._low_rank import LowRank
from taut.guides._mixture import GaussianMixture
from taut.guides._part import part_of_problem, part_of_program
from taut.guides._program import Program as GuideProgram
from taut.guides._program import bind
from taut.guides._site_families import SiteFamilies
from taut.guides._start import Mode, Start, learned
from taut.guides._student_t import StudentT
from taut.problem import Problem, Program, count_compilation


@dataclass(frozen=True)
class Combine(Guide):
    r"""Independent parts, each with a guide of its own: $q(z) = \prod_k q_k(z_k)$.

    A part is a family or a function written with the primitives, for one latent or several; families on the real line
    are pushed into the model's own space, so that

    $$\log q_k(z_k) = \log q_k(u_k) - \log\lvert\det T'(u_k)\rvert, \qquad z_k = T(u_k).$$

    Parameters are those of the parts, behind the part's first name: ``"mu.loc"``.

    Args:
        parts: from a name, or a tuple of names, to a guide.
        default: the guide of the rest; without it every latent must be named.

    Raises:
        TautError: before the first step, ``guide-missing`` for a latent that no part has, ``guide-unknown`` for a name
            that is no latent, ``bad-argument`` for a latent in two parts, ``guide-support`` for a latent of a family
            on the real line whose map depends on other latents, ``bad-combination`` for a family that needs the
            model's density (`Structured`, `SparsePrecision`, `DAIS`, `Amortised`).

    Example:
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     p = taut.sample("p", dist.Beta(2.0, 2.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> parts = {"mu": taut.guides.MeanField(), "p": taut.guides.SiteFamilies()}
        >>> fit = taut.fit(model, dict(y=10.0), guide=taut.guides.Combine(parts))
        >>> round(float(fit["mu"].mean), 1), round(float(fit["p"].mean), 1)
        (8.0, 0.5)
    """

    parts: Any = ()
    default: Any = None
    bound: tuple[tuple[tuple[str, ...], Guide], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        entries = self.parts.items() if isinstance(self.parts, Mapping) else self.parts
        parts = tuple(((names,) if isinstance(names, str) else tuple(names), guide) for names, guide in entries)
        object.__setattr__(self, "parts", parts)

    def bind(self, problem: Problem) -> Combine:
        """The parts on their latents, checked."""
        if self.bound:
            return self
        known = _BOUND.setdefault(problem, {})
        # Where a part begins is no part of what it is, but of what it does.
        here = self, tuple(getattr(guide, "start", None) for guide in (*(g for _, g in self.parts), self.default))
        if here not in known:
            known[here] = replace(self, bound=tuple(self._bind(problem)))
        return known[here]

    @property
    def follows_rows(self) -> bool:
        """See `Guide`; `bind` has seen to it that parts with latents of chosen rows do."""
        return True

    @property
    def still(self) -> dict[str, str]:
        """See `Guide`: those of the parts."""
        return {f"{names[0]}: {name}": family for names, guide in self.bound for name, family in guide.still.items()}

    def still_log_prob(self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None) -> Any:
        """See `Guide`."""
        total = jnp.zeros(())
        for (names, guide), own in zip(self.bound, jax.random.split(key, len(self.bound)), strict=True):
            if guide.still:
                part = part_of_program(program, names)
                total = total + guide.still_log_prob(part, _own(params, names), own, inputs)
        return total

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """The parts' own; their starts look at the whole model."""
        found: dict[str, Any] = {}
        for index, (names, guide) in enumerate(self.bind(problem).bound):
            own, start = jax.random.fold_in(jax_key(key), index), getattr(guide, "start", None)
            if start is None and isinstance(guide, GaussianMixture):
                start = Mode()
            if start is not None:
                guide = replace(guide, start=_Whole(start, problem))  # type: ignore[call-arg]
            part = guide.init(part_of_problem(problem, names), own)
            found |= {f"{names[0]}.{name}": value for name, value in part.items()}
        return found

    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[dict[str, Any], Any]:
        """See `Guide`."""
        found, total = {}, jnp.zeros(())
        for (names, guide), own in zip(self.bound, jax.random.split(key, len(self.bound)), strict=True):
            part = part_of_program(program, names)
            point, log_q = guide.sample_and_log_prob(part, _own(params, names), own, inputs)
            if isinstance(point, Flat):
                point, volume = _values(part, point.coordinates)
                log_q = log_q - volume
            found |= point
            total = total + log_q
        return found, total

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        total = jnp.zeros(())
        for names, guide in self.bound:
            part = part_of_program(program, names)
            if _on_the_line(guide):
                u, volume = _coordinates(part, point)
                there = Flat(u, jnp.ones_like(u))
                total = total + guide.log_prob(part, _own(params, names), there, inputs) - volume
            else:
                total = total + guide.log_prob(part, _own(params, names), point, inputs)
        return total

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `Guide`."""
        words = rng.integers(0, 2**32, (rows, 2), dtype=np.uint32)
        with scope(problem.precision):
            point, log_q = _draws(self.bind(problem), problem.program, dict(params), words, problem.inputs)
        return {name: np.asarray(value) for name, value in point.items()}, np.asarray(log_q, float)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`: the parameters by their own names."""
        found = {}
        for name, kind in self.kinds(problem, params).items():
            raw = np.asarray(params[name])
            value = np.exp(raw) if kind != "identity" else raw
            value = value / value.sum() if kind == "softmax" else value
            found[name] = {"loc": raw, "value": value, "transform": kind}
        return found

    def kinds(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, str]:
        """See `Guide`: those of the parts."""
        found = {}
        for names, guide in self.bind(problem).bound:
            own = guide.kinds(part_of_problem(problem, names), _own(params, names))
            found |= {f"{names[0]}.{name}": kind for name, kind in own.items()}
        return found

    def _bind(self, problem: Problem) -> list[tuple[tuple[str, ...], Guide]]:
        seen: set[str] = set()
        for names, _ in self.parts:
            for name in names:
                if name not in problem.latents:
                    close = difflib.get_close_matches(name, list(problem.latents), 1)
                    raise TautError(
                        "guide-unknown",
                        site=name,
                        found=f"a part for {name!r}",
                        expected=f"latents of the model: {', '.join(problem.latents)}",
                        remedy=f"write {close[0]!r}" if close else f"leave {name!r} out of Combine",
                    )
                if name in seen:
                    raise TautError(
                        "bad-argument",
                        site=name,
                        found=f"{name!r} in two parts of Combine",
                        expected="every latent in one part",
                        remedy=f"take {name!r} out of one of them",
                    )
                seen.add(name)
        rest = tuple(name for name in problem.latents if name not in seen)
        if rest and self.default is None:
            raise TautError(
                "guide-missing",
                site=rest[0],
                source=problem.latents[rest[0]].source,
                found=f"no part of Combine for {', '.join(map(repr, rest))}",
                expected="every latent of the model",
                remedy="taut.guides.Combine({...}, default=taut.guides.MeanField())",
            )
        parts = [*self.parts, *([(rest, self.default)] if rest else [])]
        return [(names, self._checked(problem, names, guide)) for names, guide in parts]

    def _checked(self, problem: Problem, names: tuple[str, ...], guide: Any) -> Guide:
        if isinstance(guide, Guide) and type(guide) not in _PARTS:
            raise TautError(
                "bad-combination",
                site=names[0],
                source=problem.latents[names[0]].source,
                found=f"{type(guide).__name__} as a part of Combine",
                expected="a family that knows nothing of the model's density: "
                f"{', '.join(part.__name__ for part in _PARTS)}, or a function; others see all latents at once",
                remedy=f"guide=taut.guides.{type(guide).__name__}(...) for the whole model"
                + (", with globals=... for its other latents" if isinstance(guide, Amortised) else ""),
            )
        found = bind(guide, part_of_problem(problem, names))
        lam = getattr(found, "centredness", 1.0)
        local = set(problem.program.outputs["rows"])
        rows = [name for name in names if local & set(problem.latents[name].plates)]
        if rows and not found.follows_rows:
            raise TautError(
                "bad-combination",
                site=rows[0],
                source=problem.latents[rows[0]].source,
                found=f"{type(found).__name__} for a latent whose rows change from step to step",
                expected="a part that has parameters for every row by itself: MeanField, StudentT, SiteFamilies, a "
                "function",
                remedy=f'taut.guides.Combine({{"{rows[0]}": taut.guides.MeanField(), ...}})',
            )
        for name in names if _on_the_line(found) else ():
            latent, support = problem.latents[name], problem.program.supports.get(name)
            if support is None or dist.unconstrainer(support) is None or latent.transform == "direction":
                raise TautError(
                    "guide-support",
                    site=name,
                    source=latent.source,
                    found=f"support {latent.support}, whose map depends on other latents, under {type(found).__name__}",
                    expected="a support that is known before the fit, for a family on the real line in Combine",
                    remedy=f'a function with taut.sample("{name}", ...) inside of that support',
                )
            if latent.hierarchical and lam != 1.0:
                raise TautError(
                    "bad-combination",
                    site=name,
                    source=latent.source,
                    found=f"Combine with {type(found).__name__}(centredness={lam})",
                    expected="centredness=1: a part does not see the latents that its coordinates would depend on",
                    remedy=f"{type(found).__name__}() in Combine",
                )
        return found


class _Whole(Start):
    """A part's start: where that of the whole model puts the part's latents."""

    def __init__(self, start: Start, problem: Problem):
        self.start = start
        self.problem = problem

    def points(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Start`."""
        return self._own(problem, self.start.points(self.problem, self.problem.centredness(1.0), rng, count))

    def apart(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Start`."""
        return self._own(problem, self.start.apart(self.problem, self.problem.centredness(1.0), rng, count))

    def _own(self, part: Problem, z: np.ndarray) -> np.ndarray:
        extra = np.broadcast_to(learned(self.problem), (len(z), self.problem.num_params))
        values = self.problem.constrain(np.concatenate([z, extra], axis=1), self.problem.centredness(1.0))
        with scope(self.problem.precision):
            rows = [_coordinates(part.program, {n: values[n][k] for n in part.latents})[0] for k in range(len(z))]
            return np.asarray(rows, float)


def _on_the_line(guide: Guide) -> bool:
    """Whether its points are `Flat`."""
    return not isinstance(guide, GuideProgram | SiteFamilies | Combine)


def _own(params: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    prefix = f"{names[0]}."
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}


def _values(part: Program, u: Any) -> tuple[dict[str, Any], Any]:
    """Values of coordinates, and the log volume of the map."""
    found, volume = {}, jnp.zeros(())
    for name, latent in part.latents.items():
        transform: Any = dist.unconstrainer(part.supports[name])
        own = u[part.layout[name]].reshape(latent.coordinate_shape)
        found[name] = transform(own)
        volume = volume + jnp.sum(transform.log_abs_det_jacobian(own, found[name]))
    return found, volume


def _coordinates(part: Program, point: Mapping[str, Any]) -> tuple[Any, Any]:
    """Coordinates of values, and the log volume of the map."""
    found, volume = [], jnp.zeros(())
    for name in part.latents:
        transform: Any = dist.unconstrainer(part.supports[name])
        value = jnp.asarray(point[name], real_dtype())
        own = transform.inv(value)
        volume = volume + jnp.sum(transform.log_abs_det_jacobian(own, value))
        found.append(jnp.ravel(own))
    return jnp.concatenate(found), volume


# A problem is bound once per combination; the problem's end is the binding's.
_BOUND: weakref.WeakKeyDictionary[Problem, dict[Any, Combine]] = weakref.WeakKeyDictionary()


@partial(jax.jit, static_argnums=(0, 1))
def _draws(guide: Combine, program: Program, params: Any, words: Any, inputs: Any) -> Any:
    count_compilation()
    raw = jax.tree.map(jnp.asarray, params)

    def one(words: Any) -> Any:
        return guide.sample_and_log_prob(program, raw, jax.random.wrap_key_data(words), inputs)

    return jax.vmap(one)(words)


# What can be drawn and evaluated without the other latents.
_PARTS = (
    MeanField,
    StudentT,
    FullRank,
    LowRank,
    BlockDense,
    GaussianMixture,
    Flow,
    Delta,
    SiteFamilies,
    Combine,
    GuideProgram,
)
