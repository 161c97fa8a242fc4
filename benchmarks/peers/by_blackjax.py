"""blackjax's Pathfinder on taut's own log density, from one start or from four."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import blackjax
import jax
import numpy as np

from benchmarks.peers.peer import Fit, Found
from benchmarks.posteriordb.models import Posterior
from taut.problem import Problem

PATHS = 4
DRAWS_A_PATH = 1_000
REACH = 2.0  # starts are uniform within this distance of 0 on the real line, as Stan's are


def prepare(peer: str, posterior: Posterior, data: Mapping[str, Any]) -> Fit:
    """Pathfinder for a posterior, as one compiled function of a key and of where it starts."""
    jax.config.update("jax_enable_x64", True)
    problem = Problem(posterior.model, data)
    taken = [0]

    def density(z: Any) -> Any:
        return problem.log_joint(z)

    @jax.custom_jvp
    def counted(z: Any) -> Any:
        return density(z)

    @counted.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        jax.debug.callback(lambda: taken.__setitem__(0, taken[0] + 1))
        return jax.jvp(density, primals, tangents)

    multi = peer == "blackjax-multipath"
    find = jax.jit(lambda key, start: _find(density, key, start, multi))
    count = jax.jit(lambda key, start: _find(counted, key, start, multi))
    pick = jax.jit(blackjax.multipathfinder(density).sample, static_argnums=2) if multi else None

    def fit(seed: int) -> Found:
        start_key, key, draw_key = jax.random.split(jax.random.PRNGKey(seed), 3)
        shape = (PATHS, problem.dim) if multi else (problem.dim,)
        start = jax.random.uniform(start_key, shape, minval=-REACH, maxval=REACH)
        state = find(key, start)

        def draws(n: int) -> dict[str, np.ndarray]:
            if pick is not None:
                points = pick(draw_key, state, min(n, PATHS * DRAWS_A_PATH))
            else:
                points, _ = blackjax.vi.pathfinder.sample(draw_key, state, n)
            return problem.constrain(np.asarray(points))

        def gradients() -> int:
            taken[0] = 0
            jax.block_until_ready(count(key, start))
            jax.effects_barrier()
            return taken[0]

        return Found(draws, gradients)

    return fit


def _find(density: Any, key: Any, start: Any, multi: bool) -> Any:
    if multi:
        return blackjax.vi.multipathfinder.multi_approximate(key, density, start, DRAWS_A_PATH)[0]
    return blackjax.vi.pathfinder.approximate(key, density, start)[0]
