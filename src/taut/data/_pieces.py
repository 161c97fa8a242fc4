"""Rows on their way into batches: where they lie is passed on, and they are copied once, to where they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Kind(NamedTuple):
    """What every row of a column is: the shape of one, and its type."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Table(NamedTuple):
    """Some rows: their numbers ``int64[n]``, and each column's values ``(n, ...)``."""

    rows: np.ndarray
    columns: dict[str, np.ndarray]


class Piece(NamedTuple):
    """Rows that have not been copied yet.

    Attributes:
        rows: their numbers ``int64[n]``.
        columns: what they are taken from, by name.
        at: their places in that, ``int[n]`` or a slice.
    """

    rows: np.ndarray
    columns: Mapping[str, Any]
    at: np.ndarray | slice

    def cut(self, begin: int, end: int) -> Piece:
        """Some of the rows."""
        at = slice(self.at.start + begin, self.at.start + end) if isinstance(self.at, slice) else self.at[begin:end]
        return Piece(self.rows[begin:end], self.columns, at)


def recut(pieces: Iterator[Piece], size: int) -> Iterator[list[Piece]]:
    """The same rows in batches of ``size``, the last one shorter."""
    held: list[Piece] = []
    room = size
    for piece in pieces:
        begin, count = 0, len(piece.rows)
        while count - begin >= room:
            yield [*held, piece.cut(begin, begin + room)]
            begin, held, room = begin + room, [], size
        if begin < count:
            held.append(piece.cut(begin, count))
            room -= count - begin
    if held:
        yield held


def stacked(batches: Sequence[Sequence[Piece]], kinds: Mapping[str, Kind]) -> Table:
    """Batches of one size, one after another.

    Args:
        batches: the pieces of each.
        kinds: what the rows of every column are.

    Returns:
        Row numbers ``int64[batches, B]`` and values ``(batches, B, ...)``.
    """
    lead = len(batches), sum(len(piece.rows) for piece in batches[0])
    rows = np.empty(lead, np.int64)
    columns = {name: np.empty((*lead, *kind.shape), kind.dtype) for name, kind in kinds.items()}
    for number, batch in enumerate(batches):
        begin = 0
        for piece in batch:
            end = begin + len(piece.rows)
            rows[number, begin:end] = piece.rows
            for name, out in columns.items():
                _copy(piece.columns[name], piece.at, out[number, begin:end])
            begin = end
    return Table(rows, columns)


def joined(batch: Sequence[Piece], kinds: Mapping[str, Kind]) -> Table:
    """One batch."""
    found = stacked([batch], kinds)
    return Table(found.rows[0], {name: value[0] for name, value in found.columns.items()})


def _copy(source: Any, at: np.ndarray | slice, out: np.ndarray) -> None:
    plain = isinstance(source, np.ndarray) and source.flags.c_contiguous and source.dtype == out.dtype
    if plain and isinstance(at, np.ndarray) and out.flags.c_contiguous:
        # Straight into place; "clip" only spares a second buffer, every place is within bounds.
        np.take(source, at, axis=0, out=out, mode="clip")
    else:
        out[...] = source[at]
