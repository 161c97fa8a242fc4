"""Opt-outs: a statement that a check would refuse, and that its author means, says so by the code of the check."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from taut._errors import TautError
from taut.core._site import user_line

# The checks that judge what is unusual. The others refuse what has no meaning, and cannot be switched off.
ALLOWABLE = (
    "unowned-dimension",
    "unused-param",
    "unused-argument",
    "argument-range",
    "soft-targets",
    "probs-rounded",
    "guide-fixed",
    "delta-map",
)


def allowed(site: str, codes: str | Iterable[str]) -> frozenset[str]:
    """The codes that a site, or an argument, is exempt from.

    Args:
        site: whose exemption it is.
        codes: one code or several, of `ALLOWABLE`.

    Raises:
        TautError: ``bad-argument`` for anything else.
    """
    found = frozenset((codes,) if isinstance(codes, str) else codes)
    unknown = sorted(found.difference(ALLOWABLE), key=str)
    if not unknown:
        return found
    close = difflib.get_close_matches(str(unknown[0]), ALLOWABLE, 1)
    raise TautError(
        "bad-argument",
        site=site,
        source=user_line(),
        found=f"allow={unknown[0]!r}",
        expected=f"a code that can be allowed: {', '.join(ALLOWABLE)}",
        remedy=f'allow="{close[0] if close else "unowned-dimension"}"',
    )
