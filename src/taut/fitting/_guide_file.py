"""A guide as a file: its parameters, and what it has to know of its model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from taut import guides
from taut._errors import TautError
from taut.fitting._archive import read_archive, write_archive
from taut.fitting._skeleton import plain_skeleton, skeleton_from
from taut.guides import Guide
from taut.problem import Problem

_KEY = "fitted guide"


def write_guide(
    path: str | os.PathLike[str],
    name: str,
    family: Guide | None,
    params: Mapping[str, np.ndarray],
    model_params: np.ndarray,
    problem: Problem,
    kept: Mapping[str, np.ndarray],
) -> None:
    """Write a guide to a file of its own, with draws where its parameters alone cannot tell its marginals."""
    header, arrays = guide_parts(name, family, params, model_params, problem)
    write_archive(path, header, arrays | {f"draws/{site}": value for site, value in kept.items()})


def guide_parts(
    name: str, family: Guide | None, params: Mapping[str, np.ndarray], model_params: np.ndarray, problem: Problem
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file that holds a guide."""
    title = getattr(problem, "title", None) or getattr(problem.model, "__name__", "model")
    header = {"name": name, "settings": settings(family), "entries": list(params), **plain_skeleton(problem, title)}
    arrays = {f"q/{k}": np.asarray(v) for k, v in params.items()} | {"model": np.asarray(model_params)}
    return {_KEY: header}, arrays


def read_guide(
    path: str | os.PathLike[str], guide: Any = None
) -> tuple[str, dict[str, np.ndarray], np.ndarray, Guide | None, Problem, dict[str, np.ndarray]]:
    """What `write_guide` wrote: the family's name, its parameters, the model's, the family, the skeleton, draws."""
    header, arrays = read_archive(path)
    if _KEY not in header:
        raise TautError(
            "file-format",
            site=str(path),
            found="a saved fit without its guide, or another file of taut's",
            expected="a file that fit.guide.save wrote",
            remedy='fit.guide.save("guide.taut"); taut.load_guide("guide.taut")',
        )
    return guide_from(header, arrays, guide)


def guide_from(
    header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], guide: Any = None
) -> tuple[str, dict[str, np.ndarray], np.ndarray, Guide | None, Problem, dict[str, np.ndarray]]:
    """The guide in a header and arrays; see `read_guide`."""
    kept = header[_KEY]
    name = kept["name"]
    params = {key: arrays[f"q/{key}"] for key in kept["entries"]}
    if guide is not None:
        family = guide if isinstance(guide, Guide) else guides.Program(guide)
        if type(family).__name__ != name:
            raise TautError(
                "bad-argument",
                site="guide",
                found=f"guide={type(family).__name__}",
                expected=f"the {name} that was saved",
                remedy="taut.load_guide(path, guide=guide) with the function or object that was fitted",
            )
    else:
        family = _family(name, kept["settings"])
    draws = {key.removeprefix("draws/"): value for key, value in arrays.items() if key.startswith("draws/")}
    return name, params, arrays["model"], family, skeleton_from(kept), draws


def settings(family: Guide | None) -> dict[str, Any] | None:
    """The settings of a family in plain values; ``None`` for one that a file cannot keep: it holds a function."""
    if family is None or not is_dataclass(family) or getattr(guides, type(family).__name__, None) is not type(family):
        return None
    if isinstance(family, guides.Combine):
        family = replace(family, bound=())  # made of the parts again, on a problem
    found = {}
    for entry in fields(family):
        if entry.compare:  # else it is where a fit began, not what it is
            try:
                found[entry.name] = _plain(getattr(family, entry.name))
            except TypeError:
                return None
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Guide):
        kept = settings(value)
        if kept is None:
            raise TypeError
        return {"guide": type(value).__name__, "settings": kept}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError


def _family(name: str, kept: Mapping[str, Any] | None) -> Guide | None:
    if kept is None:
        return None
    return getattr(guides, name)(**{key: _value(value) for key, value in kept.items()})


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return bytes.fromhex(value["bytes"]) if "bytes" in value else _family(value["guide"], value["settings"])
    return tuple(_value(item) for item in value) if isinstance(value, list) else value
