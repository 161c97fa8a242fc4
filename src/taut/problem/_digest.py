"""A fingerprint of a traced program: equal for equal equations and literals, whatever Python objects made them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.extend import core as jex

from taut.problem._functions import function_parts

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def digest(closed: Any, extra: Any = None) -> str:
    """The fingerprint of a closed jaxpr; constants count by shape and type, since they are arguments when it runs."""
    hasher = hashlib.blake2b(digest_size=16)
    _jaxpr(closed.jaxpr, hasher)
    hasher.update(_ADDRESS.sub("", repr(extra)).encode())
    return hasher.hexdigest()


def _jaxpr(jaxpr: Any, hasher: Any) -> None:
    numbers: dict[Any, int] = {}

    def variable(v: Any) -> str:
        if isinstance(v, jex.Literal):
            return f"{v.aval}={np.asarray(v.val).tobytes().hex()}"
        return f"{numbers.setdefault(v, len(numbers))}:{v.aval}"

    for group in (jaxpr.constvars, jaxpr.invars):
        hasher.update(("|".join(variable(v) for v in group) + ";").encode())
    for eqn in jaxpr.eqns:
        hasher.update(eqn.primitive.name.encode())
        for name in sorted(eqn.params):
            hasher.update(name.encode())
            _param(eqn.params[name], hasher)
        hasher.update("|".join(variable(v) for v in (*eqn.invars, *eqn.outvars)).encode())
    hasher.update("|".join(variable(v) for v in jaxpr.outvars).encode())


def _param(value: Any, hasher: Any) -> None:
    if isinstance(value, jex.ClosedJaxpr):
        _jaxpr(value.jaxpr, hasher)
        for const in value.consts:
            _param(const, hasher)
    elif isinstance(value, jex.Jaxpr):
        _jaxpr(value, hasher)
    elif isinstance(value, tuple | list):
        hasher.update(f"({len(value)}".encode())
        for item in value:
            _param(item, hasher)
    elif isinstance(value, np.ndarray | jax.Array) and not isinstance(value, Tracer):
        hasher.update(f"{value.dtype}{value.shape}".encode() + np.asarray(value).tobytes())
    elif callable(value) or hasattr(value, "call_wrapped"):
        for part in function_parts(value):
            hasher.update(part)
    else:
        hasher.update(_ADDRESS.sub("", repr(value)).encode())
