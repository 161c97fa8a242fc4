"""Prior and posterior predictive: run the program forward, many times at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import jax
import numpy as np

from taut._errors import TautError
from taut._keys import jax_key
from taut._precision import Precision, scope
from taut.core import Handler, Site, empty_stack
from taut.handlers import Trace, seed, trace, whole
from taut.problem._cost import elements
from taut.problem._data import in_scope, split
from taut.problem._levels import inlined
from taut.problem._numpyro import numpyro_statements
from taut.problem._user_code import user_errors

NewRows = Literal["error", "prior"]

# Array elements that runs side by side may compute, so that networks over many rows stay within the memory.
_AT_ONCE = 2**26


def predictive(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    draws: Mapping[str, np.ndarray],
    *,
    size: int,
    key: int | jax.Array = 0,
    precision: Precision = "float64",
    forget: bool = False,
    new_rows: NewRows = "error",
) -> dict[str, np.ndarray]:
    r"""Run the program forward, $\tilde y \sim p(\tilde y \mid \theta)$ with $\theta$ from ``draws``.

    Args:
        model: the program.
        data: its arguments; an observed site's data are simply left out.
        draws: values of latents (and parameters) by name, ``(size, *shape)``; empty for the prior predictive.
        size: number of runs.
        key: an integer or a JAX key.
        precision: what to compute in.
        forget: draw observed sites anew although data are given.
        new_rows: what to do when the plate of a latent has another length than ``draws``: refuse, or draw the latent
            from its prior given the others.

    Returns:
        Sites that were drawn, and deterministic ones, by name: ``(size, *shape)``.

    Raises:
        TautError: ``plate-shape`` when rows do not match, ``improper-sample`` for an improper prior.
    """
    arrays, constants = split(model, data)

    def once(arrays: Any, values: Any, words: Any) -> dict[str, Any]:
        def run() -> Trace:
            with (
                empty_stack(),
                user_errors(),
                trace() as sites,
                seed(key=words),
                few_rows(),
                whole(),
                _Given(values, forget, new_rows),
                numpyro_statements(),
            ):
                model(**arrays, **constants)
            return sites

        sites = inlined(run)
        fresh = {
            n: s.value for n, s in sites.items() if s.kind == "sample" and not s.observed and "given" not in s.infer
        }
        named = {n: s.value for n, s in sites.items() if s.kind == "deterministic"}
        return {**fresh, **named}

    with scope(precision):
        keys = jax.random.split(jax_key(key), size)
        given = jax.tree.map(in_scope, arrays)
        values = {n: np.asarray(v) for n, v in draws.items()}
        single = jax.make_jaxpr(once)(given, {n: v[0] for n, v in values.items()}, keys[0])
        together = max(1, min(size, _AT_ONCE // max(1, elements(single.jaxpr))))
        run = jax.jit(jax.vmap(once, in_axes=(None, 0, 0)))
        parts = []
        for begin in range(0, size, together):
            # The last runs are those before them, too, so that all parts have one size.
            first = max(0, min(begin, size - together))
            part = run(
                given, {n: v[first : first + together] for n, v in values.items()}, keys[first : first + together]
            )
            parts.append({name: np.asarray(v)[begin - first :] for name, v in part.items()})
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class few_rows(Handler):
    """Let a plate have fewer rows than its ``subsample_size``: predictions are made of all rows there are."""

    def before(self, site: Site) -> Site:
        """Say so to the plate."""
        return replace(site, infer={**site.infer, "few rows": True}) if site.kind == "plate" else site


class _Given(Handler):
    """Hand out the values of one draw, by name and shape."""

    def __init__(self, values: Mapping[str, Any], forget: bool, new_rows: NewRows):
        super().__init__()
        self.values = values
        self.forget = forget
        self.new_rows = new_rows

    def before(self, site: Site) -> Site:
        if site.kind == "sample" and site.observed and self.forget:
            return replace(site, value=None, observed=False)
        if site.name not in self.values or site.kind not in ("sample", "param") or site.observed:
            return site
        value = self.values[site.name]
        if site.kind == "sample" and np.shape(value) != tuple(site.fn.shape()):
            if self.new_rows == "prior":
                return site
            plates = ", ".join(repr(p.name) for p in site.plates) or "none"
            raise TautError(
                "plate-shape",
                site=site.name,
                source=site.source,
                found=f"shape {tuple(site.fn.shape())} with the new data; plates {plates}",
                expected=f"{np.shape(value)}, the shape that was learned",
                remedy='fit.predict(data, new_rows="prior") draws new rows from their prior given the rest; '
                'new_rows="encode" from their data, for a guide with an encoder',
            )
        return replace(site, value=value, infer={**site.infer, "given": True})
