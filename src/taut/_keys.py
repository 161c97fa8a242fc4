"""Keys: one integer or JAX key in, a host generator or a JAX key out."""

from __future__ import annotations

import jax
import numpy as np

from taut._errors import TautError


def generator(key: int | jax.Array, stream: int = 0) -> np.random.Generator:
    """A NumPy generator for host-side draws, determined by ``key`` and ``stream``.

    Args:
        key: a non-negative integer, or a JAX key (new style or raw ``uint32[2]``).
        stream: distinguishes independent uses of one key.

    Returns:
        A Philox generator: the same key and stream give the same draws on every machine.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([stream, *_words(key)])))


def jax_key(key: int | jax.Array) -> jax.Array:
    """A typed JAX key from an integer or a JAX key."""
    if isinstance(key, jax.Array):
        return key if jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
    _words(key)
    return jax.random.key(key)


def _words(key: int | jax.Array) -> list[int]:
    if isinstance(key, jax.Array):
        typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
        return [int(w) for w in np.asarray(jax.random.key_data(key) if typed else key).ravel()]
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool) and key >= 0:
        return [int(key)]
    raise TautError(
        "bad-argument",
        site="key",
        found=f"{key!r}",
        expected="a non-negative integer or a JAX key",
        remedy="taut.fit(model, data, key=0)",
    )
