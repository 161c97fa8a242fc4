"""What a result refuses, each with the line that mends it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from taut._errors import TautError


def loaded(call: str, without: str = "no density", want: str = "a fit as taut.fit returned it") -> TautError:
    """The error for what a fit read from a file cannot do."""
    remedy = call if want != "a fit as taut.fit returned it" else f"fit = taut.fit(model, data); {call}"
    return TautError("no-model", found=f"a loaded fit, which holds draws and {without}", expected=want, remedy=remedy)


def too_many(wanted: int, held: int) -> TautError:
    """The error for more draws than there are."""
    return TautError(
        "too-many-draws",
        found=f"{wanted} draws asked for",
        expected=f"at most {held}, the draws that this fit holds",
        remedy=f"taut.fit(model, data, draws={wanted})",
    )


def unknown(name: str, known: Mapping[str, Any], call: str = "fit[{}]") -> TautError:
    """The error for a site that a fit, or another result that is called so, does not have."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return TautError(
        "site-missing",
        site=str(name),
        found=call.format(repr(name)),
        expected=f"one of {', '.join(known)}",
        remedy=call.format(repr(close[0] if close else next(iter(known)))),
    )
