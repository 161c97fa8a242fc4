"""Latents that NumPyro's `handlers.reparam` puts in the place of the program's own."""

from __future__ import annotations

import sys
from typing import Any

from taut import dist

# In `Site.infer` of such a latent: results show the site that is computed from it.
REPARAM_BASE = "reparam_base"


def base_note() -> dict[str, Any]:
    """What `Site.infer` says of the statement that is being made, which may be one of NumPyro's `handlers.reparam`."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_qualname == "reparam.process_message" and dist.is_from_numpyro(code.co_filename):
            return {REPARAM_BASE: True}
        frame = frame.f_back
    return {}
