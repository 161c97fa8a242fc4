"""whole: open every plate at its full size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from taut.core import Handler, Site


class whole(Handler):
    """Undo subsampling: each plate yields all of its rows, and no site is rescaled.

    Subsampling is a way to compute, not a part of the model; a full-data algorithm and the check of its answer use
    every row.

    Args:
        fn: the program.
    """

    def before(self, site: Site) -> Site:
        """Answer a plate with all of its rows."""
        if site.kind == "plate" and site.value is None:
            return replace(site, value=np.arange(site.fn.size))
        return site
