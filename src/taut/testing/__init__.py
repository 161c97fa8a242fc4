"""Problems whose answers are known, for testing guides, objectives and algorithms."""

from taut.testing._exact import (
    EXACT,
    Exact,
    conjugate_normal,
    conjugate_regression,
    correlated_gaussian,
    eight_schools,
    neal_funnel,
)

__all__ = [
    "EXACT",
    "Exact",
    "conjugate_normal",
    "conjugate_regression",
    "correlated_gaussian",
    "eight_schools",
    "neal_funnel",
]
