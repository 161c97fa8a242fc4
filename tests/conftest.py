"""What every test runs under: the CPU, no windows, and global settings left as they were found."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Before JAX and matplotlib are imported. No XLA flags: the tests compile what users compile.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest

# Memory maps of one process: the system allows 65,530, each compiled function takes several, and a process that has
# none left ends in a segmentation fault of the compiler.
_MOST_MAPS = 25_000


# Tests that take many seconds each, and files of such; their neighbours say most of it sooner: see `make test-all`.
_SLOW = tuple(Path(__file__).with_name("slow.txt").read_text(encoding="utf-8").split("\n")[:-1])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what the list of slow tests names."""
    for item in items:
        if item.nodeid.startswith(_SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def precision_is_left_alone() -> Iterator[None]:
    """Precision is a local context in taut: whatever a test runs must leave JAX's global setting alone."""
    before = jax.config.read("jax_enable_x64")
    yield
    assert jax.config.read("jax_enable_x64") == before, "jax_enable_x64 was left changed"


@pytest.fixture(autouse=True, scope="module")
def executables_do_not_pile_up() -> Iterator[None]:
    """What a file compiled is forgotten at its end, once there is much of it."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()
