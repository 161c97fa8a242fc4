"""The file of a fit: arrays bit for bit and a JSON header in one safetensors file; no pickle: loading runs no code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from taut._errors import TautError
from taut._files import atomic_write

SCHEMA = "taut-fit"
VERSION = 1

_PREFIX = "array/"  # keeps a site called "__metadata__" apart from the format's own key
_PACKAGES = ("taut", "jax", "numpy")
_KEY = "taut"  # one key, because the order of several would differ from run to run
_START = b'{"__metadata__":{"taut":'
_KINDS = "booleans, integers, floats or complex64"
_DTYPES = {np.dtype(code).name for code in "?bhilBHILqQefdF"}


def write_archive(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a header and named arrays to one file, all or nothing.

    Other readers of safetensors open the file too: array ``"tau"`` is its tensor ``"array/tau"``. Its metadata hold, as
    JSON under the key ``"taut"``, the schema's name and version, the versions of taut, jax, numpy and python, the
    header, and a checksum over all of that and the arrays. The same content gives the same bytes.

    Args:
        path: the file; its folder must exist.
        header: plain values: text keys; text, numbers (NaN and infinities too), booleans, None, lists and mappings of
            them. A tuple comes back as a list, a NumPy number as a Python number.
        arrays: name -> array of any shape, with a boolean, integer, float or complex64 type.

    Raises:
        TautError: ``data-type`` if an entry cannot be written exactly; ``file-missing`` or ``file-access`` as in
            `taut._files.atomic_write`.

    Example:
        >>> write_archive("schools.taut", {"key": 0}, {"tau": np.ones(3)})
        >>> read_archive("schools.taut")
        ({'key': 0}, {'tau': array([1., 1., 1.])})
    """
    tensors = {_PREFIX + _text(name, "arrays"): _dense(name, array) for name, array in arrays.items()}
    record = {
        "schema": SCHEMA,
        "schema_version": VERSION,
        "versions": _versions(),
        "header": _plain(header, "header"),
    }
    record["sha256"] = _checksum(record, tensors)
    atomic_write(path, safetensors.numpy.save(tensors, {_KEY: json.dumps(record)}))


def read_archive(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_archive` wrote: every bit the same, or a refusal.

    Args:
        path: the file.

    Returns:
        The header, and the arrays by name; the arrays are writable copies.

    Raises:
        TautError: ``file-missing``, ``file-access``; ``file-format`` if the file is truncated, damaged, or no saved
            fit; ``schema`` if another schema, or a newer version of this one, wrote it: both sides' versions are named.
    """
    blob = _bytes(path)
    record, length = _record(path, blob)
    wrote = _wrote(record)
    if record["schema"] != SCHEMA or record.get("schema_version") != VERSION:
        raise TautError(
            "schema",
            site=str(path),
            found=f"schema {record['schema']!r} version {record.get('schema_version')}, written by {wrote}",
            expected=f"schema {SCHEMA!r} version {VERSION}, which this taut {_versions()['taut']} reads",
            remedy="pip install --upgrade taut",
        )
    if len(blob) != length:
        state = "truncated" if len(blob) < length else "too long"
        raise _format(path, f"{len(blob)} bytes, {state}; written by {wrote}", f"{length} bytes", "copy the file again")
    try:
        tensors = safetensors.numpy.load(blob)
        whole = record.pop("sha256") == _checksum(record, tensors)
        arrays = {name.removeprefix(_PREFIX): array.copy() for name, array in tensors.items()}
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise _format(path, f"a damaged index; written by {wrote}", "a whole file", "copy the file again") from error
    if not whole:
        raise _format(path, f"bytes that changed since {wrote} wrote them", "the same bytes", "copy the file again")
    return record["header"], arrays


# -- writing --------------------------------------------------------------------------------------------------------


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a source tree on the path
            versions[package] = "unknown"
    return versions


def _dense(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.name not in _DTYPES:
        raise _refusal(name, f"an array of {array.dtype}", _KINDS)
    # The format copies raw memory, so strides and foreign byte orders are undone here. Not ascontiguousarray: it gives
    # an array without dimensions one.
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def _text(name: Any, where: str) -> str:
    try:
        if isinstance(name, str):
            name.encode()
            return name
    except UnicodeEncodeError:  # half of a surrogate pair is not Unicode text
        pass
    raise _refusal(where, f"the name {name!r}", "names that are Unicode text")


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        return _plain(value.item(), where)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {_text(key, where): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise _refusal(where, f"a {type(value).__name__}", "text, numbers, booleans, None, lists and mappings")


def _checksum(record: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(record).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"\0{name}\0{array.dtype.name}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# -- reading --------------------------------------------------------------------------------------------------------


def _bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise TautError(
            "file-missing",
            site=str(path),
            found="no such file",
            expected="a file that fit.save wrote",
            remedy='fit.save("fit.taut"); taut.load("fit.taut")',
        ) from error
    except (OSError, ValueError) as error:
        raise TautError(
            "file-access",
            site=str(path),
            found="a folder" if Path(path).is_dir() else str(error),
            expected="a file that fit.save wrote",
            remedy="give the path of a file that you may read",
        ) from error


def _record(path: str | os.PathLike[str], blob: bytes) -> tuple[dict[str, Any], int]:
    """What a taut file of any version says of itself, and how many bytes it should have.

    Read by hand, because the library refuses a truncated file before it tells who wrote it. The layout is 8 bytes of
    length n, n bytes of JSON, then the arrays.
    """
    if not blob[8:].startswith(_START):
        raise _alien(path, blob)
    size = int.from_bytes(blob[:8], "little")
    if size > len(blob) - 8:
        raise _format(path, f"{len(blob)} bytes, truncated", f"at least {size + 8} bytes", "copy the file again")
    try:
        index = json.loads(blob[8 : 8 + size])
        record = json.loads(index.pop("__metadata__")[_KEY])
        length = 8 + size + max((entry["data_offsets"][1] for entry in index.values()), default=0)
        str(record["schema"])
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise _format(path, "a damaged index", "a file that fit.save wrote", "copy the file again") from error
    return record, length


def _wrote(record: Mapping[str, Any]) -> str:
    versions = record.get("versions")
    if not isinstance(versions, dict):
        return "unknown versions"
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _alien(path: str | os.PathLike[str], blob: bytes) -> TautError:
    kinds = {b"PK\x03\x04": "a zip or npz file", b"\x1f\x8b": "a gzip file", b"\x93NUMPY": "a npy file", b"<": "HTML"}
    kinds |= {b"\x80": "a pickle", b"{": "JSON", b"": "bytes of another format"}
    kind = next(kind for start, kind in kinds.items() if blob.startswith(start)) if blob else "an empty file"
    return _format(path, kind, "a file that fit.save wrote", 'fit.save("fit.taut"); taut.load("fit.taut")')


def _format(path: str | os.PathLike[str], found: str, expected: str, remedy: str) -> TautError:
    return TautError("file-format", site=str(path), found=found, expected=expected, remedy=remedy)


def _refusal(site: str, found: str, expected: str) -> TautError:
    return TautError("data-type", site=site, found=found, expected=expected, remedy="leave it out, or convert it first")
