"""A fit as a file: which of its parts become arrays, and which a header."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from taut.diagnostics import Check, Verdict
from taut.fitting._archive import read_archive, write_archive
from taut.fitting._guide_file import guide_from, guide_parts
from taut.fitting._guide_view import FittedGuide
from taut.fitting._params import params_from, plain_params

_WEIGHTS = ("log_weights", "guide_log_weights")
_PLAIN = ("title", "status", "kinds", "supports", "facts")


def write_fit(path: str | os.PathLike[str], parts: Mapping[str, Any]) -> Path:
    """Write the parts of a fit, atomically: draws, weights, verdict, figures; neither model nor data.

    Args:
        path: the file to write.
        parts: the attributes of a `Fit`.

    Returns:
        Its path.
    """
    arrays = {f"value/{name}": v for name, v in parts["values"].items()}
    kinds, learned = plain_params(parts["params"])
    view = parts["guide"]
    kept, fitted = guide_parts(view.name, view.family, view.params, view.model_params, view.problem)
    arrays |= learned | fitted
    arrays |= {f"guide/{name}": v for name, v in parts["guide_draws"].items()}
    arrays |= {f"state/{index:04d}": v for index, v in enumerate(parts["state"])}
    arrays |= {name: parts[name] for name in ("history", "held_out", *_WEIGHTS) if parts[name] is not None}
    header: dict[str, Any] = {name: parts[name] for name in _PLAIN}
    header |= kept | {"transforms": kinds}
    header["verdict"] = asdict(parts["verdict"])
    header["sites"] = list(parts["values"])
    header["numbers"] = {name: list(v) for name, v in parts["numbers"].items()}
    write_archive(path, header, arrays)
    return Path(path)


def read_fit(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The parts of a fit that `write_fit` wrote, by attribute name."""
    header, arrays = read_archive(path)
    verdict = header["verdict"]
    checks = tuple(Check(**check) for check in verdict.pop("checks"))
    notes = tuple(verdict.pop("notes"))
    return {
        **{name: header[name] for name in _PLAIN},
        "verdict": Verdict(**verdict, checks=checks, notes=notes),
        "values": {name: arrays[f"value/{name}"] for name in header["sites"]},
        "guide": FittedGuide(*guide_from(header, arrays)),
        "params": params_from(header["transforms"], arrays),
        "state": tuple(arrays[k] for k in sorted(arrays) if k.startswith("state/")),
        "guide_draws": {k.removeprefix("guide/"): v for k, v in arrays.items() if k.startswith("guide/")},
        **{name: arrays.get(name) for name in _WEIGHTS},
        "numbers": {name: (v[0], v[1], v[2]) for name, v in header["numbers"].items()},
        "history": arrays["history"],
        "held_out": arrays.get("held_out", np.zeros((0, 3))),
    }
