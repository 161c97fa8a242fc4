"""The stack of handlers: local to the thread and task, restored whatever happens inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from taut._errors import TautError
from taut.core._site import PlateFrame, Site, user_line

_STACK: ContextVar[tuple[tuple[Any, Frame], ...]] = ContextVar("taut_handlers", default=())


class Frame:
    """What stands on the stack during one run: two functions from site to site.

    ``before`` runs from the innermost frame outwards, until one stops the site; then the site gets its default value
    if it has none; then ``after`` runs from the outermost frame reached inwards.
    """

    @property
    def opened(self) -> tuple[PlateFrame, ...]:
        """The plates whose dimensions this frame has taken."""
        return ()

    def next_key(self) -> Any:
        """A JAX key for what is no statement of its own, if this frame hands out keys; otherwise ``None``."""
        return None

    def before(self, site: Site) -> Site:
        """Change the site on its way out; the identity unless overridden."""
        return site

    def after(self, site: Site) -> Site:
        """Change or record the site, which now has a value; the identity unless overridden."""
        return site


class Handler(Frame):
    """A way to run a program differently: ``with handler: ...``, ``handler(fn, ...)(*args)``, or as a decorator.

    A handler is a constant. What a run must remember lives in the frame that `begin` makes for it, so that one handler
    object may serve many threads at once.

    Args:
        fn: the program to run; may be left out when the handler is used in a ``with`` statement.
    """

    def __init__(self, fn: Callable[..., Any] | None = None):
        self.fn = fn
        if fn is not None:
            # The signature and the name that tools read are those of the program.
            self.__wrapped__ = fn
            self.__name__ = getattr(fn, "__name__", type(self).__name__)

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
        if self.fn is None and len(args) == 1 and callable(args[0]) and not kwargs:
            return self.bind(args[0])
        with self:
            return self.program(*args, **kwargs)

    @property
    def program(self) -> Callable[..., Any]:
        """The program that the handler was made with; a refusal if there is none."""
        if self.fn is not None:
            return self.fn
        title = type(self).__name__
        raise TautError(
            "bad-argument",
            site=title,
            source=user_line(),
            found=f"{title} without a program to run",
            expected="a program, or a with statement",
            remedy=f"taut.handlers.{title}(model, ...)(*args), or: with taut.handlers.{title}(...): model(*args)",
        )

    def bind(self, fn: Callable[..., Any]) -> Self:
        """The same handler around ``fn``."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        Handler.__init__(twin, fn)
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


@contextmanager
def empty_stack() -> Iterator[None]:
    """Run without the handlers in force; they return afterwards."""
    token = _STACK.set(())
    try:
        yield
    finally:
        _STACK.reset(token)


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
