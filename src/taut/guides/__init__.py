"""What q can be: one family per file."""

from taut.guides._guide import Flat, Guide, Point

__all__ = ["Flat", "Guide", "Point"]
