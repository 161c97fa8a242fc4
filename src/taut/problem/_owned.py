"""Every batch dimension belongs to a plate, or its author says that it need not."""

from __future__ import annotations

import numpy as np

from taut._errors import TautError
from taut.core import Site


def check_owned(site: Site) -> None:
    """Refuse a batch dimension longer than 1 that no open plate owns.

    A factor is an array of terms; outside of plates its elements are simply summed, inside of one a further dimension
    multiplies the rows with each other. An array of latents outside of plates is a vector of unknown numbers, however
    it is written; observations are rows of data, and rows have a plate.

    Raises:
        TautError: ``unowned-dimension``.
    """
    if site.kind not in ("sample", "factor") or "unowned-dimension" in site.allow:
        return
    if not site.plates and (site.kind == "factor" or not site.observed):
        return
    batch = tuple(np.shape(site.value)) if site.kind == "factor" else tuple(site.fn.batch_shape)
    owned = {frame.dim for frame in site.plates}
    free = [dim for dim in range(-1, -len(batch) - 1, -1) if batch[dim] > 1 and dim not in owned]
    if not free:
        return
    dim, length = free[-1], batch[free[-1]]
    plates = ", ".join(f"{p.name}={p.length} at dimension {p.dim}" for p in site.plates) or "none"
    event = "" if site.kind == "factor" else f", event {tuple(site.fn.event_shape)}"
    remedies = [f'with taut.plate("{site.name}_rows", {length}, dim={dim}): ... for independent rows']
    if site.kind == "sample" and all(d in free for d in range(-1, dim - 1, -1)):
        remedies.append(f".to_event({-dim}) for one draw")
    elif site.kind == "factor":
        remedies.append("jnp.sum(log_factor, axis=...)")
    raise TautError(
        "unowned-dimension",
        site=site.name,
        source=site.source,
        found=f"batch {batch}{event}, plates {plates}: dimension {dim} of length {length} belongs to none",
        expected="a plate for every batch dimension, or event dimensions",
        remedy="; ".join(remedies) + f'; if it is meant: taut.{site.kind}("{site.name}", ..., '
        'allow="unowned-dimension")',
    )
