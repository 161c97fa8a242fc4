"""Where the posteriors' data and reference draws come from: a bundle of them, or a checkout of posteriordb.

A bundle holds ``data/<data>.json.gz``, ``reference/<posterior>.json.gz`` (names, means, sds, Monte Carlo errors) and
``draws/<posterior>.npz`` (``draws``, ``names``), and may hold a second folder of the same form in ``supplement/``. A
checkout is a clone of https://github.com/stan-dev/posteriordb (Magnusson, Bürkner, Vehtari and contributors).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

VARIABLE = "TAUT_POSTERIORDB"
_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "posteriordb"


class LibraryError(Exception):
    """Nothing usable where the posteriors were looked for; the text is one line."""


class Moments(NamedTuple):
    """Means and standard deviations of D scalars with their Monte Carlo standard errors, each ``float64[D]``."""

    mean: np.ndarray
    sd: np.ndarray
    mcse_mean: np.ndarray
    mcse_sd: np.ndarray


class Reference(NamedTuple):
    """A posterior's reference in the model's own space.

    Attributes:
        names: D scalars such as ``theta[1]``; indices start at 1.
        moments: of those scalars, from all reference draws.
        draws: ``float64[n, D]``; all of them or an even part.
    """

    names: tuple[str, ...]
    moments: Moments
    draws: np.ndarray


class Library(NamedTuple):
    """A folder of posteriors, in one of the two layouts that this page names."""

    folder: Path
    checkout: bool

    def has(self, posterior: str) -> bool:
        """Whether data and reference draws of this posterior are there."""
        if self.checkout:
            return (
                _checkout_draws(self.folder, posterior).is_file() and _checkout_data(self.folder, posterior).is_file()
            )
        return _part(self.folder, posterior) is not None

    def data(self, posterior: str) -> dict[str, Any]:
        """The data as posteriordb stores them."""
        if self.checkout:
            return _zipped(_require(_checkout_data(self.folder, posterior)))
        part = _bundle(self.folder, posterior)
        return _gzipped(_require(part / "data" / f"{_data_name(posterior)}.json.gz"))

    def reference(self, posterior: str) -> Reference:
        """Reference moments and draws."""
        if self.checkout:
            return _from_chains(_zipped(_require(_checkout_draws(self.folder, posterior))))
        part = _bundle(self.folder, posterior)
        told = _gzipped(part / "reference" / f"{posterior}.json.gz")
        with np.load(_require(part / "draws" / f"{posterior}.npz")) as stored:
            draws, names = np.asarray(stored["draws"], float), [str(name) for name in stored["names"]]
        if names != told["names"]:
            raise LibraryError(f"{posterior}: draws and reference in {part} name different scalars")
        fields = (np.asarray(told[field], float) for field in Moments._fields)
        return Reference(tuple(names), Moments(*fields), draws)


def find(path: str | os.PathLike[str] | None = None) -> Library:
    """The posteriors' folder: ``path``, else the variable ``TAUT_POSTERIORDB``, else ``../shared/posteriordb``.

    Args:
        path: a bundle, or the root of a posteriordb checkout.

    Returns:
        A reader of the folder.

    Raises:
        LibraryError: in one line, if there is no folder or it is neither of the two.
    """
    named = path or os.environ.get(VARIABLE)
    folder = Path(named).expanduser() if named else _BESIDE
    if not folder.is_dir():
        raise LibraryError(
            f"no posteriors at {str(folder)!r}: give --posteriordb PATH or set {VARIABLE} to a clone of "
            "https://github.com/stan-dev/posteriordb"
        )
    for checkout in (folder, folder / "posterior_database"):
        if (checkout / "reference_posteriors" / "draws" / "draws").is_dir():
            return Library(checkout, checkout=True)
    if (folder / "reference").is_dir() and (folder / "data").is_dir():
        return Library(folder, checkout=False)
    raise LibraryError(
        f"{str(folder)!r} is neither a posteriordb checkout (posterior_database/reference_posteriors) nor a bundle "
        "(data/, reference/, draws/)"
    )


def moments(draws: np.ndarray) -> Moments:
    r"""Moments of independent draws: $\mathrm{se}(\bar x) = s/\sqrt n$ and $\mathrm{se}(s) = s\sqrt{(k-1)/4n}$.

    posteriordb accepts draws only when they are thinned to a lag-one autocorrelation below 0.05.

    Args:
        draws: ``float[n, D]``, n > 1.

    Returns:
        Mean, sd (n - 1) and their standard errors; $k$ is the kurtosis, 3 for a normal.
    """
    n = len(draws)
    mean, sd = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    kurtosis = np.mean((draws - mean) ** 4, axis=0) / np.maximum(sd, np.finfo(float).tiny) ** 4
    return Moments(mean, sd, sd / np.sqrt(n), sd * np.sqrt(np.maximum(kurtosis - 1, 0) / (4 * n)))


def _from_chains(chains: list[dict[str, list[float]]]) -> Reference:
    names = tuple(chains[0])
    draws = np.concatenate([np.stack([np.asarray(chain[name], float) for name in names], axis=1) for chain in chains])
    return Reference(names, moments(draws), draws)


def _data_name(posterior: str) -> str:
    return posterior.split("-", 1)[0]  # posteriordb's own rule: <data>-<model>


def _part(folder: Path, posterior: str) -> Path | None:
    parts = (folder, folder / "supplement")
    return next((part for part in parts if (part / "reference" / f"{posterior}.json.gz").is_file()), None)


def _bundle(folder: Path, posterior: str) -> Path:
    part = _part(folder, posterior)
    if part is None:
        raise LibraryError(f"no reference of {posterior!r} in {str(folder)!r}")
    return part


def _checkout_data(folder: Path, posterior: str) -> Path:
    return folder / "data" / "data" / f"{_data_name(posterior)}.json.zip"


def _checkout_draws(folder: Path, posterior: str) -> Path:
    return folder / "reference_posteriors" / "draws" / "draws" / f"{posterior}.json.zip"


def _require(path: Path) -> Path:
    if not path.is_file():
        raise LibraryError(f"no file {str(path)!r}")
    return path


def _gzipped(path: Path) -> Any:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


def _zipped(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        inside = [name for name in archive.namelist() if name.endswith(".json") and not name.startswith("__MACOSX")]
        if len(inside) != 1:
            raise LibraryError(f"{str(path)!r} holds {len(inside)} JSON files, not one")
        return json.load(io.TextIOWrapper(archive.open(inside[0]), encoding="utf-8"))
