"""Data: tables from files, and batches of rows."""

from taut.data._batches import Batches, Chunk
from taut.data._tables import read_table
from taut.data._transforms import Binarise, binarise

__all__ = ["Batches", "Binarise", "Chunk", "binarise", "read_table"]
