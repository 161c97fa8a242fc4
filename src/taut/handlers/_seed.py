"""seed: give every site that must be drawn a key of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from taut._keys import jax_key
from taut.core import Frame, Handler, Site


class seed(Handler):
    """Draw latent sites, and the rows of subsampled plates, from a stream of keys.

    A plate that a program opens twice yields the same rows both times.

    Args:
        fn: the program.
        key: an integer or a JAX key.
        rng_seed: another name for ``key``, NumPyro's.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model():
        ...     return taut.sample("x", dist.Normal(0.0, 1.0))
        >>> bool(taut.handlers.seed(model, key=0)() == taut.handlers.seed(model, key=0)())
        True
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        key: int | jax.Array = 0,
        *,
        rng_seed: int | jax.Array | None = None,
    ):
        super().__init__(fn)
        self.key = key if rng_seed is None else rng_seed

    def begin(self) -> Frame:
        """A fresh stream: the same handler gives the same draws each time it is entered."""
        return _Stream(self.key)


class _Stream(Frame):
    def __init__(self, key: int | jax.Array):
        self.key = jax_key(key)
        self.plates: dict[str, jax.Array] = {}

    def next_key(self) -> jax.Array:
        self.key, key = jax.random.split(self.key)
        return key

    def before(self, site: Site) -> Site:
        drawn = (
            site.latent
            or (site.kind == "plate" and site.fn.length < site.fn.size)
            or (site.kind == "param" and callable(site.init))
        )
        if not drawn or site.value is not None or site.key is not None:
            return site
        if site.kind == "plate" and site.name in self.plates:
            return replace(site, key=self.plates[site.name])
        key = self.next_key()
        if site.kind == "plate":
            self.plates[site.name] = key
        return replace(site, key=key)
