"""Data: tables from files, and batches of rows."""

from taut.data._batches import Batches, Chunk
from taut.data._tables import read_table

__all__ = ["Batches", "Chunk", "read_table"]
