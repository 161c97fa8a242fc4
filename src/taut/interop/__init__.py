"""Doors to other libraries: ArviZ out."""

from taut.interop._arviz import to_arviz

__all__ = ["to_arviz"]
