r"""Closed forms for guides written as programs: pairs of families in which $\log p$ and $\log q$ are of one form.

| guide's site | prior | form |
| --- | --- | --- |
| Normal | Normal | $c + a z + b z^2$ |
| Gamma, Exponential | Gamma, Exponential, chi-square | $c + a \log z + b z$ |
| Beta | Beta | $c + a \log z + b \log(1 - z)$ |
| Dirichlet | Dirichlet | $c + \sum_i a_i \log z_i$ |

The coefficients are read off the traced density's derivatives at one point, so that masks, plates and scales are in
them; the means of the terms under q are digammas and moments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma

from taut import dist
from taut.core import log_density
from taut.guides import Program as GuideProgram
from taut.problem import Program, model_holes

_PAIRS: dict[type, tuple[str, ...]] = {
    dist.Normal: ("Normal",),
    dist.Gamma: ("Gamma", "Exponential", "Chi2"),
    dist.Exponential: ("Gamma", "Exponential", "Chi2"),
    dist.Beta: ("Beta",),
    dist.Dirichlet: ("Dirichlet",),
}


def closed_pairs(program: Program, sites: Mapping[str, Any]) -> tuple[str, ...]:
    """Latents whose KL is known, given what the guide drew before them.

    Args:
        program: the traced model.
        sites: a run of the guide.
    """
    return tuple(
        name
        for name, latent in program.latents.items()
        if sites[name].kind == "sample"
        and latent.family in _PAIRS.get(type(dist.unwrapped(sites[name].fn)), ())
        and all(
            label.startswith("data:") or label in program.params or label in {name, f"{name}/centredness"}
            for label in program.reach["density"][name]
        )
    )


def families_closed(program: Program, guide: GuideProgram, params: Any, inputs: Any) -> tuple[str, ...]:
    """`closed_pairs` of a guide, without running it for good."""
    found: list[tuple[str, ...]] = []

    def run(params: Any, inputs: Any) -> Any:
        assert guide.binding is not None
        found.append(closed_pairs(program, guide.binding.run(program, inputs, key=jax.random.key(0), params=params)))
        return jnp.zeros(())

    jax.eval_shape(run, params, inputs)
    return found[-1]


def paired_log_weights(program: Program, guide: GuideProgram, draw: Any, model: Any, points: Any, inputs: Any) -> Any:
    r"""$\log p - \log q$ of draws with $-\mathrm{KL}(q_s \,\|\, p_s)$ in place of the closed sites' terms.

    Args:
        program: the traced model.
        guide: the guide, bound, without transformed latents.
        draw: its parameters.
        model: unconstrained values of the model's parameters.
        points: draws from it, with a leading axis.
        inputs: `Problem.inputs`.
    """
    holes = model_holes(program, model)
    binding = guide.binding
    assert binding is not None

    def one(point: Any) -> Any:
        sites = binding.run(program, inputs, params=draw, values=point)
        closed = closed_pairs(program, sites)
        others = [name for name in program.outputs["plain"] if name not in closed]
        total = sum(program.evaluate("plain", holes, *inputs, values=point, names=others).values(), jnp.zeros(()))
        for name in program.latents:
            site = sites[name]
            if name not in closed:
                total -= jnp.sum(log_density(site))
                continue

            def log_p(z: Any, name: str = name) -> Any:
                return program.evaluate("plain", holes, *inputs, values={name: z}, names=[name])[name]

            def log_q(z: Any, site: Any = site) -> Any:
                return jnp.sum(log_density(replace(site, value=z)))

            total += _mean(site.fn, lambda z: log_p(z) - log_q(z))
        return total

    return jax.vmap(one)(points)


def _mean(fn: Any, f: Callable[[Any], Any]) -> Any:
    """The mean of a function of the family's form, under a distribution of the family."""
    base: Any = dist.unwrapped(fn)
    family, shape = type(base), fn.shape()
    if family is dist.Normal:
        loc, scale = jnp.broadcast_to(base.loc, shape), jnp.broadcast_to(base.scale, shape)
        return f(loc) + 0.5 * jnp.sum(_bend(f, loc) * scale**2)
    if family is dist.Dirichlet:
        counts = jnp.broadcast_to(base.concentration, shape)
        total = counts.sum(-1, keepdims=True)
        at = counts / total
        return f(at) + jnp.sum(at * jax.grad(f)(at) * (digamma(counts) - digamma(total) - jnp.log(at)))
    if family is dist.Beta:
        a, b = jnp.broadcast_to(base.concentration1, shape), jnp.broadcast_to(base.concentration0, shape)
        at = a / (a + b)
        slope, bend = jax.grad(f)(at), _bend(f, at)
        first = at * (slope - (1 - at) * bend)
        left, right = at * first, (1 - at) * (first - slope)
        known = digamma(a + b)
        gain = left * (digamma(a) - known - jnp.log(at)) + right * (digamma(b) - known - jnp.log1p(-at))
        return f(at) + jnp.sum(gain)
    shape_of = base.concentration if family is dist.Gamma else jnp.ones(())
    count, rate = jnp.broadcast_to(shape_of, shape), jnp.broadcast_to(base.rate, shape)

    def in_logs(u: Any) -> Any:
        return f(jnp.exp(u))

    at = jnp.log(count / rate)
    power = jax.grad(in_logs)(at) - _bend(in_logs, at)
    return f(count / rate) + jnp.sum(power * (digamma(count) - jnp.log(rate) - at))


def _bend(f: Callable[[Any], Any], at: Any) -> Any:
    """Second derivatives of a sum of functions of single elements."""
    return jax.jvp(jax.grad(f), (at,), (jnp.ones_like(at),))[1]
