"""Where batches come from: one epoch of rows after another, each in its own order, from any place in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from taut._errors import TautError
from taut._keys import generator
from taut.data._arrow import arrow

# Rows of a file that are held, and shuffled among themselves, at a time.
WINDOW = 65_536


class Table(NamedTuple):
    """Some rows: their numbers ``int64[n]``, and each column's values ``(n, ...)``."""

    rows: np.ndarray
    columns: dict[str, np.ndarray]


class Source(Protocol):
    """Rows that can be gone through again and again.

    Attributes:
        rows: how many there are.
    """

    rows: int

    @property
    def whole(self) -> Mapping[str, Any] | None:
        """All columns, where they lie in memory or in a memory map; ``None`` for a stream."""
        ...

    def read(self, key: Any, epoch: int, start: int, size: int) -> Iterator[Table]:
        """Tables of ``size`` rows, the last one shorter, of an epoch from its ``start``-th row on."""
        ...


class Arrays:
    """Columns in memory or in memory maps, in a fresh order every epoch.

    Args:
        columns: arrays of one length.
    """

    def __init__(self, columns: Mapping[str, Any]):
        self.whole = {name: value if hasattr(value, "dtype") else np.asarray(value) for name, value in columns.items()}
        self.rows = one_length({name: np.shape(value) for name, value in self.whole.items()}, "the data")
        for name, value in self.whole.items():
            numeric(name, value)

    def read(self, key: Any, epoch: int, start: int, size: int) -> Iterator[Table]:
        """See `Source`; without replacement."""
        order = generator(key, _ORDER + epoch).permutation(self.rows)
        for begin in range(start, self.rows, size):
            # In ascending order, which a memory map reads faster; within a batch the order says nothing.
            rows = np.sort(order[begin : begin + size])
            yield Table(rows, {name: np.asarray(value[rows]) for name, value in self.whole.items()})


class Parquet:
    """A Parquet file, or several of one schema, larger than memory.

    Row groups come in a fresh order every epoch, and rows are shuffled within windows of 65,536 rows. A file that is
    sorted by an outcome should be shuffled once, when it is written.

    Args:
        paths: the files.
        columns: names of the columns to read; by default all.
    """

    whole: None = None

    def __init__(self, paths: Iterable[str | os.PathLike[str]], columns: Iterable[str] | None = None):
        self.paths = [Path(path) for path in paths]
        _, self.parquet = arrow(str(self.paths[0]))
        for path in self.paths:
            if not path.is_file():
                raise TautError(
                    "file-missing",
                    site=str(path),
                    found="no such file",
                    expected="a .parquet file",
                    remedy="give the path of a file that exists",
                )
        self.groups: list[tuple[int, int, int, int]] = []  # file, row group, its first row, its rows
        first = 0
        names: list[str] | None = None
        for number, path in enumerate(self.paths):
            try:
                file = self.parquet.ParquetFile(path)
            except (OSError, ValueError) as error:
                raise TautError(
                    "file-format",
                    site=str(path),
                    found=f"bytes that pyarrow cannot read ({str(error).splitlines()[0]})",
                    expected="a whole Parquet file",
                    remedy="write the file again, or give another",
                ) from error
            with file:
                here = file.schema_arrow.names
                if names is not None and here != names:
                    raise _columns(str(path), here, names)
                names = here
                for group in range(file.metadata.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    self.groups.append((number, group, first, count))
                    first += count
        self.rows = first
        self.columns = list(names or []) if columns is None else list(columns)
        missing = [name for name in self.columns if name not in (names or [])]
        if missing:
            raise _columns(str(self.paths[0]), names or [], self.columns)

    def read(self, key: Any, epoch: int, start: int, size: int) -> Iterator[Table]:
        """See `Source`."""
        return recut(self._windows(key, epoch, start), size)

    def _windows(self, key: Any, epoch: int, start: int) -> Iterator[Table]:
        order = generator(key, _ORDER + epoch).permutation(len(self.groups))
        for place in order:
            number, group, first, count = self.groups[place]
            if start >= count:
                start -= count
                continue
            shuffle = generator(key, _SHUFFLE + epoch * len(self.groups) + int(place))
            with self.parquet.ParquetFile(self.paths[number]) as file:
                for part in file.iter_batches(WINDOW, row_groups=[group], columns=self.columns):
                    mixed = shuffle.permutation(part.num_rows)
                    rows = first + mixed
                    first += part.num_rows
                    if start >= part.num_rows:
                        start -= part.num_rows
                        continue
                    columns = {name: from_arrow(name, part.column(name))[mixed[start:]] for name in self.columns}
                    yield Table(rows[start:], columns)
                    start = 0


class Stream:
    """Any re-iterable source of tables, in the order in which it gives them.

    Args:
        source: yields mappings from names to arrays with a leading axis of rows, or pyarrow's record batches.
        total: how many rows it yields in all; by default they are counted by going through it once.
    """

    whole: None = None

    def __init__(self, source: Iterable[Any], total: int | None = None):
        self.source = source
        self.rows = sum(len(table.rows) for table in self._tables()) if total is None else total
        self.columns = list(next(self._tables()).columns)

    def read(self, key: Any, epoch: int, start: int, size: int) -> Iterator[Table]:
        """See `Source`."""
        return recut(self._from(start), size)

    def _from(self, start: int) -> Iterator[Table]:
        seen = 0
        for table in self._tables():
            count = len(table.rows)
            if seen + count > start:
                skip = max(0, start - seen)
                yield Table(table.rows[skip:], {name: value[skip:] for name, value in table.columns.items()})
            seen += count
            if seen > self.rows:
                break
        if seen != self.rows:
            more = seen > self.rows
            raise TautError(
                "batch-total",
                site="total",
                found=f"{f'more than {self.rows}' if more else seen} rows in the source, where total={self.rows}",
                expected="in every epoch as many rows as were said: each of a batch stands for total / size of them",
                remedy="leave total out: the rows are then counted" if more else f"total={seen}",
            )

    def _tables(self) -> Iterator[Table]:
        first = 0
        for number, item in enumerate(self.source):
            columns = _mapping(item, number)
            count = one_length({n: v.shape for n, v in columns.items()}, f"table {number} of the source")
            yield Table(np.arange(first, first + count), columns)
            first += count
        if first == 0:
            raise TautError(
                "data-type",
                site="source",
                found="a source that yields no rows",
                expected="mappings from names to arrays with a leading axis of rows",
                remedy="an object whose __iter__ begins anew each time",
            )


def recut(tables: Iterator[Table], size: int) -> Iterator[Table]:
    """The same rows in tables of ``size``, the last one shorter."""
    held: list[Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += len(table.rows)
        if count < size:
            continue
        joined = _join(held)
        whole = count - count % size
        for begin in range(0, whole, size):
            yield _cut(joined, begin, begin + size)
        held, count = ([_cut(joined, whole, count)] if count % size else []), count % size
    if held:
        yield _join(held)


def one_length(shapes: Mapping[str, tuple[int, ...]], where: str) -> int:
    """The number of rows that all columns have.

    Raises:
        TautError: ``data-type``, naming the columns and their lengths.
    """
    flat = [name for name, shape in shapes.items() if not shape]
    lengths = {name: shape[0] for name, shape in shapes.items() if shape}
    if flat or not lengths:
        name = flat[0] if flat else "data"
        raise TautError(
            "data-type",
            site=name,
            found=f"{name!r} in {where} has no axis of rows" if flat else f"no columns in {where}",
            expected="arrays with a leading axis of rows",
            remedy=f"shared=dict({name}=...) for what all rows share" if flat else "dict(x=x, y=y)",
        )
    if len(set(lengths.values())) > 1:
        longest = max(lengths.values())
        odd = next(name for name, n in lengths.items() if n != longest)
        raise TautError(
            "data-type",
            site=odd,
            found=f"columns of different lengths in {where}: "
            + ", ".join(f"{name} has {n:,}" for name, n in lengths.items()),
            expected="one row of every column for each row of the plate",
            remedy=f"shared=dict({odd}={odd}) if all rows share it; otherwise cut the columns to one length",
        )
    return next(iter(lengths.values()))


def numeric(name: str, value: Any) -> None:
    """Refuse a column that holds no numbers."""
    if np.dtype(value.dtype).kind not in "biuf":
        raise TautError(
            "data-type",
            site=name,
            found=f"a column of {value.dtype}",
            expected="integers, floats or booleans",
            remedy=f"{name}, labels = pandas.factorize({name})",
        )


def from_arrow(name: str, column: Any) -> np.ndarray:
    """A column of pyarrow's as an array: numbers, or equally long lists of them.

    Raises:
        TautError: ``data-type`` for missing values, ragged lists and what is no number.
    """
    if column.null_count:
        raise TautError(
            "data-type",
            site=name,
            found=f"{column.null_count} missing values",
            expected="a number in every row",
            remedy=f"df = df.dropna(subset=[{name!r}])",
        )
    if str(column.type).startswith(("list", "large_list", "fixed_size_list")):
        lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) > 1:
            raise TautError(
                "data-type",
                site=name,
                found=f"lists of {lengths.min()} to {lengths.max()} entries",
                expected="lists of one length",
                remedy=f"pad {name!r} to one length, with a column that says how many count",
            )
        inner = from_arrow(name, column.flatten())
        return inner.reshape(len(column), -1)
    value = column.to_numpy(zero_copy_only=False)
    numeric(name, value)
    return value


def _mapping(item: Any, number: int) -> dict[str, np.ndarray]:
    if hasattr(item, "schema") and hasattr(item, "column"):  # a table or a record batch of pyarrow's
        return {name: from_arrow(name, _one_chunk(item.column(name))) for name in item.schema.names}
    if not isinstance(item, Mapping):
        raise TautError(
            "data-type",
            site="source",
            found=f"table {number} is a {type(item).__name__}",
            expected="mappings from the model's argument names to arrays with a leading axis of rows",
            remedy="yield dict(x=x[a:b], y=y[a:b])",
        )
    columns = {name: np.asarray(value) for name, value in item.items()}
    for name, value in columns.items():
        numeric(name, value)
    return columns


def _one_chunk(column: Any) -> Any:
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


def _cut(table: Table, begin: int, end: int) -> Table:
    return Table(table.rows[begin:end], {name: value[begin:end] for name, value in table.columns.items()})


def _join(tables: list[Table]) -> Table:
    if len(tables) == 1:
        return tables[0]
    names = tables[0].columns
    for table in tables[1:]:
        if set(table.columns) != set(names):
            raise _columns("the source", table.columns, names)
        for name, value in table.columns.items():
            if value.shape[1:] != names[name].shape[1:]:
                raise TautError(
                    "data-type",
                    site=name,
                    found=f"rows of shape {value.shape[1:]} after rows of shape {names[name].shape[1:]}",
                    expected="rows of one shape",
                    remedy=f"pad {name!r} to one length",
                )
    return Table(
        np.concatenate([table.rows for table in tables]),
        {name: np.concatenate([table.columns[name] for table in tables]) for name in names},
    )


def _columns(where: str, found: Iterable[str], expected: Iterable[str]) -> TautError:
    return TautError(
        "data-type",
        site=where,
        found=f"columns {', '.join(found)}",
        expected=f"columns {', '.join(expected)}",
        remedy="give every part the same columns",
    )


# Streams of the key: the order of an epoch, and that inside of its windows.
_ORDER, _SHUFFLE = 10_000, 1_000_000_000
