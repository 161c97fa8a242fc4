r"""Charts: which numbers on the real line a latent is found by, and the density of these.

A chart is a map $x = T(u)$ with a term $v(u, x)$ such that numbers $u$ of density $p(T(u))\, e^{v(u, x)}$ make $x$ of
density $p$. For an invertible map $v$ is the log determinant. Where $u$ holds more than $x$ does (a sign, a radius),
$v$ is the log density of the rest given $x$.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, polygamma
from numpyro import distributions as nd
from numpyro.distributions import constraints

from taut.dist._latent import unconstrainer_of, unwrapped
from taut.dist._location_scale import location_scale
from taut.dist._support import describe, unconstrainer
from taut.dist._waves import Wave


class Chart(NamedTuple):
    """A latent's coordinates.

    Attributes:
        title: name of the map.
        support: where the latent lies, in words.
        shape: shape of the coordinates; batch dimensions come first.
        value: ``u -> x``.
        inverse: ``x -> u``: one of them, where there are several.
        volume: ``(u, x) -> v``, over the latent's batch dimensions and any others.
        direct: ``u -> log density`` over the batch shape, where that is better than the sum of the two.
    """

    title: str
    support: str
    shape: tuple[int, ...]
    value: Callable[[Any], Any]
    inverse: Callable[[Any], Any]
    volume: Callable[[Any, Any], Any]
    direct: Callable[[Any], Any] | None = None


def usual_chart(fn: Any) -> Chart | None:
    """The coordinates that a latent has unless it is given others; ``None`` if its support has no map."""
    base: Any = unwrapped(fn)
    if type(base) is nd.ProjectedNormal:
        return direction_chart(fn)
    transform, support = unconstrainer_of(fn)
    return None if transform is None else _by_transform(fn, transform, support)


def direction_chart(fn: Any) -> Chart:
    """The projected normal as the direction of a normal vector: the vector is the coordinate."""
    base: Any = unwrapped(fn)
    normal = nd.Normal(base.concentration, 1.0)
    events = tuple(range(-fn.event_dim, 0))

    def log_normal(u: Any) -> Any:
        return jnp.sum(normal.log_prob(u), events)

    return Chart(
        "direction",
        "sphere",
        tuple(fn.shape()),
        lambda u: u / jnp.linalg.norm(u, axis=-1, keepdims=True),
        lambda x: x,
        lambda u, x: log_normal(u) - fn.log_prob(x),
        log_normal,
    )


def centred_chart(fn: Any, centredness: Any) -> Chart | None:
    r"""$x = m + s^{1 - \lambda}(u - \lambda m)$, or a transform of that; ``None`` without location and scale."""
    base: Any = unwrapped(fn)
    form, outer = location_scale(fn), []
    if form is None and isinstance(base, nd.TransformedDistribution):
        form, outer = location_scale(base.base_dist), list(base.transforms)
    if form is None:
        return None
    power = form.scale ** (1.0 - centredness)
    move = _Affine(form.loc * (1.0 - centredness * power), power)
    if outer:
        return _by_transform(fn, nd.transforms.ComposeTransform([move, *outer]), describe(fn.support), "centred")
    # Near a scale of 0 nothing is left of x - m: the value is no way to the density.
    direct = partial(form.log_density, centredness=centredness)
    return _by_transform(fn, move, describe(fn.support), "centred")._replace(
        value=partial(form.value, centredness=centredness), direct=direct
    )


def base_chart(fn: Any) -> Chart | None:
    """The coordinates of what a `TransformedDistribution` starts from, or of a walk's steps; ``None`` for others."""
    base: Any = unwrapped(fn)
    if type(base) is nd.GaussianRandomWalk:
        return _walk_chart(fn, base.scale)
    if not isinstance(base, nd.TransformedDistribution) or isinstance(base, nd.FoldedDistribution):
        return None
    inner, _ = unconstrainer_of(base.base_dist)
    if inner is None:
        return None
    parts = [*(inner.parts if isinstance(inner, nd.transforms.ComposeTransform) else [inner]), *base.transforms]
    return _by_transform(fn, nd.transforms.ComposeTransform(parts), describe(fn.support), "base")


def _walk_chart(fn: Any, scale: Any) -> Chart:
    """A Gaussian random walk as the sum of standard normal steps, times its scale."""
    events = tuple(range(-fn.event_dim, 0))

    def volume(u: Any, x: Any) -> Any:
        return jnp.broadcast_to(u.shape[-1] * jnp.log(scale), u.shape[:-1])

    return Chart(
        "steps",
        describe(fn.support),
        tuple(fn.shape()),
        lambda u: scale[..., None] * jnp.cumsum(u, axis=-1),
        lambda x: jnp.diff(x, axis=-1, prepend=0.0) / scale[..., None],
        volume,
        lambda u: jnp.sum(nd.Normal(0.0, 1.0).log_prob(u), events),
    )


def folded_chart(fn: Any) -> Chart | None:
    r"""$x = |u|$ with $u$ on both sides of 0; ``None`` for what is no folded family."""
    base: Any = unwrapped(fn)
    if isinstance(base, nd.FoldedDistribution):
        inner: Any = base.base_dist

        def volume(u: Any, x: Any) -> Any:
            above: Any = inner.log_prob(u)
            return jax.nn.log_sigmoid(above - inner.log_prob(-u))
    elif type(base) in (nd.HalfNormal, nd.HalfCauchy):

        def volume(u: Any, x: Any) -> Any:
            return jnp.full(jnp.shape(u), -jnp.log(2.0))
    else:
        return None
    return Chart("fold", describe(fn.support), tuple(fn.shape()), jnp.abs, lambda x: x, volume)


def plane_chart(fn: Any, spread: float) -> Chart | None:
    r"""An angle as the direction of a point of the plane, whose radius is log-normal around 1; ``None`` for others."""
    base: Any = unwrapped(fn)
    if describe(base.support) != "circular":
        return None
    radius = nd.LogNormal(0.0, spread)

    def length(u: Any) -> Any:
        return jnp.sqrt(jnp.sum(u**2, axis=-1))

    return Chart(
        "plane",
        "circular",
        (*fn.shape(), 2),
        lambda u: jnp.arctan2(u[..., 1], u[..., 0]),
        lambda x: jnp.stack([jnp.cos(x), jnp.sin(x)], axis=-1),
        lambda u, x: radius.log_prob(length(u)) - jnp.log(length(u)),
    )


def wave_chart(fn: Any, wave: Wave, dim: int) -> Chart | None:
    """Coefficients of orthonormal waves along a dimension of the usual coordinates; ``None`` without such."""
    usual = usual_chart(fn)
    if usual is None or usual.direct is not None or len(usual.shape) < -dim:
        return None

    def along(change: Callable[[Any], Any], u: Any) -> Any:
        return jnp.moveaxis(change(jnp.moveaxis(u, dim, -1)), -1, dim)

    inner = partial(along, wave.inverse)

    return usual._replace(
        title=wave.title,
        value=lambda u: usual.value(inner(u)),
        inverse=lambda x: along(wave.forward, usual.inverse(x)),
        volume=lambda u, x: usual.volume(inner(u), x),
    )


def updated_chart(fn: Any, likelihood: Any) -> Chart | None:
    r"""Coordinates of which the prior times a conjugate likelihood has mean 0 and variance 1; ``None`` if it is none.

    For a normal prior these are $(x - m') / s'$ with the updated mean and standard deviation, for gamma, beta and
    Dirichlet priors the same for the logarithm, the logit, the logits of the broken stick.
    """
    prior, seen = unwrapped(fn), unwrapped(likelihood)
    moments = _UPDATES.get((type(prior), type(seen)))
    if moments is None:
        return None
    usual, support = unconstrainer_of(fn)
    parts = [moments(prior, seen)]
    if not isinstance(prior, nd.Normal | nd.MultivariateNormal):
        parts.append(usual)
    return _by_transform(fn, nd.transforms.ComposeTransform(parts), support, "conjugate")


def _by_transform(fn: Any, transform: Any, support: str, title: str | None = None) -> Chart:
    inner = transform
    while isinstance(inner, nd.transforms.IndependentTransform):
        inner = inner.base_transform
    name = type(inner).__name__.removesuffix("Transform").lower().lstrip("_") or "identity"
    shape = tuple(transform.inverse_shape(fn.shape()))
    return Chart(title or name, support, shape, transform, lambda x: transform.inv(x), transform.log_abs_det_jacobian)


def _Affine(loc: Any, scale: Any) -> Any:
    return nd.transforms.AffineTransform(loc, scale, constraints.real)


def _normal(prior: Any, seen: Any) -> Any:
    precision = prior.scale**-2 + seen.scale**-2
    mean = (prior.loc * prior.scale**-2 + seen.loc * seen.scale**-2) / precision
    return _Affine(mean, precision**-0.5)


def _multivariate_normal(prior: Any, seen: Any) -> Any:
    precision = prior.precision_matrix + seen.precision_matrix
    weighed = prior.precision_matrix @ prior.loc[..., None] + seen.precision_matrix @ seen.loc[..., None]
    covariance = jnp.linalg.inv(precision)
    mean = (covariance @ weighed)[..., 0]
    return nd.transforms.LowerCholeskyAffine(mean, jnp.linalg.cholesky(covariance))


# Where the two counts add up to no distribution the standardisation is that of the nearest: any would do.
_LEAST = 0.5


def _gamma(prior: Any, seen: Any) -> Any:
    shape = jnp.maximum(prior.concentration + seen.concentration - 1.0, _LEAST)
    return _Affine(digamma(shape) - jnp.log(prior.rate + seen.rate), jnp.sqrt(polygamma(1, shape)))


def _beta(prior: Any, seen: Any) -> Any:
    a = jnp.maximum(prior.concentration1 + seen.concentration1 - 1.0, _LEAST)
    b = jnp.maximum(prior.concentration0 + seen.concentration0 - 1.0, _LEAST)
    return _Affine(digamma(a) - digamma(b), jnp.sqrt(polygamma(1, a) + polygamma(1, b)))


def _dirichlet(prior: Any, seen: Any) -> Any:
    counts = jnp.maximum(prior.concentration + seen.concentration - 1.0, _LEAST)
    rest = jnp.flip(jnp.cumsum(jnp.flip(counts, -1), -1), -1)[..., 1:]
    counts = counts[..., :-1]
    halves = 0.5 ** jnp.arange(1, counts.shape[-1] + 1)
    # Where each stick is broken in the middle the usual coordinates are not zero.
    transform: Any = unconstrainer(constraints.simplex)
    middle = transform.inv(jnp.append(halves, halves[-1]))
    return _Affine(middle + digamma(counts) - digamma(rest), jnp.sqrt(polygamma(1, counts) + polygamma(1, rest)))


_UPDATES: dict[tuple[type, type], Callable[[Any, Any], Any]] = {
    (nd.Normal, nd.Normal): _normal,
    (nd.MultivariateNormal, nd.MultivariateNormal): _multivariate_normal,
    (nd.Gamma, nd.Gamma): _gamma,
    (nd.Exponential, nd.Gamma): lambda prior, seen: _gamma(nd.Gamma(1.0, prior.rate), seen),
    (nd.Beta, nd.Beta): _beta,
    (nd.Uniform, nd.Beta): lambda prior, seen: _beta(nd.Beta(1.0, 1.0), seen),
    (nd.Dirichlet, nd.Dirichlet): _dirichlet,
}
