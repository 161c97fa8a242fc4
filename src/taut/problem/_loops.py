"""NumPyro's ``scan`` and ``cond``: statements inside of a loop or a branch, which become sites of the whole loop.

A latent inside of a loop is one latent with the loop's dimension in front, under the name that NumPyro gives it. Its
value comes first, from whatever handler is in force; then the loop runs at all values; then its density is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from taut import dist
from taut._errors import TautError
from taut.core import PlateFrame, Site, apply, frames, key_of, user_line
from taut.problem._bases import base_note


class Loops:
    """The loops and branches of one run.

    Args:
        plates: turns the plates of a message into taut's.
    """

    def __init__(self, plates: Callable[[Any], tuple[PlateFrame, ...]]):
        self.plates = plates
        self.late: dict[str, dist.Late] = {}
        self.redrawn: set[str] = set()

    def run(self, msg: dict[str, Any], key: Any) -> Any:
        """Run a loop or a branch at the values that taut's handlers give its sites.

        Args:
            msg: NumPyro's message.
            key: JAX key for what the body draws for itself, if there is one.

        Returns:
            What NumPyro expects as the message's value.
        """
        loop = _Loop(msg)
        sites = {name: site for name, site in loop.look().items() if site["type"] == "sample"}
        observed = [name for name, site in sites.items() if site["is_observed"]]
        loop.forget = any(_is_forgotten(self._observed(name, sites[name])) for name in observed)
        for name in sites:
            if name not in observed:
                fn = self.late[name] = loop.place(name, sites[name])
                loop.known[name] = apply(self._site(name, sites[name], fn), loop.drawing(name, latent=True)).value
        if loop.forget:
            self.redrawn.update(observed)
            for name in observed:
                drawn = apply(self._observed(name, sites[name]), loop.drawing(name)).value
                loop.known[name] = loop.turned(drawn)
        result = loop(key)
        for name, site in _sites(result).items():
            if name in self.late:
                self.late[name].become(site["fn"], site["scale"])
        return result

    def settled(self, msg: dict[str, Any]) -> bool:
        """Whether a site of a finished loop has been through taut's handlers already.

        NumPyro sends each of them once more, through the handlers that stand around the loop.
        """
        name = msg["name"]
        if name in self.late:
            self.late[name].become(msg["fn"], msg["scale"])
        return name in self.late or name in self.redrawn

    def _observed(self, name: str, site: dict[str, Any]) -> Site:
        """Data inside of a loop, of which the shape is known so far."""
        value = site["value"]
        batch = value.shape[: len(value.shape) - len(site["fn"].event_shape)]
        fn = dist.Late(dist.constraints.real, batch, value.shape[len(batch) :])
        return replace(self._site(name, site, fn), value=value, observed=True)

    def _site(self, name: str, site: dict[str, Any], fn: Any) -> Site:
        # The loop's own dimension belongs to no plate.
        allow = frozenset({"unowned-dimension"})
        plates = self.plates(site["cond_indep_stack"])
        return Site("sample", name, fn, plates=plates, source=user_line(), infer=dict(site["infer"]), allow=allow)


class _Loop:
    """One loop or branch, and what is known of its sites."""

    def __init__(self, msg: dict[str, Any]):
        self.fn, self.args, self.kwargs = msg["fn"], _widened(msg["args"]), dict(msg["kwargs"])
        self.known: dict[str, Any] = {}
        self.drawn: dict[str, Any] = {}
        self.forget = False
        self.families: dict[str, dist.Distribution] = {}
        self.notes: dict[str, dict[str, Any]] = {}
        # scan(body, ...) and cond(predicate, one, other, ...)
        self.reverse = len(self.args) == 5 and bool(self.args[4])
        self.bodies = [place for place, arg in enumerate(self.args[:3]) if callable(arg)]

    def __call__(self, key: Any) -> Any:
        """Run at the known values; what is not known is drawn."""
        stack = [*self.kwargs["substitute_stack"], ("substitute", self.known)]
        args = list(self.args)
        if self.forget:
            stack = [("substitute", self.known)]
            for place in self.bodies:
                args[place] = dist.unobserved(args[place])
        return self.fn(*args, **{**self.kwargs, "rng_key": key, "substitute_stack": stack})

    def look(self) -> dict[str, dict[str, Any]]:
        """The sites of an abstract run, by name."""
        before, found = self.args, {}
        args = list(before)
        for place in self.bodies:
            args[place] = dist.heard(args[place], self._hear)

        def once(key: Any) -> Any:
            self.args = tuple(args)
            found.update(_sites(self(key)))
            return {name: site["value"] for name, site in found.items()}

        try:
            shapes = jax.eval_shape(once, jax.random.key(0))
        finally:
            self.args = before
        notes = {name: {"infer": {**(found[name]["infer"] or {}), **note}} for name, note in self.notes.items()}
        return {name: {**site, **notes.get(name, {}), "value": shapes[name]} for name, site in found.items()}

    def _hear(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample":
            self.families[msg["name"]], self.notes[msg["name"]] = msg["fn"], base_note()

    def place(self, name: str, site: dict[str, Any]) -> dist.Late:
        """What is known of a latent before the loop has run: its support and its shape."""
        inside = self.families[name]
        family, support = type(dist.unwrapped(inside)).__name__, inside.support
        if _is_computed(support):
            raise TautError(
                "no-transform",
                site=name,
                source=user_line(),
                found=f"{family} on {dist.describe(support)} inside of a loop or a branch, with bounds computed there",
                expected="a support that is known before the loop",
                remedy=f'u = numpyro.sample("{name}_unit", dist.Uniform(0, 1)); {name} = low + (high - low) * u',
            )
        shape, events = site["value"].shape, len(inside.event_shape)
        cut = len(shape) - events
        return dist.late(family)(support, shape[:cut], shape[cut:], inside.has_rsample, self.reverse)

    def turned(self, value: Any) -> Any:
        """Values by round of the loop as values by place, or the other way round: NumPyro takes the first as latents.

        The two differ where the loop runs backwards.
        """
        return jnp.flip(value, 0) if self.reverse else value

    def drawing(self, name: str, latent: bool = False) -> Callable[[Site], Site]:
        """How a site of the loop is drawn when no handler gives it a value: together with the others."""

        def draw(site: Site) -> Site:
            if name not in self.drawn:
                found = _sites(self(key_of(site)))
                self.drawn.update({n: s["value"] for n, s in found.items() if s["type"] == "sample"})
            value = self.drawn[name]
            return replace(site, value=self.turned(value) if latent else value)

        return draw


def _widened(args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of a loop or a branch with what is carried in one precision.

    Programs start loops at `jnp.zeros(n, jnp.int32)`; what is drawn inside is of the fit's width, and JAX refuses a
    carry that changes its type.
    """
    if callable(args[0]):  # scan(body, init, ...)
        body, init, *rest = args

        def step(carry: Any, x: Any) -> Any:
            carry, y = body(carry, x)
            return _wide(carry), y

        return step, _wide(init), *rest
    predicate, one, other, operand = args
    return predicate, lambda x: _wide(one(x)), lambda x: _wide(other(x)), _wide(operand)


def _wide(tree: Any) -> Any:
    """Numbers of a tree as wide as they can be; JAX's keys stay as they are, unsigned raw ones too."""
    return jax.tree.map(_widest, tree)


def _widest(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray | jax.Array):
        for kind, width in ((jnp.floating, float), (jnp.signedinteger, int)):
            if jnp.issubdtype(leaf.dtype, kind):
                return jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(width))
    return leaf


def _sites(result: Any) -> Mapping[str, dict[str, Any]]:
    """The sites in what NumPyro's wrappers of ``scan`` and ``cond`` return."""
    traces = [part for part in jax.tree.leaves(result, is_leaf=_is_trace) if _is_trace(part)]
    return {name: site for trace in traces for name, site in trace.trace.items()}


def _is_trace(value: Any) -> bool:
    return type(value).__name__ == "PytreeTrace"


def _is_forgotten(site: Site) -> bool:
    """Whether a handler in force turns an observed site into one to draw, as posterior prediction does."""
    for frame in reversed(frames()):
        site = frame.before(site)
        if not site.observed:
            return True
    return False


def _is_computed(support: Any) -> bool:
    parts = vars(support).values()
    return any(isinstance(part, Tracer) or (hasattr(part, "event_dim") and _is_computed(part)) for part in parts)
