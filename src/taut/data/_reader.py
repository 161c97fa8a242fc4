"""Batches read ahead: while the device computes on some, the next ones are stacked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from taut.data._pieces import Piece, stacked

if TYPE_CHECKING:
    from taut.data._batches import Batches


class Chunk(NamedTuple):
    """Several batches of one size, one after another.

    Attributes:
        rows: numbers of the rows, ``int64[batches, B]``.
        columns: their values by name, ``(batches, B, ...)``.
    """

    rows: np.ndarray
    columns: dict[str, np.ndarray]

    def cut(self, begin: int, end: int) -> Chunk:
        """Some of the batches."""
        return Chunk(self.rows[begin:end], {name: value[begin:end] for name, value in self.columns.items()})


class Reader:
    """Goes through the epochs of one order from one step on, a chunk ahead of who asks.

    Args:
        batches: what is gone through.
        key: determines the order.
        step: where to begin.

    Attributes:
        words: the key's, by which readers are told apart.
        step: the next batch.
    """

    def __init__(self, batches: Batches, key: Any, step: int):
        self.batches, self.key, self.step = batches, key, step
        self.words = words_of(key)
        self._read = step  # the next batch that is not read yet
        self._usual = 1  # the most that were asked for at once
        self._source = _from(batches, key, step)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="taut-batches")
        self._ready: deque[Chunk] = deque()
        self._coming: Future[Chunk] | None = None

    def take(self, count: int) -> Chunk:
        """The next batches; they have one size."""
        parts: list[Chunk] = []
        need = count
        while need:
            if not self._ready:
                self._ready.append(self._next(need))
            chunk = self._ready.popleft()
            if len(chunk.rows) > need:
                self._ready.appendleft(chunk.cut(need, len(chunk.rows)))
            parts.append(chunk.cut(0, need))
            need -= len(parts[-1].rows)
        self.step += count
        self._usual = max(self._usual, count)
        if self._coming is None and len(self._ready) < 2:
            ahead = self.batches.run(self._read, self._usual)
            self._read += ahead
            self._coming = self._pool.submit(self._stack, self._read - ahead, ahead)
        return _joined(parts)

    def _next(self, need: int) -> Chunk:
        if self._coming is not None:
            coming, self._coming = self._coming, None
            return coming.result()
        self._read += need
        return self._stack(self._read - need, need)

    def _stack(self, step: int, count: int) -> Chunk:
        parts = [next(self._source) for _ in range(count)]
        if self.batches.transform is None:
            return Chunk(*stacked(parts, self.batches.source.kinds))
        tables = [self.batches.made(part, self.key, step + place) for place, part in enumerate(parts)]
        names = tables[0].columns
        return Chunk(
            np.stack([table.rows for table in tables]),
            {name: np.stack([table.columns[name] for table in tables]) for name in names},
        )


def _from(batches: Batches, key: Any, step: int) -> Iterator[list[Piece]]:
    # Not a method: a reader that its own generator held would stay in memory, with all that it has read ahead.
    epoch, place = divmod(step, len(batches))
    while True:
        yield from batches.source.read(key, epoch, place * batches.size, batches.size)
        epoch, place = epoch + 1, 0


def words_of(key: Any) -> Any:
    """What tells one key from another."""
    return key if isinstance(key, int) else tuple(np.asarray(key).ravel().tolist()) if hasattr(key, "dtype") else key


def _joined(parts: list[Chunk]) -> Chunk:
    if len(parts) == 1:
        return parts[0]
    return Chunk(
        np.concatenate([part.rows for part in parts]),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )
