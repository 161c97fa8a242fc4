"""trace: record every site that passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taut._errors import TautError
from taut.core import Frame, Handler, Site


class Trace(Frame, dict[str, Site]):
    """The sites of one run by name, in program order."""

    __hash__ = Frame.__hash__  # pyright: ignore[reportAssignmentType]  # a dict has none; the stack needs one

    def after(self, site: Site) -> Site:
        """Record the site; refuse a name that is taken. A plate may be opened again, as long as it is the same."""
        known = self.get(site.name)
        if known is not None and site.kind == known.kind == "plate":
            _check_same(known, site)
            return site
        if known is not None:
            raise TautError(
                "duplicate-site",
                site=site.name,
                source=site.source,
                found=f"{known.kind} {site.name!r} at {known.source} and {site.kind} {site.name!r} at {site.source}",
                expected="one name per site",
                remedy=f'give one of them another name, for example "{site.name}_2", or put the loop in a taut.plate',
            )
        self[site.name] = site
        return site


class trace(Handler):
    """Record a run.

    Args:
        fn: the program.

    Returns:
        In a ``with`` statement, the `Trace` that fills as the program runs.

    Raises:
        TautError: ``duplicate-site`` when two sites share a name.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> with taut.handlers.trace() as sites, taut.handlers.seed(key=0):
        ...     _ = taut.sample("x", dist.Normal(0.0, 1.0))
        >>> list(sites)
        ['x']
    """

    def __init__(self, fn: Callable[..., Any] | None = None):
        super().__init__(fn)

    def begin(self) -> Trace:
        """An empty record."""
        return Trace()

    def get_trace(self, *args: Any, **kwargs: Any) -> Trace:
        """Run the program and return its record."""
        with self as sites:
            self.program(*args, **kwargs)
        return sites


def _check_same(first: Site, again: Site) -> None:
    if first.fn == again.fn:
        return
    names = {"size": "size", "length": "subsample_size", "dim": "dim"}
    differ = [k for k in names if getattr(first.fn, k) != getattr(again.fn, k)]
    texts = [", ".join(f"{names[k]}={getattr(s.fn, k)}" for k in differ) + f" at {s.source}" for s in (first, again)]
    raise TautError(
        "plate-reuse",
        site=again.name,
        source=again.source,
        found=" and ".join(texts),
        expected="one plate per name: the same size, rows and dimension each time it is opened",
        remedy=f'taut.plate("{again.name}_2", {again.fn.size}) for other rows, or dim={first.fn.dim} each time'
        if "dim" not in differ or len(differ) > 1
        else f'taut.plate("{again.name}", {again.fn.size}, dim={min(first.fn.dim, again.fn.dim)}) each time',
    )
