"""Batches: rows of a plate, a few at a time, with the number of all rows kept in mind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from taut._errors import TautError
from taut._keys import generator
from taut.data._sources import Arrays, Parquet, Source, Stream, Table
from taut.data._transforms import STEPS, Transform


class Chunk(NamedTuple):
    """Several batches of one size, one after another.

    Attributes:
        rows: numbers of the rows, ``int64[batches, B]``.
        columns: their values by name, ``(batches, B, ...)``.
    """

    rows: np.ndarray
    columns: dict[str, np.ndarray]


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
        columns: columns of a Parquet file; by default all.
        transform: what is done to the columns of every batch, ``(columns, generator) -> columns``, with noise that key
            and step determine: `Binarise`.

    Attributes:
        rows: $N$.

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
        columns: Iterable[str] | None = None,
        transform: Transform | None = None,
    ):
        for name, value in (("size", size), ("total", total)):
            if (name, value) != ("total", None) and (
                isinstance(value, bool) or not isinstance(value, int) or value < 1
            ):
                raise _bad(name, f"{name}={value!r}", "a positive whole number", f"{name}=128")
        if not isinstance(plate, str) or not plate:
            raise _bad("plate", f"plate={plate!r}", "the name of the model's plate over the rows", 'plate="rows"')
        self.plate = plate
        if transform is not None and not callable(transform):
            found = f"transform={transform!r}"
            raise _bad("transform", found, "a function of columns and a generator", 'transform=taut.data.Binarise("x")')
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
            raise _bad("size", f"size={size} of {self.rows} rows", "no more rows than there are", f"size={self.rows}")
        self.size = size
        self._lock = threading.Lock()
        self._reader: _Reader | None = None

    def __len__(self) -> int:
        """Batches of an epoch, the last one perhaps smaller."""
        return -(-self.rows // self.size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches of one epoch, each with what all rows share."""
        for step, table in enumerate(self.source.read(0, 0, 0, self.size)):
            yield {**self.made(table, 0, step).columns, **self.shared}

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

    def first(self, last: bool = False) -> Table:
        """The first batch of the first epoch, or its last one."""
        start = (len(self) - 1) * self.size if last else 0
        return self.made(next(self.source.read(0, 0, start, self.size)), 0, start // self.size)

    def made(self, table: Table, key: Any, step: int) -> Table:
        """The rows of a step as the model sees them."""
        if self.transform is None:
            return table
        return table._replace(columns=self.transform(table.columns, generator(key, STEPS + step)))

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
            reader = self._reader
            if reader is None or not reader.fits(key, step):
                reader = self._reader = _Reader(self, key, step)
            return reader.take(count)


class _Reader:
    """Goes through the epochs from one step on, a chunk ahead of who asks."""

    def __init__(self, batches: Batches, key: Any, step: int):
        self.batches, self.key, self.step = batches, key, step
        self.words = _words(key)
        self.tables = self._from(step)
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="taut-batches")
        self.ahead: tuple[int, Future[Chunk]] | None = None

    def fits(self, key: Any, step: int) -> bool:
        return step == self.step and _words(key) == self.words

    def take(self, count: int) -> Chunk:
        if self.ahead is None:
            chunk = self._stack(count)
        else:
            asked, future = self.ahead
            self.ahead = None
            chunk = future.result()
            if asked < count:
                more = self._stack(count - asked)
                chunk = Chunk(
                    np.concatenate([chunk.rows, more.rows]),
                    {n: np.concatenate([v, more.columns[n]]) for n, v in chunk.columns.items()},
                )
            elif asked > count:
                # The reader is ahead of what was wanted: what is left over is read again.
                self.tables = self._from(self.step + count)
                chunk = Chunk(chunk.rows[:count], {n: v[:count] for n, v in chunk.columns.items()})
        self.step += count
        coming = self.batches.run(self.step, count)
        self.ahead = coming, self.pool.submit(self._stack, coming)
        return chunk

    def _from(self, step: int) -> Iterator[Table]:
        batches = self.batches
        epoch, place = divmod(step, len(batches))
        while True:
            for table in batches.source.read(self.key, epoch, place * batches.size, batches.size):
                yield batches.made(table, self.key, step)
                step += 1
            epoch, place = epoch + 1, 0

    def _stack(self, count: int) -> Chunk:
        tables = [next(self.tables) for _ in range(count)]
        names = tables[0].columns
        return Chunk(
            np.stack([table.rows for table in tables]),
            {name: np.stack([table.columns[name] for table in tables]) for name in names},
        )


def _words(key: Any) -> Any:
    return key if isinstance(key, int) else tuple(np.asarray(key).ravel().tolist()) if hasattr(key, "dtype") else key


def _source(given: Any, total: int | None, columns: Iterable[str] | None) -> Source:
    if isinstance(given, str | os.PathLike):
        return Parquet([given], columns)
    if isinstance(given, list | tuple) and given and all(isinstance(path, str | os.PathLike) for path in given):
        return Parquet(given, columns)
    data: Any = given
    if hasattr(data, "columns") and hasattr(data, "keys") and not isinstance(data, Mapping):
        data = {name: np.asarray(data[name]) for name in data.keys()}  # noqa: SIM118 - a data frame
    if isinstance(data, Mapping):
        if not data:
            raise _bad("data", "no columns", "columns by the model's argument names", "dict(x=x, y=y)")
        for name, value in data.items():
            if isinstance(value, Iterator):
                raise _generator(name, value)
        return Arrays(data)
    if isinstance(data, Iterator):
        raise _generator("data", data)
    if hasattr(data, "schema") and hasattr(data, "to_batches"):  # a table or a data set of pyarrow's
        return Stream(_Reiterable(data), data.num_rows if hasattr(data, "num_rows") else data.count_rows())
    if isinstance(data, Iterable):
        return Stream(data, total)
    raise _bad(
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
        return iter(self.table.to_batches())


def _generator(name: str, value: Any) -> TautError:
    return TautError(
        "data-iterator",
        site=name,
        found=f"{name!r} is a {type(value).__name__}, which can be gone through once",
        expected="an object that can be iterated again for every epoch",
        remedy="a class whose __iter__ begins anew, or arrays: taut.data.Batches(dict(x=x, y=y), ...)",
    )


def _bad(site: str, found: str, expected: str, remedy: str) -> TautError:
    return TautError("bad-argument", site=site, found=found, expected=expected, remedy=remedy)
