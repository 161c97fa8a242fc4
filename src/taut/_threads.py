"""One thread for NumPy's linear algebra while a fit runs: matrices are small, and the compiled kernel has the cores.

A BLAS that starts a thread for every core waits in a loop between calls; beside XLA's own threads a fit of ninety
latents takes three times as long for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread inside, and set what was before when leaving.

    Example:
        >>> with one_blas_thread():
        ...     np.eye(2) @ np.eye(2)
        array([[1., 0.],
               [0., 1.]])
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
