"""Problems whose answers are known, and public checks of objectives and gradient estimators of one's own."""

from taut.testing._check_gradient import check_gradient
from taut.testing._check_objective import check_objective
from taut.testing._exact import (
    EXACT,
    Exact,
    conjugate_normal,
    conjugate_regression,
    correlated_gaussian,
    eight_schools,
    neal_funnel,
)
from taut.testing._laws import LawBroken

__all__ = [
    "EXACT",
    "Exact",
    "LawBroken",
    "check_gradient",
    "check_objective",
    "conjugate_normal",
    "conjugate_regression",
    "correlated_gaussian",
    "eight_schools",
    "neal_funnel",
]
