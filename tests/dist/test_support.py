"""Supports, on the host and in words."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taut import dist
from taut.dist import constraints as c

PROBES = np.array([-7.0, -3.2, -3.0, -1.0, -0.5, 0.0, 1e-300, 0.5, 1.0, 1.5, 2.0, 3.0, 3.1, 5.0, 7.0])

SCALAR = {
    "real": c.real,
    "positive": c.positive,
    "nonnegative": c.nonnegative,
    "unit_interval": c.unit_interval,
    "interval(-1, 2)": c.interval(-1.0, 2.0),
    "open_interval(-1, 2)": c.open_interval(-1.0, 2.0),
    "greater_than(1)": c.greater_than(1.0),
    "greater_than_eq(1)": c.greater_than_eq(1.0),
    "less_than(1)": c.less_than(1.0),
    "less_than_eq(1)": c.less_than_eq(1.0),
    "circular": c.circular,
    "boolean": c.boolean,
    "nonnegative_integer": c.nonnegative_integer,
    "positive_integer": c.positive_integer,
    "integer_interval(0, 3)": c.integer_interval(0, 3),
    "integer_greater_than(2)": c.integer_greater_than(2),
}


@pytest.mark.parametrize("name", SCALAR)
def test_values_are_held_as_the_constraint_itself_says(name: str):
    found = dist.holds(SCALAR[name], PROBES)
    if found is not None:
        with jax.enable_x64(True):
            np.testing.assert_array_equal(found, np.asarray(SCALAR[name](jnp.asarray(PROBES))))
    assert (found is None) == (name == "real")


def test_bounds_that_are_computed_are_left_to_the_model():
    assert dist.holds(c.interval(jnp.zeros(()), 2.0), PROBES) is None
    assert dist.holds(c.simplex, np.ones(3) / 3) is None
    seen = []
    jax.make_jaxpr(lambda b: seen.extend([dist.is_moving(c.interval(0.0, b)), dist.describe(c.less_than(b))]))(1.0)
    assert seen == [True, "less_than(...)"]
    assert not dist.is_moving(c.interval(0.0, 1.0))


def test_supports_have_names():
    names = {"positive": c.positive, "interval(0, 10)": c.interval(0.0, 10.0), "simplex": c.simplex, "real": c.real}
    assert {name: dist.describe(support) for name, support in names.items()} == {name: name for name in names}
    assert dist.describe(c.independent(c.positive, 1)) == "positive"
