"""Python and NumPy on a latent: said at the user's own line, with what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist
from taut._errors import TautError


def in_a_while(x: Any) -> Any:
    while x > 3:
        x = x / 2
    return x


def in_an_assert(x: Any) -> Any:
    assert x < 10
    return x


def in_an_if(x: Any) -> Any:
    if x < 0:
        x = -x
    return x


def in_a_list(x: Any) -> Any:
    return [1.0, 2.0, 3.0][x]


def written_into_numpy(x: Any) -> Any:
    row = np.zeros(3)
    row[0] = x
    return row.sum()


def changed_in_place(x: Any) -> Any:
    row = jnp.zeros(3)
    row[0] = x  # pyright: ignore[reportIndexIssue]
    return row.sum()


def in_a_dict(x: Any) -> Any:
    return {0.0: 1.0}[x]


def in_a_text(x: Any) -> Any:
    return len(f"{x:.2f}")


# What stands at the user's line, and what must stand in the remedy.
CASES: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "if": (in_an_if, "if x < 0:", "jnp.where(condition, a, b), or abs(x)"),
    "while": (in_a_while, "while x > 3:", "jnp.where"),
    "assert": (in_an_assert, "assert x < 10", "delete the assert"),
    "if expression": (lambda x: x if x > 0 else 0.0, "x if x > 0", "jnp.where"),
    "and": (lambda x: (x > 0) and (x < 3), "and", "jnp.where"),
    "float": (lambda x: float(x), "float(x)", "leave float() out"),
    "int": (lambda x: int(x), "int(x)", "jnp.floor"),
    "max": (lambda x: max(x, 0.0), "max(x, 0.0)", "jnp.maximum(a, b)"),
    "min": (lambda x: min(0.0, x), "min(0.0, x)", "jnp.minimum(a, b)"),
    "range": (lambda x: sum(range(x)), "range(x)", "in the data as an int"),
    "sorted": (lambda x: sorted([x, 1.0])[0], "sorted(", "jnp.sort"),
    "numpy": (lambda x: np.exp(x), "np.exp(x)", "jnp.exp(...)"),
    "numpy.linalg": (lambda x: np.linalg.inv(x * jnp.eye(2))[0, 0], "np.linalg.inv(", "jnp.linalg.inv"),
    "numpy.random": (lambda x: np.random.normal(x, 1.0), "np.random", "taut.sample"),  # noqa: NPY002
    "math": (lambda x: math.exp(x), "math.exp(x)", "jnp.exp(...)"),
    "index": (in_a_list, "[1.0, 2.0, 3.0][x]", "jnp.asarray(values)[index]"),
    "array": (written_into_numpy, "row[0] = x", "x.at[i].set(value)"),
    "in place": (changed_in_place, "row[0] = x", "x.at[i].set(value)"),
    "key": (in_a_dict, "{0.0: 1.0}[x]", "jnp.asarray(values)[index]"),
    "text": (in_a_text, ":.2f", "taut.deterministic"),
}


@pytest.mark.parametrize("name", CASES)
def test_python_on_a_latent_is_said_at_the_users_line(name: str):
    function, code, remedy = CASES[name]

    def model() -> None:
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.factor("f", 0.0 * jnp.asarray(function(x)))

    with pytest.raises(TautError) as caught:
        taut.Problem(model)
    error = caught.value
    assert error.code == "control-flow" and error.source is not None
    file, line = error.source.split(":")
    assert file == "test_user_code.py"
    assert int(line) in range(function.__code__.co_firstlineno, function.__code__.co_firstlineno + 4)
    assert code in error.found and remedy in error.remedy


def test_the_users_own_errors_stay_what_they_are():
    def model() -> None:
        taut.sample("x", dist.Normal(0.0, 1.0))
        raise TypeError("unhashable type: 'list'")

    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        taut.Problem(model)
