"""Rows of Parquet files, larger than memory: row groups in a fresh order, rows shuffled within windows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from taut._errors import TautError
from taut._keys import generator
from taut.data._arrow import arrow
from taut.data._columns import check_kinds, from_arrow, kinds_of, other_columns
from taut.data._pieces import Kind, Piece, recut
from taut.data._sources import ORDER, SHUFFLE, no_rows

# Rows of a file that are held, and shuffled among themselves, at a time; fewer where they are wide.
WINDOW, WINDOW_BYTES = 65_536, 2**26

# What is read of a column of a row group at a time: a group may be the whole file.
_BUFFER = 2**20


class Parquet:
    """A Parquet file, or several with the same columns, larger than memory.

    Row groups come in a fresh order every epoch, and rows are shuffled within windows of 65,536 rows. A file that is
    sorted by an outcome should be shuffled once, when it is written.

    Args:
        paths: the files.
        columns: names of the columns to read, by default all; or a mapping from names to columns, in which several
            columns make one array: ``{"x": ["age", "height"], "y": "weight"}``.
    """

    whole: None = None

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        columns: Iterable[str] | Mapping[str, str | Iterable[str]] | None = None,
    ):
        self.paths = [Path(path) for path in paths]
        _, self.parquet = arrow(str(self.paths[0]))
        self.groups: list[tuple[int, int, int, int]] = []  # file, row group, its first row, its rows
        first = 0
        names: list[str] | None = None
        for number, path in enumerate(self.paths):
            with self._open(path) as file:
                here = file.schema_arrow.names
                if names is not None and set(here) != set(names):
                    raise other_columns(str(path), here, names)
                names = here if names is None else names
                for group in range(file.metadata.num_row_groups):
                    meta = file.metadata.row_group(group)
                    if meta.num_rows:
                        self.groups.append((number, group, first, meta.num_rows))
                        first += meta.num_rows
        self.rows = first
        if not self.rows:
            files = f"{self.paths[0]}" if len(self.paths) == 1 else f"{len(self.paths)} files"
            raise no_rows(f"{files}, without a row", "write the file again, or give another")
        self.columns = _wanted(columns, names or [])
        missing = [name for group in self.columns.values() for name in group if name not in (names or [])]
        if missing:
            raise other_columns(str(self.paths[0]), names or [], [n for group in self.columns.values() for n in group])
        self.kinds = self._kinds()
        wide = sum(math.prod(kind.shape) * kind.dtype.itemsize for kind in self.kinds.values())
        self.window = max(1, min(WINDOW, WINDOW_BYTES // max(wide, 1)))

    def read(self, key: Any, epoch: int, start: int, size: int) -> Iterator[list[Piece]]:
        """See `Source`."""
        return recut(self._windows(key, epoch, start), size)

    def _windows(self, key: Any, epoch: int, start: int) -> Iterator[Piece]:
        order = generator(key, ORDER + epoch).permutation(len(self.groups))
        for place in order:
            number, group, first, count = self.groups[place]
            if start >= count:
                start -= count
                continue
            shuffle = generator(key, SHUFFLE + epoch * len(self.groups) + int(place))
            with self._open(self.paths[number]) as file:
                for part in file.iter_batches(self.window, row_groups=[group], columns=self._names()):
                    mixed = shuffle.permutation(part.num_rows)[start:]
                    rows = first + mixed
                    first += part.num_rows
                    start = max(0, start - part.num_rows)
                    if len(mixed):
                        columns = self._arrays(part)
                        check_kinds(columns, self.kinds, str(self.paths[number]))
                        yield Piece(rows, columns, mixed)

    def _open(self, path: Path) -> Any:
        if not path.is_file():
            raise TautError(
                "file-missing",
                site=str(path),
                found="no such file",
                expected="a .parquet file",
                remedy="give the path of a file that exists",
            )
        try:
            return self.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
        except (OSError, ValueError) as error:
            raise TautError(
                "file-format",
                site=str(path),
                found=f"bytes that pyarrow cannot read ({str(error).splitlines()[0]})",
                expected="a whole Parquet file",
                remedy="write the file again, or give another",
            ) from error

    def _kinds(self) -> dict[str, Kind]:
        """What rows are, of the first row of every file; the widest type where files differ."""
        kinds: dict[str, Kind] = {}
        for number in {group[0]: None for group in self.groups}:
            with self._open(self.paths[number]) as file:
                here = kinds_of(self._arrays(next(file.iter_batches(1, columns=self._names()))))
            for name, (shape, dtype) in here.items():
                before = kinds.get(name, Kind(shape, dtype))
                kinds[name] = Kind(before.shape, np.result_type(before.dtype, dtype))
        return kinds

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for group in self.columns.values() for name in group))

    def _arrays(self, part: Any) -> dict[str, np.ndarray]:
        found = {}
        for name, group in self.columns.items():
            arrays = [from_arrow(column, part.column(column)) for column in group]
            if isinstance(group, tuple):
                found[name] = arrays[0]
            else:
                _one_shape(name, dict(zip(group, arrays, strict=True)))
                found[name] = np.stack(arrays, axis=1)
        return found


def _wanted(columns: Any, names: list[str]) -> dict[str, tuple[str] | list[str]]:
    """By the model's argument, a column in a tuple, or several in a list, which make one array."""
    if columns is None:
        return {name: (name,) for name in names}
    if isinstance(columns, Mapping):
        return {name: (given,) if isinstance(given, str) else list(given) for name, given in columns.items()}
    return {name: (name,) for name in ([columns] if isinstance(columns, str) else columns)}


def _one_shape(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    shapes = {column: array.shape[1:] for column, array in arrays.items()}
    if len(set(shapes.values())) != 1:
        raise TautError(
            "data-type",
            site=name,
            found=f"columns with rows of other shapes: {', '.join(f'{n} {s}' for n, s in shapes.items())}",
            expected="columns of one shape, to be laid side by side",
            remedy=f'columns={{"{name}": [names of columns of numbers]}}',
        )
