"""Distributions that are known after their values: of a latent inside of a loop, whose density needs the whole run."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
from numpyro import distributions as nd


class Late(nd.Distribution):
    """A latent's place in a loop: its support and its shape now, its density once the loop has run.

    Args:
        support: where its values lie.
        batch_shape, event_shape: as of any distribution; the loop's own dimension stands first.
        has_rsample: its draws follow its arguments smoothly.
        reverse: the loop runs backwards; values stand in the order of its rounds, as NumPyro has it.
    """

    arg_constraints = {}

    def __init__(
        self,
        support: Any,
        batch_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        has_rsample: bool = True,
        reverse: bool = False,
    ):
        self._support = support
        self.smooth = has_rsample
        self.reverse = reverse
        self.known: nd.Distribution | None = None
        self.scale: Any = None
        super().__init__(batch_shape, event_shape)

    @property
    def has_rsample(self) -> bool:
        """Whether its draws follow its arguments smoothly."""
        return self.smooth

    def become(self, known: nd.Distribution, scale: Any = None) -> None:
        """Say which distribution it turned out to be, given all values of the loop.

        Args:
            known: the distribution, masks included.
            scale: factor on its log density.
        """
        self.known, self.scale = known, scale

    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        """Its log density, once it is known."""
        assert self.known is not None, "asked before the loop had run"
        terms = self.known.log_prob(jnp.flip(value, 0) if self.reverse else value)
        return terms if self.scale is None else terms * self.scale

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """One draw given everything else in the loop."""
        assert self.known is not None, "asked before the loop had run"
        return self.known.sample(key, sample_shape)


@cache
def late(family: str) -> type[Late]:
    """`Late` under the name of a family, which messages and results show."""
    return type(family, (Late,), {"__doc__": Late.__doc__})
