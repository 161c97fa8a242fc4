"""The language: site records, the stack they travel through, and the primitives."""

from taut.core._allow import allowed
from taut.core._density import log_density
from taut.core._plate import plate, rows
from taut.core._primitives import deterministic, draw, factor, key_of, param, sample, transformed
from taut.core._site import PlateFrame, Site, user_line
from taut.core._stack import Frame, Handler, apply, empty_stack, frames
from taut.core._warning import warn

__all__ = [
    "Frame",
    "Handler",
    "PlateFrame",
    "Site",
    "allowed",
    "apply",
    "deterministic",
    "draw",
    "empty_stack",
    "factor",
    "frames",
    "key_of",
    "log_density",
    "param",
    "plate",
    "rows",
    "sample",
    "transformed",
    "user_line",
    "warn",
]
