"""Going on with a run that was interrupted, or whose steps were used up: a state is a list of arrays."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut.algorithms import SVI, Algorithm, Solution
from taut.guides import Guide
from taut.problem import Problem


def state_leaves(algorithm: Algorithm, solution: Solution) -> tuple[np.ndarray, ...]:
    """The arrays of the last state, for algorithms that take long enough to be resumed."""
    if not isinstance(algorithm, SVI) or solution.state is None:
        return ()
    return tuple(np.asarray(leaf) for leaf in jax.tree.leaves(solution.state))


def state_from(
    leaves: tuple[np.ndarray, ...], algorithm: Algorithm, problem: Problem, guide: Guide, key: int | jax.Array
) -> Any:
    """The state that `state_leaves` took apart.

    Args:
        leaves: the arrays.
        algorithm, problem, guide: what ran, and goes on.
        key: the run's key.

    Raises:
        TautError: ``bad-combination`` for an algorithm that cannot go on, or a state of another run.
    """
    if not isinstance(algorithm, SVI) or not leaves:
        remedy = _GO_ON if isinstance(algorithm, SVI) else "taut.fit(model, data, guide=fit.guide), which begins there"
        raise _refusal(f"resume with {type(algorithm).__name__}", "a fit by SVI, and the SVI to go on with", remedy)
    return restored(leaves, algorithm, problem, guide, key)


def restored(
    leaves: tuple[np.ndarray, ...], algorithm: Algorithm, problem: Problem, guide: Guide, key: int | jax.Array
) -> Any:
    """A state put together again from its arrays; arguments as for `state_from`."""
    fresh = algorithm.init(problem, guide, key)
    expected, treedef = jax.tree.flatten(fresh)
    shapes = [np.shape(leaf) for leaf in expected]
    if shapes != [np.shape(leaf) for leaf in leaves]:
        raise _refusal(
            "a state of another run: its arrays have other shapes", "the same model, guide and optimiser as before"
        )
    taken = [type(new)(old.item()) if isinstance(new, int | float) else old for old, new in zip(leaves, expected)]
    return jax.tree.unflatten(treedef, taken)


_GO_ON = "taut.fit(model, data, guide=guide, algorithm=taut.algorithms.SVI(steps=50_000), resume=fit)"


def _refusal(found: str, expected: str, remedy: str = _GO_ON) -> TautError:
    return TautError(
        "bad-combination",
        site="resume",
        found=found,
        expected=expected,
        remedy=remedy,
    )
