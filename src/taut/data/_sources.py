"""Where batches come from: one epoch of rows after another, each in its own order, from any place in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from taut._errors import TautError
from taut._keys import generator
from taut.data._columns import as_array, check_kinds, from_arrow, kinds_of, numeric, one_length
from taut.data._pieces import Kind, Piece, recut

# Streams of the key: the order of an epoch, and that inside of its windows.
ORDER, SHUFFLE = 10_000, 1_000_000_000


class Source(Protocol):
    """Rows that can be gone through again and again.

    Attributes:
        rows: how many there are.
        kinds: what those of every column are.
    """

    rows: int
    kinds: dict[str, Kind]

    @property
    def whole(self) -> Mapping[str, Any] | None:
        """All columns, where they lie in memory or in a memory map; ``None`` for a stream."""
        ...

    def read(self, key: Any, epoch: int, start: int, size: int) -> Iterator[list[Piece]]:
        """Batches of ``size`` rows, the last one shorter, of an epoch from its ``start``-th row on."""
        ...


class Arrays:
    """Columns in memory or in memory maps, in a fresh order every epoch.

    Args:
        columns: arrays of one length.
    """

    def __init__(self, columns: Mapping[str, Any]):
        self.columns = {name: as_array(value) for name, value in columns.items()}
        self.rows = one_length({name: np.shape(value) for name, value in self.columns.items()}, "the data")
        for name, value in self.columns.items():
            numeric(name, value)
        self.kinds = kinds_of(self.columns)

    @property
    def whole(self) -> Mapping[str, Any] | None:
        """See `Source`."""
        return self.columns if all(isinstance(value, np.ndarray) for value in self.columns.values()) else None

    def order(self, key: Any, epoch: int) -> np.ndarray:
        """All numbers of rows in the order of an epoch."""
        return generator(key, ORDER + epoch).permutation(self.rows)

    def read(self, key: Any, epoch: int, start: int, size: int) -> Iterator[list[Piece]]:
        """See `Source`; without replacement."""
        order = self.order(key, epoch)
        for begin in range(start, self.rows, size):
            # In ascending order, which a memory map reads faster; within a batch the order says nothing.
            rows = np.sort(order[begin : begin + size])
            yield [Piece(rows, self.columns, rows)]


class Stream:
    """Any re-iterable source of tables, in the order in which it gives them.

    Args:
        source: yields mappings from names to arrays with a leading axis of rows, or pyarrow's record batches.
        total: how many rows it yields in all; by default they are counted by going through it once.
    """

    whole: None = None

    def __init__(self, source: Iterable[Any], total: int | None = None):
        self.source = source
        self.kinds: dict[str, Kind] = {}
        tables = self._tables()
        first = next(tables)
        self.kinds = kinds_of(first.columns)
        self.rows = len(first.rows) + sum(len(table.rows) for table in tables) if total is None else total

    def read(self, key: Any, epoch: int, start: int, size: int) -> Iterator[list[Piece]]:
        """See `Source`."""
        return recut(self._from(start), size)

    def _from(self, start: int) -> Iterator[Piece]:
        seen = 0
        for table in self._tables():
            count = len(table.rows)
            if seen + count > start:
                yield table.cut(max(0, start - seen), count)
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

    def _tables(self) -> Iterator[Piece]:
        first = 0
        for number, item in enumerate(self.source):
            columns = _mapping(item, number)
            where = f"table {number} of the source"
            count = one_length({n: v.shape for n, v in columns.items()}, where)
            if self.kinds:
                check_kinds(columns, self.kinds, where)
            yield Piece(np.arange(first, first + count), columns, slice(0, count))
            first += count
        if first == 0:
            raise no_rows("a source that yields no rows", "an object whose __iter__ begins anew each time")


def no_rows(found: str, remedy: str) -> TautError:
    """The refusal of data without a row."""
    return TautError(
        "data-type",
        site="source",
        found=found,
        expected="mappings from names to arrays with a leading axis of rows",
        remedy=remedy,
    )


def _mapping(item: Any, number: int) -> dict[str, Any]:
    if hasattr(item, "schema") and hasattr(item, "column"):  # a table or a record batch of pyarrow's
        return {name: from_arrow(name, item.column(name)) for name in item.schema.names}
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
