"""The statements of a probabilistic program: sample, param, deterministic, transformed, factor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from taut import dist
from taut._errors import TautError
from taut.core._allow import allowed
from taut.core._site import Site, user_line
from taut.core._stack import apply


def sample(
    name: str,
    fn: Any,
    obs: Any = None,
    *,
    key: jax.Array | None = None,
    infer: dict | None = None,
    auxiliary: bool = False,
    allow: str | Iterable[str] = (),
) -> Any:
    r"""A random variable, $x \sim p(x \mid \text{what came before})$, or data with that distribution.

    Args:
        name: its name; unique in the program.
        fn: a distribution of `taut.dist`.
        obs: data of the distribution's shape; ``None`` makes the site latent.
        key: JAX key to draw it with; by default the innermost `taut.handlers.seed` gives one.
        infer: free notes for algorithms.
        auxiliary: in a guide, a base draw that `transformed` latents are made of; the model has no such site. The same
            as ``infer={"is_auxiliary": True}``.
        allow: codes of checks that the site is exempt from: ``"unowned-dimension"``, ``"soft-targets"``, and in a guide
            ``"guide-fixed"`` and ``"delta-map"``.

    Returns:
        The value that the handlers in scope give the site: an array of shape ``fn.batch_shape + fn.event_shape``, the
        batch shape widened to the open plates.

    Raises:
        TautError: ``bad-argument`` for anything but a distribution, ``no-key`` outside of every handler.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> with taut.handlers.seed(key=0):
        ...     x = taut.sample("x", dist.Normal(0.0, 1.0))
        >>> x.shape
        ()
    """
    source = user_line()
    if not dist.is_distribution(fn):
        raise TautError(
            "bad-argument",
            site=name,
            source=source,
            found=f"sample({name!r}, {type(fn).__name__})",
            expected="a distribution as second argument",
            remedy=f'taut.sample("{name}", dist.Normal(0, 1))',
        )
    value = _array(name, obs, source)
    fn, mask = dist.unmasked(fn)
    notes = {**(infer or {}), "is_auxiliary": True} if auxiliary else dict(infer or {})
    observed, exempt = obs is not None, allowed(name, allow)
    site = Site("sample", name, fn, value, observed, mask=mask, key=key, source=source, infer=notes, allow=exempt)
    return apply(site, draw).value


def param(
    name: str,
    init: Any = None,
    *,
    constraint: Any = dist.constraints.real,
    event_dim: int | None = None,
    allow: str | Iterable[str] = (),
) -> Any:
    r"""A parameter to be learned: $\phi = T(\tilde\phi)$ with $T$ from the real line to ``constraint``.

    Args:
        name: its name; unique in the program.
        init: initial value inside the constraint, or a function ``key -> value``.
        constraint: one of `taut.dist.constraints`; ``real`` by default.
        event_dim: accepted for Pyro's sake; batch and event dimensions of a parameter are not told apart.
        allow: codes of checks that it is exempt from: ``"unused-param"``.

    Returns:
        The parameter's current value, of the shape of ``init``.

    Raises:
        TautError: ``param-init`` when ``init`` is missing or lies outside the constraint.

    Example:
        >>> import taut
        >>> taut.param("scale", 2.0, constraint=taut.dist.constraints.positive)
        2.0
    """
    del event_dim
    source = user_line()
    site = Site("param", name, constraint, init=init, source=source, allow=allowed(name, allow))
    return apply(site, _initial).value


def deterministic(name: str, value: Any) -> Any:
    """Name a computed quantity, so that results report it.

    Args:
        name: its name; unique in the program.
        value: any array.

    Returns:
        ``value``, unchanged.
    """
    return apply(Site("deterministic", name, value=_array(name, value, None), source=user_line()), _same).value


def transformed(name: str, value: Any, *, allow: str | Iterable[str] = ()) -> Any:
    r"""In a guide, declare that a latent is a smooth invertible function of the guide's auxiliary draws.

    All transformed latents $x$ of a guide are one function $f$ of all of its auxiliary draws $u$, and

    $$\log q(x) = \log q(u) - \log |\det f'(u)|,$$

    with the determinant from automatic differentiation. Latents and draws must be equally many numbers, and $f$ may use
    the guide's other latents and its parameters. A map that is found not to be invertible is refused.

    Args:
        name: the latent's name in the model.
        value: its value, of the latent's shape.
        allow: codes of checks that the site is exempt from: ``"guide-fixed"``.

    Returns:
        ``value``, unchanged.

    Example:
        >>> def model(y):
        ...     x = taut.sample("x", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(x, 0.5), obs=y)
        >>> def guide():
        ...     u = taut.sample("u", dist.Normal(0.0, 1.0), auxiliary=True)
        ...     taut.transformed("x", taut.param("shift", 0.0) + 2.0 * u)
        >>> problem = taut.Problem(model, dict(y=10.0))
        >>> _, log_q = taut.guides.Program(guide).draws(problem, {"shift": 0.0}, 3, np.random.default_rng(0))
        >>> log_q.shape
        (3,)
    """
    value = _array(name, value, None)
    return apply(Site("transformed", name, value=value, source=user_line(), allow=allowed(name, allow)), _same).value


def factor(name: str, log_factor: Any, *, allow: str | Iterable[str] = ()) -> None:
    r"""Add a term to the log joint: $\log p \mathrel{+}= $ ``log_factor``, summed over its elements.

    Args:
        name: its name; unique in the program.
        log_factor: scalar, or an array over the open plates; in nats.
        allow: codes of checks that it is exempt from: ``"unowned-dimension"``.
    """
    value = _array(name, log_factor, None)
    apply(Site("factor", name, value=value, observed=True, source=user_line(), allow=allowed(name, allow)), _same)


def _array(name: str, value: Any, source: str | None) -> Any:
    if value is None or isinstance(value, jax.Array | float | int | np.number):
        return value
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise TautError(
            "bad-argument",
            site=name,
            source=source or user_line(),
            found=f"a {type(value).__name__}" + ("" if array.dtype == object else f" of dtype {array.dtype}"),
            expected="a number or an array of numbers",
            remedy="turn it into numbers first: jnp.asarray(value)",
        )
    return array


def _same(site: Site) -> Site:
    return site


def key_of(site: Site) -> jax.Array:
    """The key that a site is drawn with.

    Raises:
        TautError: ``no-key`` where no handler gave it one.
    """
    if site.key is None:
        raise TautError(
            "no-key",
            site=site.name,
            source=site.source,
            found="a latent site outside of every handler that gives it a value",
            expected="a handler that seeds, substitutes or replays",
            remedy="taut.handlers.seed(model, key=0)(...)",
        )
    return site.key


def draw(site: Site) -> Site:
    """Give a site without a value one from its distribution."""
    key = key_of(site)
    try:
        return replace(site, value=site.fn.sample(key))
    except NotImplementedError as error:
        raise TautError(
            "improper-sample",
            site=site.name,
            source=site.source,
            found=f"{type(site.fn).__name__}, which has no sampler",
            expected="a distribution that can be sampled: improper ones belong in models alone",
            remedy=f'taut.sample("{site.name}", dist.Normal(0, 10))',
        ) from error


def _initial(site: Site) -> Site:
    init = site.init
    if callable(init):
        if site.key is None:
            raise TautError(
                "no-key",
                site=site.name,
                source=site.source,
                found="an initial value that is a function of a key",
                expected="a key in scope",
                remedy="taut.handlers.seed(model, key=0)(...)",
            )
        init = init(site.key)
    if init is None:
        raise TautError(
            "param-init",
            site=site.name,
            source=site.source,
            found="no initial value",
            expected="a number, an array, or a function of a key",
            remedy=f'taut.param("{site.name}", 0.0)',
        )
    init = _array(site.name, init, site.source)
    # On the host: inside of a compilation even the comparison of constants is abstract.
    if not isinstance(init, Tracer) and not bool(np.all(dist.contains(site.fn, np.asarray(init)))):
        low, high = np.min(np.asarray(init)), np.max(np.asarray(init))
        raise TautError(
            "param-init",
            site=site.name,
            source=site.source,
            found=f"initial value {low}" if low == high else f"initial values from {low} to {high}",
            expected=f"values inside {dist.describe(site.fn)}",
            remedy=f'taut.param("{site.name}", 1.0, constraint=...) with a value inside the constraint',
        )
    return replace(site, value=init)
