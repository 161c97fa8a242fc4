"""Batches: rows of a plate, a few at a time, with the number of all rows kept in mind."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from taut._arguments import bad_argument, whole_number
from taut._errors import TautError
from taut._keys import generator
from taut.data._parquet import Parquet
from taut.data._pieces import Piece, Table, joined
from taut.data._reader import Chunk, Reader, words_of
from taut.data._sources import Arrays, Source, Stream
from taut.data._transforms import STEPS, Transform

# Orders that are gone through at once: that of a run, and that of a look at its data in between.
_READERS = 2

# Bytes of data that may lie on the device as a whole.
_RESIDENT = 2**28


class Batches:
    r"""Data whose rows are visited a few at a time, $B$ of $N$, in epochs without replacement.

    The model is the one for the whole data. It opens ``plate`` with as many rows as it is given, and the library knows
    that these are a batch: every statement inside counts $N / B$ times, so that for a batch $b$

    $$\hat{\mathcal L}_b = \frac{N}{|b|} \sum_{i \in b} \ell_i + \ell_{\text{global}},\qquad
      \sum_b \frac{|b|}{N} \hat{\mathcal L}_b = \mathcal L$$

    exactly, over any partition, with an uneven last batch too.

    Args:
        data: columns by argument name, all of one length, in memory or in memory maps; the path of a Parquet file, or
            several; a table or data set of pyarrow's; or any object that can be iterated again and again, yielding
            mappings of arrays with a leading axis of rows.
        size: rows of a batch $B$.
        plate: the name of the model's plate whose rows these are.
        shared: arguments of the model that all rows share: numbers, sizes, arrays that belong to no row.
        total: how many rows a stream has; by default it is gone through once and they are counted.
        columns: columns of a Parquet file, by default all; or a mapping in which several make one array,
            ``{"x": ["age", "height"], "y": "weight"}``.
        transform: what is done to the columns of every batch, ``(columns, generator) -> columns``, with noise that key
            and step determine: `Binarise`.

    Attributes:
        rows: how many there are.
        total: $N$, the rows that they stand for: as many, unless they are held out from more.

    Raises:
        TautError: ``data-iterator`` for a generator, ``data-type`` for columns of different lengths and for what is
            not numeric, ``batch-total`` for a source whose rows are not as many as said, ``bad-argument``.

    Example:
        >>> batches = taut.data.Batches(dict(y=np.arange(10.0)), size=4, plate="rows")
        >>> len(batches), [len(batch["y"]) for batch in batches]
        (3, [4, 4, 2])
    """

    def __init__(
        self,
        data: Any,
        size: int,
        plate: str,
        *,
        shared: Mapping[str, Any] | None = None,
        total: int | None = None,
        columns: Iterable[str] | Mapping[str, str | Iterable[str]] | None = None,
        transform: Transform | None = None,
    ):
        size = whole_number("size", size, "size=128")
        total = None if total is None else whole_number("total", total, "total=128")
        if not isinstance(plate, str) or not plate:
            raise bad_argument(
                "plate", f"plate={plate!r}", "the name of the model's plate over the rows", 'plate="rows"'
            )
        self.plate = plate
        if transform is not None and not callable(transform):
            found = f"transform={transform!r}"
            raise bad_argument(
                "transform", found, "a function of columns and a generator", 'transform=taut.data.Binarise("x")'
            )
        self.transform = transform
        self.shared = dict(shared or {})
        self.source = _source(data, total, columns)
        self.rows = self.source.rows
        if total is not None and self.rows != total:
            raise TautError(
                "batch-total",
                site="total",
                found=f"total={total} for {self.rows:,} rows",
                expected=f"{self.rows}",
                remedy="leave total out: the number of rows is known",
            )
        if size > self.rows:
            found = f"size={size} of {self.rows} rows"
            raise bad_argument("size", found, "no more rows than there are", f"size={self.rows}")
        self.size, self.total = size, self.rows
        self._lock = threading.Lock()
        self._readers: list[Reader] = []
        self._firsts: dict[bool, Table] = {}
        self._order: tuple[Any, int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Batches of an epoch, the last one perhaps smaller."""
        return -(-self.rows // self.size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches of one epoch, each with what all rows share."""
        for step, batch in enumerate(self.source.read(0, 0, 0, self.size)):
            yield {**self.made(batch, 0, step).columns, **self.shared}

    def __repr__(self) -> str:
        return f"Batches({self.rows:,} rows, {self.size} at a time, plate={self.plate!r})"

    @property
    def even(self) -> bool:
        """Whether all batches have one size."""
        return self.rows % self.size == 0

    @property
    def whole(self) -> dict[str, Any] | None:
        """All data, where they lie in memory or in a memory map, and every step sees them as they are."""
        return None if self.source.whole is None or self.transform is not None else {**self.source.whole, **self.shared}

    @property
    def resident(self) -> bool:
        """Whether all rows may lie on the device: in memory, seen as they are, and not too large."""
        whole = self.source.whole
        if whole is None or self.transform is not None:
            return False
        return all(not isinstance(v, np.memmap) for v in whole.values()) and (
            sum(v.nbytes for v in whole.values()) <= _RESIDENT
        )

    def numbers(self, key: Any, step: int, count: int) -> np.ndarray:
        """Numbers of the rows that `take` would give, ``int64[count, B]``, of data in memory."""
        source = self.source
        assert isinstance(source, Arrays)
        parts = []
        with self._lock:
            while count:
                epoch, place = divmod(step, len(self))
                if self._order is None or self._order[:2] != (words_of(key), epoch):
                    self._order = (words_of(key), epoch, source.order(key, epoch))
                here = min(count, self.run(step, len(self) - place))
                rows = self._order[2][place * self.size : (place + here) * self.size]
                parts.append(np.sort(rows.reshape(here, -1), axis=1))
                step, count = step + here, count - here
        return np.concatenate(parts)

    def first(self, last: bool = False) -> Table:
        """The first batch of the first epoch, or its last one."""
        if last not in self._firsts:
            step = len(self) - 1 if last else 0
            self._firsts[last] = self.made(next(self.source.read(0, 0, step * self.size, self.size)), 0, step)
        return self._firsts[last]

    def made(self, batch: list[Piece], key: Any, step: int) -> Table:
        """The rows of a step as the model sees them."""
        table = joined(batch, self.source.kinds)
        if self.transform is None:
            return table
        return table._replace(columns=self.transform(table.columns, generator(key, STEPS + step)))

    def resized(self, size: int, total: int | None = None) -> Batches:
        """The same rows, another number at a time.

        Args:
            size: rows of a batch.
            total: how many rows all of them stand for; by default as many as they are.
        """
        other = copy.copy(self)
        other.size, other.total = size, self.rows if total is None else total
        other._lock, other._readers, other._firsts, other._order = threading.Lock(), [], {}, None
        return other

    def run(self, step: int, limit: int) -> int:
        """How many batches from the ``step``-th on have one size, ``limit`` at most."""
        if self.even:
            return limit
        place, full = step % len(self), len(self) - 1
        return 1 if place >= full else min(limit, full - place)

    def take(self, key: Any, step: int, count: int) -> Chunk:
        """The batches from the ``step``-th on, counted over all epochs; ``count`` as `run` allows.

        The same key and step give the same batches, whatever was taken before. The next ones are read ahead.

        Args:
            key: an integer or a JAX key, which determines the order of every epoch.
            step: the first batch, from 0.
            count: how many.
        """
        with self._lock:
            words = words_of(key)
            reader = next((r for r in self._readers if (r.words, r.step) == (words, step)), None)
            if reader is None:
                # Of a copy, which holds no reader: what was read ahead is gone as soon as these batches are.
                reader = Reader(self.resized(self.size, self.total), key, step)
            # A reader that is interrupted does not know where it stands, and is not asked again.
            others = [r for r in self._readers if r is not reader and r.words != words]
            self._readers = others
            chunk = reader.take(count)
            self._readers = [reader, *others][:_READERS]
            return chunk


def _source(given: Any, total: int | None, columns: Any) -> Source:
    if isinstance(given, str | os.PathLike):
        return Parquet([given], columns)
    if isinstance(given, list | tuple) and given and all(isinstance(path, str | os.PathLike) for path in given):
        return Parquet(given, columns)
    data: Any = given
    if columns is not None:
        raise bad_argument(
            "columns", f"columns={columns!r} of {type(data).__name__}", "a Parquet file", "leave out what is not wanted"
        )
    if hasattr(data, "schema") and hasattr(data, "to_batches"):  # a table or a data set of pyarrow's
        return Stream(_Reiterable(data), data.num_rows if hasattr(data, "num_rows") else data.count_rows())
    if hasattr(data, "columns") and hasattr(data, "__getitem__") and not isinstance(data, Mapping):  # a data frame
        data = {name: np.asarray(data[name]) for name in data.columns}
    if isinstance(data, Mapping):
        if not data:
            raise bad_argument("data", "no columns", "columns by the model's argument names", "dict(x=x, y=y)")
        for name, value in data.items():
            if isinstance(value, Iterator):
                raise _generator(name, value)
        return Arrays(data)
    if isinstance(data, Iterator):
        raise _generator("data", data)
    if isinstance(data, Iterable):
        return Stream(data, total)
    raise bad_argument(
        "data",
        f"data of type {type(data).__name__}",
        "columns by name, a Parquet file, or an object that can be iterated again and again",
        "taut.data.Batches(dict(x=x, y=y), size=128, plate='rows')",
    )


class _Reiterable:
    """pyarrow's record batches, anew each time."""

    def __init__(self, table: Any):
        self.table = table

    def __iter__(self) -> Iterator[Any]:
        if hasattr(self.table, "num_rows"):
            return iter(self.table.to_batches())
        # A data set reads far ahead of who asks, unless it is told not to.
        return iter(self.table.to_batches(batch_readahead=2, fragment_readahead=1))


def _generator(name: str, value: Any) -> TautError:
    return TautError(
        "data-iterator",
        site=name,
        found=f"{name!r} is a {type(value).__name__}, which can be gone through once",
        expected="an object that can be iterated again for every epoch",
        remedy="a class whose __iter__ begins anew, or arrays: taut.data.Batches(dict(x=x, y=y), ...)",
    )
