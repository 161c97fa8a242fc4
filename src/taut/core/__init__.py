"""The language: site records, the stack they travel through, and the primitives."""

from taut.core._allow import allowed
from taut.core._density import log_density
from taut.core._plate import plate
from taut.core._primitives import deterministic, factor, param, sample, transformed
from taut.core._site import PlateFrame, Site, user_line
from taut.core._stack import Frame, Handler, empty_stack, frames
from taut.core._warning import warn

__all__ = [
    "Frame",
    "Handler",
    "PlateFrame",
    "Site",
    "allowed",
    "deterministic",
    "empty_stack",
    "factor",
    "frames",
    "log_density",
    "param",
    "plate",
    "sample",
    "transformed",
    "user_line",
    "warn",
]
