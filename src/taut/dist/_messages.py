"""NumPyro's statements: where their messages are received, and what is read off the distributions in them.

NumPyro sends every statement of a program as a message through a stack of handlers that the whole process shares. A
receiver at its bottom answers each message and keeps it from whatever the caller has on the stack.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpyro
from numpyro import distributions as nd
from numpyro.primitives import _PYRO_STACK, CondIndepStackFrame, Messenger

# The stack belongs to the process: two threads that run programs at once would see each other's plates.
_LOCK = threading.RLock()
_HOME = str(Path(str(numpyro.__file__)).parent)


class _Receiver(Messenger):
    def __init__(self, receive: Callable[[dict[str, Any]], None]):
        super().__init__()
        self.receive = receive

    def process_message(self, msg: Any) -> None:
        self.receive(msg)
        msg["stop"] = True


@contextmanager
def receiving(receive: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hand every message that NumPyro's statements send inside of the ``with`` statement to ``receive``.

    Handlers of NumPyro inside of the statement act on a message first; those outside of it do not see it.
    """
    with _LOCK:
        height = len(_PYRO_STACK)
        _PYRO_STACK.append(_Receiver(receive))
        try:
            yield
        finally:
            # Whatever an interrupted program left above goes too.
            del _PYRO_STACK[height:]


def open_messengers() -> list[Any]:
    """NumPyro's handlers that the program itself has opened, innermost first."""
    found: list[Any] = []
    for messenger in reversed(_PYRO_STACK):
        if isinstance(messenger, _Receiver):
            return found
        found.append(messenger)
    return []


def open_plates() -> list[tuple[str, int, int, int]]:
    """NumPyro's plates that the program has opened, innermost first: name, size, rows, dimension."""
    plates = [m for m in open_messengers() if isinstance(m, numpyro.plate)]
    return [(p.name, p.size, p.subsample_size, p.dim) for p in plates if p.dim is not None]


def plate_frame(name: str, dim: int, rows: int) -> Any:
    """A plate as NumPyro's messages carry it."""
    return CondIndepStackFrame(name, dim, rows)


def is_from_numpyro(filename: str) -> bool:
    """Whether a file belongs to NumPyro."""
    return filename.startswith(_HOME)


def is_autoguide(value: Any) -> bool:
    """Whether a guide is one of NumPyro's automatic ones, or the class of one."""
    family = value if isinstance(value, type) else type(value)
    return issubclass(family, numpyro.infer.autoguide.AutoGuide)


def without_masks(fn: nd.Distribution) -> tuple[nd.Distribution, Any]:
    """A distribution without the masks over its batch dimensions, and the mask that they amount to; ``None`` is all."""
    if isinstance(fn, nd.MaskedDistribution):
        inner, mask = without_masks(fn.base_dist)
        # A mask that is True everywhere masks nothing.
        own = None if fn._mask is True else fn._mask
        return inner, own if mask is None else mask if own is None else jnp.logical_and(mask, own)
    if isinstance(fn, nd.ExpandedDistribution):
        inner, mask = without_masks(fn.base_dist)
        return (fn, None) if mask is None else (inner.expand(fn.batch_shape), mask)
    return fn, None


def log_factor(fn: nd.Distribution, value: Any) -> Any:
    """The terms of a factor, over its batch shape; ``None`` for a distribution that is none."""
    base: Any = fn
    while isinstance(base, nd.Independent | nd.ExpandedDistribution):
        base = base.base_dist
    return fn.log_prob(value) if isinstance(base, nd.Unit) else None


def as_factor(terms: Any) -> tuple[nd.Distribution, Any]:
    """A factor as NumPyro's messages carry it: a distribution and its value."""
    unit = nd.Unit(terms)
    return unit, jnp.empty((*unit.batch_shape, 0))


class _Listener(Messenger):
    def __init__(self, fn: Callable[..., Any], hear: Callable[[dict[str, Any]], None]):
        super().__init__(fn)
        self.hear = hear

    def postprocess_message(self, msg: Any) -> None:
        self.hear(msg)


def heard(fn: Callable[..., Any], hear: Callable[[dict[str, Any]], None]) -> Callable[..., Any]:
    """A program whose messages are shown to ``hear`` once they have a value."""
    return _Listener(fn, hear)


def unobserved(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A program whose observed sites are drawn."""
    return numpyro.handlers.uncondition(fn)
