"""Supports as plain values: what a file can hold of them, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from taut import dist

_KINDS = {
    name: kind
    for name, kind in vars(dist.constraints).items()
    if isinstance(kind, type) and issubclass(kind, dist.constraints.Constraint)
}


def plain_support(support: Any) -> dict[str, Any] | None:
    """A support in plain values; ``None`` for one of the user's own, or with bounds that are computed."""
    name = type(support).__name__
    if _KINDS.get(name) is not type(support):
        return None
    parts = {}
    for key, value in vars(support).items():
        part = _plain(value)
        if part is None:
            return None
        parts[key] = part
    return {"kind": name, "parts": parts}


def support_from(plain: dict[str, Any]) -> Any:
    """The support that `plain_support` took apart."""
    kind: Any = _KINDS[plain["kind"]]
    found = object.__new__(kind)
    for key, part in plain["parts"].items():
        object.__setattr__(found, key, _back(part))
    return found


def _plain(value: Any) -> dict[str, Any] | None:
    if value is None or isinstance(value, bool | int | float | str):
        return {"is": value}
    if isinstance(value, dist.constraints.Constraint):
        inner = plain_support(value)
        return None if inner is None else {"support": inner}
    if isinstance(value, list | tuple):
        parts = [_plain(item) for item in value]
        return None if None in parts else {"several": parts, "tuple": isinstance(value, tuple)}
    try:
        array = np.asarray(value)
    except Exception:  # a tracer: bounds that are computed while the model runs
        return None
    return {"array": array.tolist(), "dtype": array.dtype.name} if array.dtype.kind in "bif" else None


def _back(part: dict[str, Any]) -> Any:
    if "support" in part:
        return support_from(part["support"])
    if "several" in part:
        items = [_back(item) for item in part["several"]]
        return tuple(items) if part["tuple"] else items
    return np.asarray(part["array"], part["dtype"]) if "array" in part else part["is"]
