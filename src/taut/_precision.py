"""Precision as a local choice: float64 where it is cheap, never a global switch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import jax
import numpy as np

Precision = Literal["float32", "float64"]


def scope(precision: Precision) -> AbstractContextManager[None]:
    """A context in which JAX computes in ``precision``; the caller's own setting returns afterwards."""
    return jax.enable_x64(precision == "float64")


def default() -> Precision:
    """float64 on a CPU, where small problems lose nothing by it; float32 on an accelerator."""
    return "float64" if jax.default_backend() == "cpu" else "float32"


def real_dtype() -> np.dtype:
    """The real type of the scope in force."""
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64))
