"""The objective as a reader wants it: the mean over the last parts of a run, with the noise that is left in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taut.algorithms import Progress

# Records of a run that are averaged: at 400 steps each, some thousand steps.
LAST = 8


def pooled(records: Sequence[Progress]) -> tuple[float, float]:
    r"""The mean of several records of a run and its standard error, $\sqrt{\sum_i s_i^2} / n$.

    A record of one step has no error of its own, and is left out where others have one.

    Args:
        records: in any order.

    Returns:
        In nats; NaN and infinity where there is no record.

    Example:
        >>> pooled([Progress("svi", 100, -3.0, 0.3), Progress("svi", 200, -1.0, 0.4)])
        (-2.0, 0.25)
    """
    known = [r for r in records if np.isfinite(r.se) and np.isfinite(r.elbo)]
    if not known:
        return (float(np.mean([r.elbo for r in records])) if records else float("nan")), float("inf")
    mean = float(np.mean([r.elbo for r in known]))
    return mean, float(np.sqrt(np.sum([r.se**2 for r in known])) / len(known))
