"""A guide written with the primitives: its draws live in the model's own space."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._keys import jax_key
from taut._precision import scope
from taut.core import log_density
from taut.guides._agreement import outside
from taut.guides._binding import FIRST_DRAWS, Binding, Start, start
from taut.guides._binding import bind as bind_function
from taut.guides._guide import Guide
from taut.handlers import Trace
from taut.problem import Problem, count_compilation
from taut.problem import Program as Model


@dataclass(frozen=True, eq=False)
class Program(Guide):
    r"""A guide written by hand: a function that draws every latent with `taut.sample` and learns its `taut.param`.

    Its arguments are matched by name with the model's data, of which it may take some or none. Plates that the model
    subsamples yield the model's rows. Draws are in the model's own space and need no Jacobian. It must be bound to a
    problem before it can be drawn from: `bind` runs and checks it.

    Args:
        fn: the function.
        binding: how it stands to a problem; given by `bind`.

    Example:
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> def guide():
        ...     scale = taut.param("scale", 1.0, constraint=dist.constraints.positive)
        ...     taut.sample("mu", dist.Normal(taut.param("loc", 0.0), scale))
        >>> problem = taut.Problem(model, dict(y=10.0))
        >>> sorted(taut.guides.Program(guide).bind(problem).init(problem, key=0))
        ['loc', 'scale']
    """

    fn: Callable[..., Any]
    binding: Binding | None = field(default=None, repr=False)

    def __hash__(self) -> int:
        return hash(self.fn if self.binding is None else self.binding.digest)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return False
        if self.binding is None or other.binding is None:
            return self.binding is other.binding and self.fn == other.fn
        return self.binding.digest == other.binding.digest

    def bind(self, problem: Problem) -> Program:
        """The guide on a problem: run twice, abstractly, and checked against the model.

        Raises:
            TautError: ``guide-observed``, ``guide-missing``, ``guide-unknown``, ``guide-shape``, ``guide-support``,
                ``guide-deterministic``, ``bad-argument``, ``param-init``, ``data-missing``.
        """
        known = _BOUND.setdefault(problem, {})
        if self.fn not in known:
            with scope(problem.precision):
                known[self.fn] = replace(self, binding=bind_function(self.fn, problem))
        return known[self.fn]

    @property
    def still(self) -> dict[str, str]:
        """Sites whose draws do not follow their parameters smoothly, with their families."""
        return self._bound().still

    def still_log_prob(self, program: Model, params: Mapping[str, Any], key: jax.Array, inputs: Any = None) -> Any:
        """See `Guide`."""
        sites = self._bound().run(program, _needed(inputs), key=key, params=params)
        return sum((jnp.sum(log_density(sites[name])) for name in self.still), jnp.zeros(()))

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """Initial values on the real line; first draws at these are checked against the model's supports."""
        bound = self.bind(problem)._bound()
        with scope(problem.precision):
            words = jax.random.key_data(jax_key(key))
            params, inside = start(Start(bound), problem.program, problem.inputs, words)
        for name, flags in inside.items():
            if not np.all(flags):
                site = bound.sites[name]
                found = f"{int(np.sum(~np.asarray(flags)))} of {FIRST_DRAWS} first draws of {site.fn.__name__} outside"
                raise outside(problem.program, name, site.source, found)
        return {name: np.asarray(value) for name, value in params.items()}

    def sample_and_log_prob(
        self, program: Model, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[dict[str, Any], Any]:
        """See `Guide`."""
        sites = self._bound().run(program, _needed(inputs), key=key, params=params)
        return {name: sites[name].value for name in program.latents}, _log_q(program, sites)

    def log_prob(self, program: Model, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        return _log_q(program, self._bound().run(program, _needed(inputs), params=params, values=point))

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `Guide`."""
        words = rng.integers(0, 2**32, (rows, 2), dtype=np.uint32)
        with scope(problem.precision):
            point, log_q = _draws(self.bind(problem), problem.program, dict(params), words, problem.inputs)
        return {name: np.asarray(v) for name, v in point.items()}, np.asarray(log_q, float)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`; the guide's parameters by their own names."""
        sites = self.bind(problem)._bound().sites
        return {n: {"value": np.asarray(v), "transform": sites[n].infer["transform"]} for n, v in params.items()}

    def _bound(self) -> Binding:
        if self.binding is None:
            raise TautError(
                "bad-combination",
                found="a guide program that no problem has been shown to",
                expected="one bound to a problem",
                remedy="guide.bind(problem)",
            )
        return self.binding


def bind(guide: Guide | Callable[..., Any], problem: Problem) -> Guide:
    """A guide ready for a problem: functions become `Program`, programs are run and checked, others pass.

    Args:
        guide: a guide, or a function written with the primitives.
        problem: the problem.

    Raises:
        TautError: see `Program.bind`.
    """
    if isinstance(guide, Program):
        return guide.bind(problem)
    if isinstance(guide, Guide):
        return guide
    if not callable(guide) or isinstance(guide, type):
        name = guide.__name__ if isinstance(guide, type) else type(guide).__name__
        raise TautError(
            "bad-argument",
            site="guide",
            found=f"guide={name}",
            expected="a guide, or a function written with the primitives",
            remedy=f"guide=taut.guides.{name}()" if isinstance(guide, type) else "guide=taut.guides.MeanField()",
        )
    return Program(guide).bind(problem)


# A problem is bound once per function; the problem's end is the binding's.
_BOUND: weakref.WeakKeyDictionary[Problem, dict[Callable[..., Any], Program]] = weakref.WeakKeyDictionary()


@partial(jax.jit, static_argnums=(0, 1))
def _draws(guide: Program, program: Model, params: Any, words: Any, inputs: Any) -> Any:
    count_compilation()
    real = jax.tree.map(jnp.asarray, params)

    def one(words: Any) -> Any:
        return guide.sample_and_log_prob(program, real, jax.random.wrap_key_data(words), inputs)

    return jax.vmap(one)(words)


def _log_q(program: Model, sites: Trace) -> Any:
    return sum(jnp.sum(log_density(sites[name])) for name in program.latents)


def _needed(inputs: Any) -> Any:
    if inputs is None:
        raise TautError(
            "bad-argument",
            site="inputs",
            found="a guide program without the data",
            expected="the problem's inputs, of which the guide's arguments are made",
            remedy="guide.log_prob(program, params, point, inputs=problem.inputs)",
        )
    return inputs
