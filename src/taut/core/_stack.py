"""The stack of handlers: local to the thread and task, restored whatever happens inside."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Self

from taut.core._site import Site

_STACK: ContextVar[tuple[tuple[Any, Frame], ...]] = ContextVar("taut_handlers", default=())


class Frame:
    """What stands on the stack during one run: two functions from site to site.

    ``before`` runs from the innermost frame outwards, until one stops the site; then the site gets its default value
    if it has none; then ``after`` runs from the outermost frame reached inwards.
    """

    def before(self, site: Site) -> Site:
        """Change the site on its way out; the identity unless overridden."""
        return site

    def after(self, site: Site) -> Site:
        """Change or record the site, which now has a value; the identity unless overridden."""
        return site


class Handler(Frame):
    """A way to run a program differently: ``with handler: ...`` or ``handler(fn)(*args)``.

    A handler is a constant. What a run must remember lives in the frame that `begin` makes for it, so that one handler
    object may serve many threads at once.

    Args:
        fn: the program to run; may be left out when the handler is used in a ``with`` statement.
    """

    def __init__(self, fn: Callable[..., Any] | None = None):
        self.fn = fn

    def begin(self) -> Frame:
        """The frame of a new run: the handler itself when there is nothing to remember."""
        return self

    def __enter__(self) -> Any:
        frame = self.begin()
        push(self, frame)
        return frame

    def __exit__(self, *exc: object) -> None:
        pop(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fn is None:
            raise TypeError(f"{type(self).__name__} was made without a function: use it in a with statement")
        with self:
            return self.fn(*args, **kwargs)

    def bind(self, fn: Callable[..., Any]) -> Self:
        """The same handler around ``fn``."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, fn=fn)
        return twin


def push(owner: Any, frame: Frame) -> None:
    """Put ``frame`` innermost, on behalf of ``owner``."""
    _STACK.set((*_STACK.get(), (owner, frame)))


def pop(owner: Any) -> None:
    """Take off ``owner``'s innermost frame and whatever an interrupted program left above it."""
    stack = _STACK.get()
    for position in range(len(stack) - 1, -1, -1):
        if stack[position][0] is owner:
            _STACK.set(stack[:position])
            return


def frames() -> tuple[Frame, ...]:
    """The frames in force, outermost first."""
    return tuple(frame for _, frame in _STACK.get())


def apply(site: Site, default: Callable[[Site], Site]) -> Site:
    """Send a site through the stack.

    Args:
        site: the statement as the program made it.
        default: gives the site a value when no frame did.

    Returns:
        The site as the innermost frame left it.
    """
    stack = _STACK.get()
    reached = 0
    for position in range(len(stack) - 1, -1, -1):
        site = stack[position][1].before(site)
        if site.stopped:
            reached = position
            break
    if site.value is None:
        site = default(site)
    for _, frame in stack[reached:]:
        site = frame.after(site)
    return site
