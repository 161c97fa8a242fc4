"""What encoders and decoders say of rows, checked: the same words for a traced model and for a fit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError


def one_or_all(networks: tuple[Any, ...]) -> Any:
    """One network keeps the names of its own leaves; several are numbered."""
    return networks[0] if len(networks) == 1 else networks


def normal_of(who: str, network: Any, rows: Any, size: int) -> Any:
    """The normal distribution of ``size`` numbers that a network gives for each row.

    Raises:
        TautError: ``bad-argument`` for outputs that are no location and log scale of so many.
    """
    found: Any = jax.vmap(network)(rows)
    parts = list(found) if isinstance(found, tuple | list) else [found]
    shapes = [tuple(np.shape(part)[1:]) for part in parts]
    if shapes == [(2 * size,)]:
        parts = [parts[0][:, :size], parts[0][:, size:]]
    elif shapes != [(size,), (size,)]:
        raise TautError(
            "bad-argument",
            site=who,
            found=f"outputs of shape {', '.join(map(str, shapes))} for a row",
            expected=f"location and log scale of {size} latents: two arrays of {size}, or one of {2 * size}",
            remedy=f"an {who} that ends in: return loc, log_scale    # {size} numbers each",
        )
    loc, log_scale = parts
    return dist.Normal(loc, jnp.exp(log_scale)).to_event(1)


def outputs_of(network: Any, z: Any, count: int, row: tuple[int, ...]) -> Any:
    """What a decoder says of rows, ``float[rows, count, *row]``.

    Raises:
        TautError: ``bad-argument`` for another number of outputs.
    """
    found: Any = jax.vmap(network)(z)
    parts = found if isinstance(found, tuple | list) else (found,)
    flat = jnp.concatenate([jnp.reshape(part, (len(z), -1)) for part in parts], axis=1)
    wanted = count * int(np.prod(row, dtype=int))
    if flat.shape[1] != wanted:
        raise TautError(
            "bad-argument",
            site="decoder",
            found=f"{flat.shape[1]} outputs for a row of shape {row}",
            expected=f"{wanted}, {'one' if count == 1 else 'location and log scale'} for each number of a row",
            remedy=f"a decoder whose last layer has {wanted} outputs",
        )
    return flat.reshape(len(z), count, *row)
