"""A fit against the truth: how far off, whether its verdict claims otherwise, and how sure a count of none is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import beta

from benchmarks.posteriordb.compare import MEAN_LIMIT, SD_LIMITS, Comparison, Scale, _scale, columns
from benchmarks.posteriordb.reference import Moments, moments
from benchmarks.synthetic.truth import Truth, free_scale
from taut.diagnostics import CORRECTED, TRUSTED

CLAIMS = (TRUSTED, CORRECTED)  # every other verdict claims nothing
EVIDENCE_LIMIT = 0.3  # nats, and three stated errors


def compare(draws: Mapping[str, np.ndarray], truth: Truth, support: Mapping[str, str]) -> Comparison:
    """Compare the draws that a verdict covers with the truth; what the truth leaves open is not judged.

    Args:
        draws: site -> ``float[S, *shape]``.
        truth: what is right.
        support: of the sites that are not real.

    Returns:
        Errors on the reported and on the unconstrained scale.
    """
    found = columns(draws, truth.names)
    with np.errstate(all="ignore"):  # draws on the edge of a support
        free = free_scale(truth.names, found, support)
        return Comparison(_side(truth.names, found, truth.natural), _side(truth.names, free, truth.free))


def _side(names: tuple[str, ...], values: np.ndarray, told: Moments) -> Scale:
    kept = np.flatnonzero(np.isfinite(told.mean) & np.isfinite(told.sd))
    if not len(kept):
        return Scale(np.nan, "", np.nan, np.nan, "", (), ())
    return _scale([names[i] for i in kept], moments(values[:, kept]), Moments(*(field[kept] for field in told)))


def false_trust(row: Mapping[str, Any]) -> bool:
    """Whether a verdict claims what is not so: a scalar beyond the limits, or a posterior that does not exist."""
    return row["level"] in CLAIMS and (bool(row["beyond"]) or not row["proper"])


def false_evidence(row: Mapping[str, Any]) -> bool:
    """Whether an evidence that is called trusted is off by more than `EVIDENCE_LIMIT` and three stated errors."""
    if not row.get("evidence_trusted"):
        return False
    error, se = row["evidence_error"], row["evidence_se"]
    return not row["proper"] or (error is not None and not abs(error) <= EVIDENCE_LIMIT + 3 * (se or 0.0))


def refused_though_good(row: Mapping[str, Any]) -> bool:
    """Whether a refused fit's own draws are within every limit."""
    known = row["level"] not in (*CLAIMS, "failed") and row["proper"]
    return known and not row["beyond"] and not row["doubtful"]


def size(row: Mapping[str, Any]) -> float:
    """The largest error on either scale in units of its limit: 1 is at the limit.

    0.1 sd of a mean, a ratio of sds of 0.9 or of 1.1; infinite where nothing finite came out.
    """
    parts = []
    for side in ("natural", "unconstrained"):
        errors = row.get(side)
        if errors and errors["mean_at"]:
            low, high = errors["sd_low"], errors["sd_high"]
            parts += [
                errors["mean_error"] / MEAN_LIMIT,
                (1 - low) / (1 - SD_LIMITS[0]),
                (high - 1) / (SD_LIMITS[1] - 1),
            ]
    sizes = [part if np.isfinite(part) else np.inf for part in parts]
    return max(sizes, default=np.inf)


def upper_limit(failures: int, cases: int, level: float = 0.95) -> float:
    """The Clopper-Pearson upper limit of a rate: with no failure in n it is about 3/n.

    Args:
        failures: how many failed.
        cases: of how many.
        level: of confidence, one-sided.

    Source: Clopper and Pearson, Biometrika 26 (1934).

    Example:
        >>> round(upper_limit(0, 60), 4)
        0.0487
    """
    return 1.0 if failures >= cases else float(beta.ppf(level, failures + 1, cases - failures))
