"""What the functions here read of a fit, so that they need not know how it was made."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from taut._errors import TautError
from taut.problem import Problem


class Fitted(Protocol):
    """A fit as `taut.fit` returns it."""

    @property
    def kinds(self) -> dict[str, str]:
        """``"latent"``, ``"param"`` or ``"deterministic"``, by site."""
        ...

    @property
    def params(self) -> Any:
        """The guide's parameters."""
        ...

    @property
    def problem(self) -> Problem | None:
        """The problem, unless the fit was loaded."""
        ...

    def __getitem__(self, name: str) -> Any: ...

    def draws(self, n: int | None = None, key: Any = 0) -> dict[str, np.ndarray]:
        """Draws by site."""
        ...


def problem_of(fit: Fitted, call: str) -> Problem:
    """The problem of a fit.

    Raises:
        TautError: ``no-model`` for a loaded fit.
    """
    if fit.problem is None:
        raise TautError(
            "no-model",
            found="a loaded fit, which holds draws and no density",
            expected="a fit as taut.fit returned it",
            remedy=f"fit = taut.fit(model, data); {call}",
        )
    return fit.problem


def weights_of(fit: Fitted) -> tuple[str, ...]:
    """The sites that `bayesian` drew: the latents of networks, and weights that are made of several latents.

    Raises:
        TautError: ``site-missing`` for a fit without any.
    """
    found = tuple(n for n, kind in fit.kinds.items() if "$" in n and kind != "param" and "/" not in n)
    if not found:
        raise TautError(
            "site-missing",
            found=f"a fit of {', '.join(fit.kinds)}, none of which is the weight of a network",
            expected="weights that taut.nn.bayesian drew",
            remedy='net = taut.nn.bayesian("net", module) in the model, or name the sites: sites=("w",)',
        )
    return found
