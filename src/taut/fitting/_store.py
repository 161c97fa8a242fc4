"""Saving a fit and loading it: arrays and a header, in one file, without the data."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taut.diagnostics import Check, Verdict
from taut.fitting._archive import read_archive, write_archive
from taut.fitting._result import Fit


def save(fit: Fit, path: str | os.PathLike[str]) -> Path:
    """Write a fit, atomically: draws, weights, verdict, figures; neither model nor data.

    Args:
        fit: the fit.
        path: the file to write.

    Returns:
        Its path.
    """
    arrays = {f"value/{name}": v for name, v in fit.values.items()}
    arrays |= {f"param/{name}": v for name, v in fit.params.items()}
    arrays["history"] = fit.history
    if fit.log_weights is not None:
        arrays["log_weights"] = fit.log_weights
    header: dict[str, Any] = {
        "title": fit.title,
        "verdict": asdict(fit.verdict),
        "status": fit.status,
        "sites": list(fit.values),
        "kinds": fit.kinds,
        "supports": fit.supports,
        "guide": fit.guide,
        "numbers": {name: list(v) for name, v in fit.numbers.items()},
        "facts": fit.facts,
    }
    write_archive(path, header, arrays)
    return Path(path)


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` wrote. No code is run and no data are needed.

    Args:
        path: the file.

    Returns:
        A `Fit` without its problem: everything but predictions works as before, bit for bit.

    Raises:
        TautError: ``file-missing``, ``file-format``, or ``schema`` with the versions concerned.
    """
    header, arrays = read_archive(path)
    verdict = header["verdict"]
    checks = tuple(Check(**check) for check in verdict.pop("checks"))
    notes = tuple(verdict.pop("notes"))
    return Fit(
        title=header["title"],
        verdict=Verdict(**verdict, checks=checks, notes=notes),
        status=header["status"],
        values={name: arrays[f"value/{name}"] for name in header["sites"]},
        log_weights=arrays.get("log_weights"),
        kinds=header["kinds"],
        supports=header["supports"],
        guide=header["guide"],
        params={k.removeprefix("param/"): v for k, v in arrays.items() if k.startswith("param/")},
        numbers={name: (v[0], v[1], v[2]) for name, v in header["numbers"].items()},
        history=arrays["history"],
        facts=header["facts"],
    )
