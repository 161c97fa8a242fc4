"""Statements inside of `jax.jit`, `scan`, `vmap`: a value found there cannot leave, so they are inlined or refused.

Taut compiles the whole model itself, so an inner `jax.jit` adds nothing and is taken off. The body of a loop, a branch
or a `vmap` is one statement to Python and many, or none, to the program: plates say the same and are understood.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
from jax.extend import core as jex

from taut._errors import TautError
from taut.core import Frame, Handler, Site
from taut.problem._weights import with_weights

T = TypeVar("T")

_JAX = str(Path(jax.__file__).resolve().parent)
_TAUT = str(Path(__file__).resolve().parents[1])

# Functions of JAX that run a body of the user's, as they are called in a traceback, and in a user's words.
_BODIES = {
    "scan": "jax.lax.scan",
    "while_loop": "jax.lax.while_loop",
    "fori_loop": "jax.lax.fori_loop",
    "map": "jax.lax.map",
    "cond": "jax.lax.cond",
    "switch": "jax.lax.switch",
    "vmap_f": "jax.vmap",
    "grad_f": "jax.grad",
    "value_and_grad_f": "jax.grad",
    "jacfun": "a Jacobian",
    "fun_remat": "jax.checkpoint",
}


class SiteInside(TautError):
    """A statement inside of a transformation; ``inline`` if that may be no more than `jax.jit`."""

    inline = False


class one_level(Handler):
    """Refuse statements that are traced at another level than the one this handler was entered at."""

    def begin(self) -> Frame:
        """Remember the level in force."""
        return _Level()


class _Level(Frame):
    def __init__(self) -> None:
        self.level = jex.get_opaque_trace_state()

    def before(self, site: Site) -> Site:
        if jex.get_opaque_trace_state() == self.level:
            return site
        body = _enclosing()
        error = SiteInside(
            "site-inside",
            site=site.name,
            source=site.source,
            found=f"taut.{site.kind} inside of {body or 'a transformed function'}",
            expected="statements in the model itself, or in functions that it calls directly",
            remedy=f'with taut.plate("rows", n): taut.{site.kind}("{site.name}", ...) draws all rows at once; '
            "the transformation may use their values",
        )
        error.inline = body is None
        raise error


def inlined(run: Callable[[], T]) -> T:
    """Call ``run``; once more with `jax.jit` taken off if a statement turned out to stand inside of it."""
    try:
        return with_weights(run)
    except SiteInside as error:
        if not error.inline:
            raise
    with jax.disable_jit():
        return with_weights(run)


def _enclosing() -> str | None:
    """The transformation of JAX, other than `jax.jit`, whose body the caller stands in."""
    frame, left, body = sys._getframe(1), False, None
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_JAX):
            # The last one before the user's own call: jax.lax.map is made of a scan.
            body = _BODIES.get(frame.f_code.co_name, body)
        elif not name.startswith(_TAUT):
            if body is not None:
                return body
            left = True
        elif left:
            return None
        frame = frame.f_back
    return body
