"""Doors to other libraries: ArviZ out; NumPyro's programs, and bare log densities, in."""

from taut.interop._arviz import to_arviz
from taut.interop._density import density
from taut.interop._numpyro import from_numpyro

__all__ = ["density", "from_numpyro", "to_arviz"]
