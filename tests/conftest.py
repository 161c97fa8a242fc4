"""What every test runs under: the CPU, no windows, and global settings left as they were found."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before JAX and matplotlib are imported. No XLA flags: the tests compile what users compile.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest


@pytest.fixture(autouse=True)
def precision_is_left_alone() -> Iterator[None]:
    """Precision is a local context in taut: whatever a test runs must leave JAX's global setting alone."""
    before = jax.config.read("jax_enable_x64")
    yield
    assert jax.config.read("jax_enable_x64") == before, "jax_enable_x64 was left changed"
