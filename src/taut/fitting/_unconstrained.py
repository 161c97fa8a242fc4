"""What the parameters of a guide say, site by site: on the real line, and in the model's own space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._precision import scope
from taut.algorithms import Solution
from taut.guides import Flat, Program, bind
from taut.problem import Problem


@dataclass(frozen=True, eq=False)
class Coordinate:
    """One site, or one parameter, on the real line and off it.

    Attributes:
        name: the site's or the parameter's name.
        transform: name of the map from the real line: ``"exp"``, ``"identity"``, ...
        loc: centre on the real line; the value there of a parameter.
        scale: standard deviation on the real line; ``None`` for a parameter.
        value: what ``loc`` is in the model's own space: the median of a scalar site, a parameter's value.

    Example:
        >>> print(Coordinate("sigma", "exp", np.array(-0.974), np.array(0.5), np.array(0.378)))
        sigma: loc -0.974, scale 0.5 on the real line; by exp: 0.378 (median)
    """

    name: str
    transform: str
    loc: np.ndarray
    scale: np.ndarray | None
    value: np.ndarray

    def __str__(self) -> str:
        if self.scale is None:
            return f"{self.name}: {short(self.loc)} on the real line; by {self.transform}: {short(self.value)} (value)"
        return (
            f"{self.name}: loc {short(self.loc)}, scale {short(self.scale)} on the real line; "
            f"by {self.transform}: {short(self.value)} (median)"
        )


class Unconstrained(Mapping[str, Coordinate]):
    """`Coordinate` by name; prints one line for each."""

    def __init__(self, coordinates: dict[str, Coordinate]):
        self._coordinates = coordinates

    def __getitem__(self, name: str) -> Coordinate:
        return self._coordinates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._coordinates)

    def __len__(self) -> int:
        return len(self._coordinates)

    def __repr__(self) -> str:
        return "\n".join(str(coordinate) for coordinate in self._coordinates.values())


def unconstrained(problem: Problem, solution: Solution) -> Unconstrained:
    """The parameters of a solution's guide and of its model, with what they mean."""
    guide = bind(solution.guide, problem)
    named = guide.named(problem, solution.params)
    found: dict[str, Coordinate] = {}
    sites = guide.binding.sites if isinstance(guide, Program) and guide.binding is not None else {}
    for name, entry in named.items():
        if name in sites:
            transform = entry["transform"].removesuffix("Transform").lower() or "identity"
            value = constrained(problem, sites[name].fn, entry["value"])
            found[name] = Coordinate(name, transform, entry["value"], None, value)
        elif "value" in entry:  # a parameter of a guide that has no coordinates on the real line
            found[name] = Coordinate(name, entry["transform"], entry["loc"], None, entry["value"])
    located = {name: entry for name, entry in named.items() if name not in found}
    values = _values_at_loc(problem, solution, located) if located else {}
    for name, entry in located.items():
        found[name] = Coordinate(name, entry["transform"], entry["loc"], entry["scale"], values[name])
    for param in problem.params.values():
        start = problem.layout[param.name].start - problem.dim
        loc = np.asarray(solution.model_params[start : start + param.size]).reshape(param.coordinate_shape)
        points = np.concatenate([np.zeros(problem.dim), solution.model_params])[None]
        value = problem.constrain(points)[param.name][0]
        found[param.name] = Coordinate(param.name, param.transform, loc, None, value)
    return Unconstrained(found)


def _values_at_loc(problem: Problem, solution: Solution, named: Mapping[str, dict]) -> dict[str, np.ndarray]:
    """What the centres of all sites lead to, together: the map of one may depend on the others."""
    point, _ = bind(solution.guide, problem).draws(problem, solution.params, 1, np.random.default_rng(0))
    assert isinstance(point, Flat)
    several = "weight" in next(iter(named.values()))
    count = len(next(iter(named.values()))["weight"]) if several else 1
    loc = np.concatenate([np.asarray(named[n]["loc"], float).reshape(count, -1) for n in problem.latents], axis=1)
    points = np.concatenate([loc, np.broadcast_to(solution.model_params, (count, problem.num_params))], axis=1)
    centredness = np.concatenate([np.asarray(point.centredness, float)[: problem.dim], np.ones(problem.num_params)])
    values = problem.constrain(points, centredness)
    return {name: values[name] if several else values[name][0] for name in named}


def constrained(problem: Problem, constraint: object, value: np.ndarray) -> np.ndarray:
    """A parameter's value in its own space, from its value on the real line."""
    transform = dist.unconstrainer(constraint)
    assert transform is not None
    with scope(problem.precision):
        return np.asarray(transform(jnp.asarray(value)))


def short(values: np.ndarray) -> str:
    """A few numbers in a line."""
    values = np.asarray(values)
    if values.ndim == 0:
        return f"{float(values):.4g}"
    flat = values.ravel()
    shown = ", ".join(f"{v:.4g}" for v in flat[:4])
    return f"[{shown}{', ...' if flat.size > 4 else ''}]"
