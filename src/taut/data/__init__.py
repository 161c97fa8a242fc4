"""Data: tables from files."""

from taut.data._tables import read_table

__all__ = ["read_table"]
