"""Should you believe it: importance weights, k-hat, reweighted moments, and the verdict made of them. NumPy only."""

from taut.diagnostics._evidence import FINITE_VARIANCE, EvidenceLine, Pool, from_posterior, from_weights, pooled
from taut.diagnostics._evidence_curve import EvidenceCurve, evidence_curve
from taut.diagnostics._evidence_interval import EvidenceInterval, interval
from taut.diagnostics._jackknife import jackknife
from taut.diagnostics._judge import judge
from taut.diagnostics._moments import Comparison, compare, cov, mean, normalised, quantile, sd
from taut.diagnostics._pareto import fit_pareto, khat, khat_limit, lower_tail_khat, psis
from taut.diagnostics._verdict import (
    CORRECTED,
    NOT_TRUSTED,
    TRUSTED,
    UNVERIFIED,
    Check,
    Evidence,
    Limits,
    Modes,
    Orders,
    Verdict,
)
from taut.diagnostics._verification import Verification, against
from taut.diagnostics._weights import Weighing, logmeanexp, weigh

__all__ = [
    "CORRECTED",
    "FINITE_VARIANCE",
    "NOT_TRUSTED",
    "TRUSTED",
    "UNVERIFIED",
    "Check",
    "Comparison",
    "Evidence",
    "EvidenceCurve",
    "EvidenceInterval",
    "EvidenceLine",
    "Limits",
    "Modes",
    "Orders",
    "Pool",
    "Verdict",
    "Verification",
    "Weighing",
    "against",
    "compare",
    "cov",
    "evidence_curve",
    "fit_pareto",
    "from_posterior",
    "from_weights",
    "interval",
    "jackknife",
    "judge",
    "khat",
    "khat_limit",
    "logmeanexp",
    "lower_tail_khat",
    "mean",
    "normalised",
    "pooled",
    "psis",
    "quantile",
    "sd",
    "weigh",
]
