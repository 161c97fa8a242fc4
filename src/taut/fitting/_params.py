"""The learned parameters by name: on the real line, in their own space, and the map between the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from taut.algorithms import Solution
from taut.fitting._unconstrained import constrained, short
from taut.guides import MODEL, Program, bind
from taut.problem import Problem


class Parameter(np.ndarray):
    """A parameter: as an array it is its unconstrained value, which is what an algorithm moves.

    Attributes:
        value: the same in its own space.
        transform: name of the map from the real line onto that space: ``"exp"``, ``"identity"``, ...

    Example:
        >>> scale = Parameter.of(np.log(2.0), np.array(2.0), "exp")
        >>> float(scale), float(scale.value), scale.transform
        (0.6931471805599453, 2.0, 'exp')
    """

    value: np.ndarray
    transform: str

    @classmethod
    def of(cls, unconstrained: Any, value: Any, transform: str) -> Parameter:
        """A parameter from its two values and the map's name."""
        found = np.asarray(unconstrained).view(cls)
        found.value, found.transform = np.asarray(value), transform
        return found

    @property
    def unconstrained(self) -> np.ndarray:
        """The value on the real line, as a plain array."""
        return self.view(np.ndarray)

    def __array_finalize__(self, source: Any) -> None:
        # What is computed from a parameter is an array like any other.
        self.value, self.transform = self.view(np.ndarray), "identity"

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain


class Params(dict[str, Parameter]):
    """Parameters by name; ``print`` shows a table.

    Example:
        >>> print(Params(scale=Parameter.of(np.log(2.0), np.array(2.0), "exp")))
        name   value  unconstrained  transform
        scale  2      0.6931         exp
    """

    def __str__(self) -> str:
        rows = [("name", "value", "unconstrained", "transform")]
        rows += [(n, short(p.value), short(p.unconstrained), p.transform) for n, p in self.items()]
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)

    __repr__ = __str__


def params_of(problem: Problem, solution: Solution) -> Params:
    """The parameters of a solution's guide, then those of its model."""
    guide = bind(solution.guide, problem)
    found = Params()
    sites = guide.binding.sites if isinstance(guide, Program) and guide.binding is not None else {}
    # A guide that follows the model's gradient carries the model's parameters along: they have names of their own.
    params = {name: value for name, value in solution.params.items() if not (guide.reads_model and name == MODEL)}
    kinds = guide.kinds(problem, params)
    for name, raw in params.items():
        raw = np.asarray(raw)
        if name in sites:
            kind = sites[name].infer["transform"].removesuffix("Transform").lower() or "identity"
            found[name] = Parameter.of(raw, constrained(problem, sites[name].fn, raw), kind)
        else:
            found[name] = Parameter.of(raw, _value(raw, kinds[name]), kinds[name])
    if problem.num_params:
        own = np.asarray(solution.model_params, float)
        values = problem.constrain(np.concatenate([np.zeros(problem.dim), own])[None])
        for param in problem.params.values():
            start = problem.layout[param.name].start - problem.dim
            raw = own[start : start + param.size].reshape(param.coordinate_shape)
            found.setdefault(param.name, Parameter.of(raw, values[param.name][0], param.transform))
    return found


def plain_params(params: Mapping[str, np.ndarray]) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """What a file keeps: the names of the maps, and arrays."""
    kinds = {name: getattr(p, "transform", "identity") for name, p in params.items()}
    arrays = {f"param/{name}": np.asarray(p) for name, p in params.items()}
    arrays |= {f"constrained/{n}": np.asarray(p.value) for n, p in params.items() if isinstance(p, Parameter)}
    return kinds, arrays


def params_from(kinds: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> Params:
    """What `plain_params` wrote."""
    return Params(
        {n: Parameter.of(arrays[f"param/{n}"], arrays[f"constrained/{n}"], kind) for n, kind in kinds.items()}
    )


def _value(raw: np.ndarray, kind: str) -> np.ndarray:
    if kind == "softmax":
        weights = np.exp(raw - raw.max())
        return weights / weights.sum()
    return np.exp(raw) if kind == "exp" else raw
