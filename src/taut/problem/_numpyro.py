"""NumPyro's statements, said again as taut's: a program may be written with either, or with both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut.core import (
    Handler,
    PlateFrame,
    Site,
    allowed,
    apply,
    deterministic,
    draw,
    frames,
    param,
    rows,
    user_line,
)
from taut.problem._bases import base_note
from taut.problem._loops import Loops
from taut.problem._untraced import HEARD
from taut.problem._weights import WeightsFound, known_start


@contextmanager
def numpyro_statements() -> Iterator[None]:
    """Send the statements of NumPyro inside of the ``with`` statement through taut's handlers."""
    statements = _Statements()
    with _Around(statements), dist.receiving(statements.receive):
        try:
            yield
        except Exception as error:
            if statements.heard:
                vars(error)[HEARD] = True
            raise


class _Statements:
    """What one run of a program must remember of NumPyro's messages."""

    def __init__(self) -> None:
        self.sizes: dict[str, Any] = {}
        self.params: dict[str, Any] = {}
        self.asked: set[str] = set()
        self.keys: list[Any] = []
        self.forwarding = False
        self.heard = False
        self.loops = Loops(self.plates)

    def receive(self, msg: dict[str, Any]) -> None:
        """Answer a message: give it the value that taut's handlers give the same statement."""
        answers: dict[str, Callable[[dict[str, Any]], None]] = {
            "sample": self._sample,
            "param": self._param,
            "deterministic": self._deterministic,
            "plate": self._plate,
            "control_flow": self._control_flow,
            "prng_key": self._prng_key,
            "mutable": self._mutable,
        }
        self.heard = True
        if msg["type"] in answers:
            before, self.forwarding = self.forwarding, True
            try:
                answers[msg["type"]](msg)
            finally:
                self.forwarding = before

    def plates(self, stack: Any) -> tuple[PlateFrame, ...]:
        """NumPyro's plates around a message as taut's, innermost first."""
        return tuple(PlateFrame(f.name, self.sizes.get(f.name, f.size), f.size, f.dim) for f in stack)

    def site(self, msg: dict[str, Any]) -> Site:
        """A ``sample`` message, as the program's own handlers left it, as a site."""
        fn, mask = dist.without_masks(msg["fn"])
        value, observed, infer = msg["value"], bool(msg["is_observed"]), dict(msg["infer"] or {})
        if value is not None and not isinstance(value, np.ndarray | jax.Array):
            value = jnp.asarray(value)
        plates = self.plates(msg["cond_indep_stack"])
        terms = dist.log_factor(fn, value) if observed else None
        if terms is None:
            fn = fn.expand((*(msg["kwargs"].get("sample_shape") or ()), *fn.batch_shape))
            if observed:
                fn, value = _met(fn, value, plates)
        batch = np.shape(terms) if terms is not None else fn.batch_shape
        return Site(
            kind="sample" if terms is None else "factor",
            name=msg["name"],
            fn=fn if terms is None else None,
            value=value if terms is None else terms,
            observed=observed,
            plates=plates,
            scale=1.0 if msg["scale"] is None else msg["scale"],
            mask=mask,
            key=msg["kwargs"].get("rng_key"),
            source=user_line(),
            infer={k: v for k, v in infer.items() if k != "allow"} | base_note() if terms is None else {},
            allow=_exempt(batch, plates) | allowed(msg["name"], infer.get("allow", ())),
        )

    def _sample(self, msg: dict[str, Any]) -> None:
        if msg.get("_control_flow_done") and self.loops.settled(msg):
            return
        site = self.site(msg)
        if site.kind == "sample" and site.mask is False and not site.observed:
            # A latent without a density of its own, which other statements give it: improper, not left out.
            site = replace(site, fn=_flat(site.fn), mask=None)
        msg["value"] = apply(site, draw).value

    def _deterministic(self, msg: dict[str, Any]) -> None:
        for path, leaf in _leaves(msg["value"]):
            deterministic(msg["name"] + path, leaf)

    def _plate(self, msg: dict[str, Any]) -> None:
        name, (size, length) = msg["name"], msg["args"]
        self.sizes[name] = size
        found = PlateFrame(name, size, size if length is None else length, 0)
        index = apply(Site("plate", name, fn=found, key=msg["kwargs"]["rng_key"], source=user_line()), rows).value
        # NumPyro compares the rows it gets with those it asked for.
        msg["value"], msg["args"] = jnp.asarray(index), (size, index.shape[0])
        taken = {f.dim for f in msg["cond_indep_stack"]}
        for frame in (p for f in frames() for p in f.opened if p.dim not in taken):
            msg["cond_indep_stack"].append(dist.plate_frame(frame.name, frame.dim, frame.length))

    def _param(self, msg: dict[str, Any]) -> None:
        name = msg["name"]
        if msg.get("_control_flow_done"):
            raise TautError(
                "site-inside",
                site=name,
                source=user_line(),
                found=f"numpyro.param({name!r}, ...) inside of a loop or a branch",
                expected="parameters in the model itself",
                remedy=f'{name} = numpyro.param("{name}", ...) before the loop, which may use its value',
            )
        if msg["value"] is not None or name in self.params:
            msg["value"] = self.params.get(name, msg["value"])
            return
        init = msg["args"][0] if msg["args"] else msg["fn"]
        if init is None:
            init = known_start(name)
            if init is None:
                self.asked.add(name)
                return
        elif name in self.asked:
            raise WeightsFound(name, init)
        shape = jax.eval_shape(lambda key: self._started(init, key), jax.random.key(0)) if callable(init) else init
        treedef = jax.tree.structure(shape)
        values = []
        for place, (path, leaf) in enumerate(_leaves(shape)):

            def start(key: Any, place: int = place) -> Any:
                return jax.tree.leaves(self._started(init, key))[place]

            constraint = msg["kwargs"].get("constraint", dist.constraints.real)
            values.append(param(name + path, start if callable(init) else leaf, constraint=constraint))
        self.params[name] = msg["value"] = jax.tree.unflatten(treedef, values)

    def _started(self, init: Callable[[], Any], key: Any) -> Any:
        self.keys.append(key)
        try:
            return init()
        finally:
            self.keys.pop()

    def _prng_key(self, msg: dict[str, Any]) -> None:
        if msg["kwargs"].get("rng_key") is not None:
            return
        key = self.keys[-1] if self.keys else next_key()
        if key is None and _asked_for_weights():
            key = jax.random.key(0)
        if key is None:
            raise TautError(
                "side-effect",
                source=user_line(),
                found="a key asked for by numpyro.prng_key() or numpyro.handlers.block: what is drawn with it would be "
                "the same in every step",
                expected="a log density that is a function of data and latents",
                remedy='taut.sample("x", ...) for what is random',
            )
        msg["value"] = key

    def _mutable(self, msg: dict[str, Any]) -> None:
        raise TautError(
            "side-effect",
            site=msg["name"],
            source=user_line(),
            found="numpyro.mutable: the program runs once, so the state would never be renewed",
            expected="a model and a guide without a state of their own",
            remedy='numpyro.param("name", value) for a number to learn; layers without a running state',
        )

    def _control_flow(self, msg: dict[str, Any]) -> None:
        msg["value"] = self.loops.run(msg, next_key())


def next_key() -> Any:
    """A JAX key of the innermost handler that gives keys to what is no statement; ``None`` without one."""
    return next((key for frame in reversed(frames()) if (key := frame.next_key()) is not None), None)


class _Around(Handler):
    """Lead taut's own statements through NumPyro's handlers that stand around them."""

    def __init__(self, statements: _Statements):
        super().__init__()
        self.statements = statements

    @property
    def opened(self) -> tuple[PlateFrame, ...]:
        """NumPyro's open plates."""
        return tuple(PlateFrame(*plate) for plate in dist.open_plates())

    def before(self, site: Site) -> Site:
        """Let NumPyro's plates, masks, scales and values act on a statement of taut's."""
        messengers = dist.open_messengers()
        if self.statements.forwarding or not messengers or site.kind not in ("sample", "factor"):
            return site
        fn, value = (site.fn, site.value) if site.kind == "sample" else dist.as_factor(site.value)
        msg: dict[str, Any] = {
            "type": "sample",
            "name": site.name,
            "fn": fn if site.mask is None else fn.mask(site.mask),
            "args": (),
            "kwargs": {"rng_key": site.key, "sample_shape": ()},
            "value": value,
            "scale": site.scale,
            "is_observed": site.observed,
            "intermediates": [],
            "cond_indep_stack": [dist.plate_frame(p.name, p.dim, p.length) for p in site.plates],
            "infer": dict(site.infer),
        }
        for messenger in messengers:
            messenger.process_message(msg)
            if msg.get("stop"):
                break
        if msg["type"] == "deterministic":  # reparametrised
            return replace(site, kind="deterministic", value=msg["value"], fn=None, observed=False)
        known = {p.name: p for p in site.plates}
        found = self.statements.site(msg)
        plates = tuple(known.get(p.name, p) for p in found.plates)
        stopped = bool(msg.get("stop"))
        return replace(
            found, plates=plates, source=site.source, allow=site.allow, coordinate=site.coordinate, stopped=stopped
        )


def _flat(fn: Any) -> Any:
    """Where a distribution lies, and how it is drawn, with log density 0."""
    flat = dist.late(type(dist.unwrapped(fn)).__name__)(fn.support, fn.batch_shape, fn.event_shape, fn.has_rsample)
    flat.become(fn.mask(False))
    return flat


def _met(fn: Any, obs: Any, plates: tuple[PlateFrame, ...]) -> tuple[Any, Any]:
    """A distribution and its data of one shape, where one is plainly meant for every entry of the other.

    What is left as it is, such as a column against a row, is refused with the shapes of both.
    """
    found, event = np.shape(obs), fn.event_shape
    batch = found[: len(found) - len(event)]
    if found == fn.shape() or found[len(batch) :] != event:
        return fn, obs
    try:
        common = np.broadcast_shapes(batch, fn.batch_shape)
    except ValueError:
        return fn, obs
    if common == batch:
        return fn.expand(common), obs
    padded = (1,) * (len(common) - len(batch)) + batch
    owned = {p.dim for p in plates}
    wider = [dim for dim in range(-len(common), 0) if padded[dim] != common[dim]]
    if common == fn.batch_shape and (np.size(obs) == 1 or owned.issuperset(wider)):
        return fn, jnp.broadcast_to(obs, common + event)
    return fn, obs


def _exempt(batch: tuple[int, ...], plates: tuple[PlateFrame, ...]) -> frozenset[str]:
    """NumPyro asks for no plate around a batch dimension; one as long as an open plate is most likely a mistake."""
    owned, lengths = {p.dim for p in plates}, {p.length for p in plates}
    free = {batch[dim] for dim in range(-len(batch), 0) if dim not in owned and batch[dim] > 1}
    return frozenset() if free & lengths else frozenset({"unowned-dimension"})


def _leaves(value: Any) -> list[tuple[str, Any]]:
    """The arrays of a value with their places in words; a plain array stands at its own name."""
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(value)[0]]


def _asked_for_weights() -> bool:
    """Whether a key is for the initial weights of a module: NumPyro's own functions ask for that one."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "prng_key":
        frame = frame.f_back
    caller = None if frame is None else frame.f_back
    if caller is None:
        return False
    return caller.f_code.co_name in ("module", "flax_module") and dist.is_from_numpyro(caller.f_code.co_filename)
