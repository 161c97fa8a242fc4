"""What has no effect: parameters that never reach the objective, arguments that never reach the likelihood."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import jax

from taut._errors import TautError, TautWarning
from taut.core import warn
from taut.problem._program import Program
from taut.problem._reach import dependencies


def check_params(program: Program) -> None:
    """Refuse a parameter of the model whose gradient is zero everywhere.

    Raises:
        TautError: ``unused-param``.
    """
    if not program.params:
        return
    places = program.outputs["density"].values()
    part = program.closed.jaxpr.replace(
        outvars=[program.closed.jaxpr.outvars[place] for place in places],
        debug_info=program.closed.jaxpr.debug_info.with_unknown_names(),
    )
    reach = dependencies(part, [""] * len(part.invars), smooth=True)
    moved = frozenset[str]().union(*reach)
    idle = [p for n, p in program.params.items() if n not in moved and "unused-param" not in program.sites[n].allow]
    if idle:
        raise unused_params({p.name: p.source for p in idle}, "no density of the model")


def unused_params(idle: Mapping[str, str], found: str) -> TautError:
    """The error for parameters, by name with their lines, that the objective does not depend on."""
    first = next(iter(idle))
    names = ", ".join(f"{name!r}" for name in idle)
    plural = "s" if len(idle) > 1 else ""
    lines = ", ".join(idle.values())
    return TautError(
        "unused-param",
        site=first,
        source=idle[first],
        found=f"parameter{plural} {names} ({lines}) reach{'' if plural else 'es'} {found}: the gradient is zero",
        expected="parameters that change what is drawn or how likely it is",
        remedy=f'use {first!r} in a distribution, or delete the line taut.param("{first}", ...); if it is meant: '
        f'taut.param("{first}", ..., allow="unused-param")',
    )


def warn_of_unused(program: Program, arrays: Mapping[str, Any], allow: Collection[str]) -> None:
    """Warn of data entries that the likelihood does not depend on.

    Terms of the log joint that share latents or parameters belong together. An entry matters if it reaches a term that
    hangs together with an observed site or a factor, or if it reaches a deterministic site, which somebody asked for.

    Args:
        program: the traced model.
        arrays: traced data by argument name.
        allow: names of entries that may be idle.
    """
    terms = [
        (program.reach["density"][name], program.sites[name].observed or name not in program.latents)
        for name in program.outputs["density"]
    ]
    # Where no observation speaks of a latent the prior is all there is.
    prior = not any(observed and _moving(reach) for reach, observed in terms)
    seen = frozenset[str]().union(*(reach for reach, observed in terms if observed or prior))
    while True:
        # The latents that are tied to the observations so far tie their own priors to them.
        wider = seen.union(*(reach for reach, _ in terms if reach & _moving(seen)))
        if wider == seen:
            break
        seen = wider
    for name, site in program.sites.items():
        if site.kind == "deterministic":
            seen |= program.reach["value"][name]
    for name in arrays:
        if f"data:{name}" not in seen and name not in allow and jax.tree.leaves(arrays[name]):
            warn(
                TautWarning(
                    "unused-argument",
                    site=name,
                    found=f"argument {name!r}, whose values have no effect on the likelihood",
                    expected="data that an observed site depends on",
                    remedy=f'taut.sample("y", ..., obs={name}); if it is meant: taut.fit(model, data, '
                    f'allow={{"{name}": "unused-argument"}})',
                )
            )


def _moving(reach: frozenset[str]) -> frozenset[str]:
    """The latents and parameters among what a term depends on."""
    return frozenset(label for label in reach if not label.startswith("data:") and label != "key")
