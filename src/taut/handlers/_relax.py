"""relax: soften discrete latents, so that gradients pass through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from taut import dist
from taut._errors import TautError
from taut.core import Handler, Site, user_line

_ALLOWED = "a Bernoulli, whose value is used as a number, or a Multinomial of one trial, a one-hot choice"


class relax(Handler):
    r"""Replace chosen discrete latents by continuous ones of a temperature, for gradients through their draws.

    A Bernoulli becomes a `RelaxedBernoulliLogits` on the unit interval, a Multinomial of one trial (a one-hot choice) a
    `RelaxedOneHotCategorical` on the simplex; both tend to what they were as the temperature falls. Lay it on the
    model **and** on its guide: density stands against density then, and the bound is one of the relaxed model.

    **It is biased** for the model as written, by an amount that falls with the temperature while the noise of the
    gradients rises; the verdict is about the relaxed model. Finite discrete latents are better summed out, which taut
    does by itself, and others are drawn with `taut.gradients.ScoreFunction`: both are exact.

    Args:
        fn: the program.
        temperature: by site name; a number for all sites that can be relaxed.

    Raises:
        TautError: ``bad-argument`` for a temperature that is not positive; ``bad-combination`` for a site of another
            family: where a value picks an element, as that of a Categorical does, no gradient passes.

    Source: Maddison, Mnih, Teh (2017); Jang, Gu, Poole (2017).

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     z = taut.sample("z", dist.Bernoulli(0.5))
        ...     taut.sample("y", dist.Normal(2.0 * z, 1.0), obs=y)
        >>> soft = taut.Problem(taut.handlers.relax(model, {"z": 0.3}), dict(y=1.8))
        >>> soft.latents["z"].support
        'unit_interval'
    """

    def __init__(self, fn: Callable[..., Any] | None = None, temperature: Mapping[str, float] | float = 0.5):
        super().__init__(fn)
        values = temperature.values() if isinstance(temperature, Mapping) else (temperature,)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise TautError(
                    "bad-argument",
                    site="temperature",
                    source=user_line(),
                    found=f"temperature={value!r}",
                    expected="a positive number",
                    remedy='taut.handlers.relax(model, {"z": 0.5})',
                )
        self.temperature = dict(temperature) if isinstance(temperature, Mapping) else temperature

    def before(self, site: Site) -> Site:
        """Soften a discrete latent."""
        if site.kind != "sample" or site.observed or not dist.unwrapped(site.fn).is_discrete:
            return site
        named = isinstance(self.temperature, Mapping)
        if isinstance(self.temperature, Mapping) and site.name not in self.temperature:
            return site
        at = self.temperature[site.name] if isinstance(self.temperature, Mapping) else self.temperature
        base: Any = dist.unwrapped(site.fn)
        if isinstance(base, dist.BernoulliProbs | dist.BernoulliLogits):
            soft: Any = dist.RelaxedBernoulliLogits(at, base.logits)
        elif isinstance(base, dist.MultinomialProbs | dist.MultinomialLogits) and _single(base):
            soft = dist.RelaxedOneHotCategorical(at, _logits(base))
        elif named:
            raise _refusal(site, type(base).__name__)
        else:
            return site
        events = site.fn.event_dim - base.event_dim
        whole = soft.expand((*site.fn.batch_shape, *site.fn.event_shape[:events]))
        return replace(site, fn=whole.to_event(events) if events else whole)


def _single(base: Any) -> bool:
    """Whether a multinomial has one trial, for sure."""
    return isinstance(base.total_count, int) and base.total_count == 1


def _logits(base: Any) -> Any:
    return base.logits if type(base) is dist.MultinomialLogits else jnp.log(base.probs)


def _refusal(site: Site, family: str) -> TautError:
    name = family.removesuffix("Probs").removesuffix("Logits")
    one_hot = "z = taut.sample(name, dist.Multinomial(1, probs)), and z @ values in place of values[z]"
    return TautError(
        "bad-combination",
        site=site.name,
        source=site.source,
        found=f"a temperature for {name}: its value counts, or picks an element, through which no gradient passes",
        expected=_ALLOWED,
        remedy=one_hot if name == "Categorical" else "leave it as it is: finite latents are summed out, others drawn",
    )
