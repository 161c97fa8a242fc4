"""A warning that points at the user's own line."""

from __future__ import annotations

import sys
import warnings

from taut._errors import TautWarning
from taut.core._site import outside


def warn(warning: TautWarning) -> None:
    """Issue a warning at the innermost caller outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and not outside(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(warning, stacklevel=level + 1)
