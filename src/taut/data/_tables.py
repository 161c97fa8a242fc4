"""Tables from files: JSON, CSV, Parquet and npz become a mapping from names to numbers and arrays, or a refusal."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from taut._errors import TautError
from taut.data._arrow import arrow as pyarrow

Value = Any  # int, float, bool or np.ndarray; as a union it would ask every caller for a cast

_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf(inity)?", re.IGNORECASE)
_BOOL = {"true": True, "false": False}
_MISSING = {"", "na", "n/a", "nan", "null", "none", "."}
_FORMATS = "a .json, .csv, .parquet or .npz file (.json.gz and .csv.gz too)"


def read_table(path: str | os.PathLike[str]) -> dict[str, Value]:
    """Read named numbers and arrays from a file; the ending of the name says the format.

    - ``.json`` (``.json.gz``): an object. Whole numbers stay Python integers, so that they can size a plate; other
      numbers are floats; lists, nested to any depth but not ragged, are arrays.
    - ``.csv`` (``.csv.gz``): a header row, then one value per column in every row.
    - ``.parquet``: numeric columns, and columns of equally long lists; needs pyarrow.
    - ``.npz``: arrays by name; one without dimensions becomes a Python number.

    Whatever the file, an array is int64, float64 or bool.

    Args:
        path: the file.

    Returns:
        Name -> Python number or array, in the order of the file; a column of n rows has shape ``(n,)``.

    Raises:
        TautError: ``file-missing``, ``file-access``, ``file-format`` (not what its ending says), ``missing-extra`` (no
            pyarrow), ``data-type`` (an entry is not numeric, has a missing cell, or is ragged: named, with its row).

    Example:
        >>> read_table("examples/data/eight_schools.json")["sigma"]
        array([15, 10, 16, 11,  9, 11, 10, 18])
    """
    name = str(path)
    endings = [ending.lower() for ending in Path(path).suffixes]
    zipped = endings[-1:] == [".gz"]
    reader = _READERS.get("".join(endings[-2:] if zipped else endings[-1:]))
    blob = _bytes(path)
    if reader is None:
        raise _format(name, f"the ending {''.join(endings[-2:] if zipped else endings[-1:])!r}", _FORMATS)
    if zipped:
        try:
            blob = gzip.decompress(blob)
        except (OSError, EOFError, zlib.error) as error:
            raise _format(name, f"bytes that gzip cannot unpack ({error})", "a whole gzip file") from error
    return reader(name, blob)


# -- one reader per format ------------------------------------------------------------------------------------------


def _json(name: str, blob: bytes) -> dict[str, Value]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _unique(name, [key for key, _ in pairs])
        return dict(pairs)

    try:
        table = json.loads(blob.decode("utf-8-sig"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, absurdly long integers, absurd nesting
        raise _format(name, f"text that is not JSON ({error})", 'JSON such as {"y": [1, 2]}') from error
    if not isinstance(table, dict):
        kind = "a list" if isinstance(table, list) else f"a single {_kind(table)}"
        raise _format(name, kind, 'an object of arrays and numbers, such as {"y": [1, 2], "sigma": 0.5}')
    return {key: _from_json(key, value) for key, value in table.items()}


def _csv(name: str, blob: bytes) -> dict[str, Value]:
    try:
        lines = csv.reader(io.StringIO(blob.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _format(name, f"text that is not CSV ({error})", "comma-separated UTF-8 text") from error
    while rows and rows[-1][1] in ([], [""]):  # blank lines at the end are not rows
        rows.pop()
    if len(rows) < 2:
        raise _format(name, f"{len(rows)} line(s)", "a header row and at least one row of values")
    header = rows.pop(0)[1]
    other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise _format(name, f"a header divided by {other!r}: {header[0]!r}", "columns divided by commas")
    if "" in header:
        raise _format(
            name,
            f"no name for column {header.index('') + 1}",
            "a name for every column",
            "df.to_csv(path, index=False)",
        )
    _unique(name, header)
    for row, (line, cells) in enumerate(rows, 1):
        if len(cells) != len(header) and cells:
            raise _format(
                name, f"{len(cells)} cells in row {row} (line {line})", f"{len(header)} cells, as in the header"
            )
    return {
        column: _from_cells(column, [cells[j] if cells else "" for _, cells in rows], [line for line, _ in rows])
        for j, column in enumerate(header)
    }


def _parquet(name: str, blob: bytes) -> dict[str, Value]:
    arrow, parquet = pyarrow(name)
    try:
        table = parquet.read_table(io.BytesIO(blob))
    except (arrow.ArrowException, OSError) as error:
        raise _format(name, f"bytes that pyarrow cannot read ({_first_line(error)})", "a whole Parquet file") from error
    _unique(name, table.column_names)
    values: dict[str, Value] = {}
    for key in table.column_names:
        column = table.column(key)
        if column.null_count:
            row = column.is_null().to_pylist().index(True) + 1
            raise _entry(
                key, f"a missing value in row {row}", "a number in every row", f"df = df.dropna(subset=[{key!r}])"
            )
        kind = column.type
        if arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_fixed_size_list(kind):
            values[key] = _from_json(key, column.to_pylist())
        elif arrow.types.is_integer(kind) or arrow.types.is_floating(kind) or arrow.types.is_boolean(kind):
            values[key] = _from_array(key, column.to_numpy())
        else:
            raise _entry(key, f"a column of {kind}", "integers, floats or booleans", f"df = df.drop(columns=[{key!r}])")
    return values


def _npz(name: str, blob: bytes) -> dict[str, Value]:
    values: dict[str, Value] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            members = archive.namelist()
            alien = next((member for member in members if not member.endswith(".npy")), None)
            if alien is not None:
                raise _format(name, f"a member {alien!r}", "arrays only, as numpy.savez writes them")
            _unique(name, members)
            for member in members:
                key = member.removesuffix(".npy")
                with archive.open(member) as file:
                    values[key] = _from_npy(key, file.read())
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise _format(
            name, f"bytes that are not npz ({_first_line(error)})", "a file that numpy.savez wrote"
        ) from error
    return values


_READERS: dict[str, Callable[[str, bytes], dict[str, Value]]] = {
    ".json": _json,
    ".json.gz": _json,
    ".csv": _csv,
    ".csv.gz": _csv,
    ".parquet": _parquet,
    ".npz": _npz,
}


# -- one converter per kind of entry --------------------------------------------------------------------------------


def _from_json(key: str, value: Any) -> Value:
    if isinstance(value, (bool, float)) or (isinstance(value, int) and _fits(value)):
        return value
    if isinstance(value, int):
        raise _beyond(key)
    if not isinstance(value, list):
        raise _entry(key, _kind(value), "a number or an array of numbers", f"take {key!r} out, or code it in numbers")
    shape, leaves = _flatten(key, value, "")
    kinds = {type(leaf) for leaf in leaves}
    if bool in kinds and len(kinds) > 1:
        raise _entry(key, "booleans beside numbers", "one kind of value", f"write {key!r} with 0 and 1")
    if kinds == {int} and not all(map(_fits, leaves)):
        raise _beyond(key)
    dtype = np.bool_ if kinds == {bool} else np.int64 if kinds == {int} else np.float64
    try:
        return np.array(leaves, dtype).reshape(shape)
    except OverflowError as error:
        raise _entry(key, "a whole number beyond a float", "numbers up to 1.8e308", f"rescale {key!r}") from error


def _flatten(key: str, value: list[Any], where: str) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and leaves of a nested list; ``where`` is the index of ``value`` in the whole, as ``[2][0]``."""
    shapes: list[tuple[int, ...]] = []
    leaves: list[Any] = []
    for index, item in enumerate(value):
        at = f"{where}[{index}]"
        if isinstance(item, list):
            shape, inner = _flatten(key, item, at)
        elif isinstance(item, (bool, int, float)):
            shape, inner = (), [item]
        else:
            raise _entry(key, f"{_kind(item)} at {key}{at}", "numbers only", f"take it out of {key!r}, with its row")
        if shapes and shape != shapes[0]:
            found = f"ragged lists: shape {shapes[0]} at {key}{where}[0], shape {shape} at {key}{at}"
            raise _entry(key, found, "lists of one length", f"pad {key!r}, or write it as one long list with an index")
        shapes.append(shape)
        leaves += inner
    return (len(value), *(shapes[0] if shapes else ())), leaves


def _from_cells(key: str, cells: list[str], lines: list[int]) -> np.ndarray:
    def at(row: int) -> str:
        return f"row {row + 1} (line {lines[row]})"

    gap = next((row for row, cell in enumerate(cells) if cell.lower() in _MISSING), None)
    if gap is not None:
        found = f"a missing cell ({cells[gap]!r}) in {at(gap)}"
        raise _entry(key, found, "a number in every row", f"df = df.dropna(subset=[{key!r}])")
    if all(_INT.fullmatch(cell) for cell in cells):
        if any(len(cell) > 4000 for cell in cells) or not all(
            map(_fits, map(int, cells))
        ):  # int() stops at 4,300 digits
            raise _beyond(key)
        return np.array([int(cell) for cell in cells], np.int64)
    if all(cell.lower() in _BOOL for cell in cells):
        return np.array([_BOOL[cell.lower()] for cell in cells])
    word = next((row for row, cell in enumerate(cells) if not _FLOAT.fullmatch(cell)), None)
    if word is not None:
        found = f"{cells[word]!r} in {at(word)}"
        remedy = f'df[{key!r}] = df[{key!r}].astype("category").cat.codes  # or drop the column'
        raise _entry(key, found, "numbers", remedy)
    return np.array([float(cell) for cell in cells])


def _from_npy(key: str, blob: bytes) -> Value:
    try:
        array = np.lib.format.read_array(io.BytesIO(blob), allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:
        raise _entry(key, _first_line(error), "a numeric array", "numpy.savez(path, y=y), with y numeric") from error
    value = _from_array(key, array)
    return value.item() if value.ndim == 0 else value


def _from_array(key: str, array: np.ndarray) -> np.ndarray:
    kind = array.dtype.kind
    if kind not in "biuf":
        raise _entry(
            key, f"dtype {array.dtype}", "integers, floats or booleans", f"take {key!r} out, or code it in numbers"
        )
    if kind == "u" and array.size and not _fits(int(array.max())):
        raise _beyond(key)
    # Unsigned integers would wrap around under a minus sign inside a model.
    return array.astype({"b": np.bool_, "f": np.float64}.get(kind, np.int64))


# -- refusals -------------------------------------------------------------------------------------------------------


def _bytes(path: str | os.PathLike[str]) -> bytes:
    file = Path(path)
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        folder = file.parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        near = difflib.get_close_matches(file.name, names, n=1)
        raise TautError(
            "file-missing",
            site=str(path),
            found="no such file" if folder.is_dir() else f"no folder {str(folder)!r}",
            expected=_FORMATS,
            remedy=f"did you mean {str(folder / near[0])!r}?" if near else "give the path of a file that exists",
        ) from error
    except (OSError, ValueError) as error:
        raise TautError(
            "file-access",
            site=str(path),
            found="a folder" if file.is_dir() else _first_line(error),
            expected=_FORMATS,
            remedy="give the path of a file that you may read",
        ) from error


def _unique(name: str, keys: list[str]) -> None:
    key, count = (Counter(keys).most_common(1) or [("", 0)])[0]
    if count > 1:
        raise _format(name, f"the name {key!r} {count} times", "every name once", f"rename one {key!r}")


def _format(name: str, found: str, expected: str, remedy: str = "write the file again, or give another") -> TautError:
    return TautError("file-format", site=name, found=found, expected=expected, remedy=remedy)


def _entry(key: str, found: str, expected: str, remedy: str) -> TautError:
    return TautError("data-type", site=key, found=found, expected=expected, remedy=remedy)


def _fits(whole: int) -> bool:
    return -(2**63) <= whole < 2**63


def _beyond(key: str) -> TautError:
    return _entry(
        key, "a whole number beyond 64 bits", "integers within 64 bits", f"write {key!r} as floats, as 1.0e20"
    )


def _kind(value: Any) -> str:
    return {dict: "an object", str: f"the text {value!r}"[:60], type(None): "null"}.get(
        type(value), type(value).__name__
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
