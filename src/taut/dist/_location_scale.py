r"""Location-scale families, and the coordinate that a hierarchy is best written in.

For $\theta = m + s\,\epsilon$ and centredness $\lambda \in [0, 1]$ the coordinate

$$u = \lambda m + s^{\lambda - 1} (\theta - m) \iff \theta = m + s^{1 - \lambda} (u - \lambda m)$$

has location $\lambda m$ and scale $s^\lambda$: $\lambda = 1$ is the model as written (centred), $\lambda = 0$ is
non-centred. Every value describes the same posterior; how Gaussian it looks differs.

Papaspiliopoulos, Roberts, Sköld (2003), Non-centered parameterisations for hierarchical models and data augmentation;
Gorinova, Moore, Hoffman (2020), Automatic reparameterisation of probabilistic programs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.core import Tracer
from numpyro import distributions as nd


class LocationScale(NamedTuple):
    """A distribution as $m + s \\epsilon$.

    Attributes:
        loc: $m$, broadcastable to the distribution's shape.
        scale: $s > 0$, likewise.
        moved: ``(loc, scale, u) -> log density`` of the same family elsewhere, summed over event dimensions.
        computed: which of the two are computed by the program being traced: ``(loc, scale)``. A scale that is not is
            no hierarchy's, and its coordinate needs no map.
    """

    loc: Any
    scale: Any
    moved: Callable[[Any, Any, Any], Any]
    computed: tuple[bool, bool]

    def value(self, u: Any, centredness: Any) -> Any:
        """The model's own value at coordinate ``u``."""
        return self.loc + self._power(1.0 - centredness) * (u - centredness * self.loc)

    def log_density(self, u: Any, centredness: Any) -> Any:
        """The log density of ``u``, over the distribution's batch shape."""
        return self.moved(centredness * self.loc, self._power(centredness), u)

    def _power(self, exponent: Any) -> Any:
        return jnp.exp(exponent * jnp.log(self.scale))


def location_scale(fn: nd.Distribution) -> LocationScale | None:
    """A distribution as location and scale, or ``None`` if it is not of such a family.

    Args:
        fn: any distribution; expanded and independent ones are looked into.

    Returns:
        Its `LocationScale`, with ``loc`` and ``scale`` broadcast to ``fn.shape()``.
    """
    base: Any = fn
    events = 0
    while isinstance(base, nd.Independent | nd.ExpandedDistribution):
        if isinstance(base, nd.Independent):
            events += base.reinterpreted_batch_ndims
        base = base.base_dist
    shape = fn.shape()
    for family, extra in _SCALAR.items():
        if type(base) is family:
            others = {name: getattr(base, name) for name in extra}

            def moved(loc: Any, scale: Any, u: Any, family: Any = family, others: Any = others) -> Any:
                terms = family(loc=loc, scale=scale, **others).log_prob(u)
                return terms.sum(tuple(range(-events, 0))) if events else terms

            computed = isinstance(base.loc, Tracer), isinstance(base.scale, Tracer)
            return LocationScale(
                jnp.broadcast_to(base.loc, shape), jnp.broadcast_to(base.scale, shape), moved, computed
            )
    if type(base) is nd.MultivariateNormal:
        # Only the standard deviations are moved; the correlations stay in the coordinate's own distribution.
        tril: Any = base.scale_tril
        scale = jnp.sqrt(jnp.sum(tril**2, axis=-1))

        def moved_vector(loc: Any, new_scale: Any, u: Any) -> Any:
            terms = nd.MultivariateNormal(loc, scale_tril=(new_scale / scale)[..., None] * tril).log_prob(u)
            return terms.sum(tuple(range(-events, 0))) if events else terms

        computed = isinstance(base.loc, Tracer), isinstance(tril, Tracer)
        return LocationScale(jnp.broadcast_to(base.loc, shape), jnp.broadcast_to(scale, shape), moved_vector, computed)
    return None


_SCALAR: dict[type, tuple[str, ...]] = {
    nd.Normal: (),
    nd.StudentT: ("df",),
    nd.Cauchy: (),
    nd.Laplace: (),
    nd.Logistic: (),
    nd.Gumbel: (),
    nd.SoftLaplace: (),
    nd.AsymmetricLaplace: ("asymmetry",),
}
