"""MAP: the point of highest density on the real line."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from taut._errors import TautError
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._mode_search import Search, advance, begin, flat_sites, mode_count, status_of
from taut.guides import Delta, Guide
from taut.problem import Problem


@dataclass(frozen=True)
class MAP(Algorithm):
    r"""The mode: $\hat z = \arg\max_z \log p(x, z)$, over latents on the real line and the model's own parameters.

    Several quasi-Newton climbs, then Newton steps that saddles do not attract, until the promise of the next step is
    below $10^{-7}$ nats. The Jacobian of the map to the real line belongs to the density, so that the point depends on
    the coordinates: hierarchies are non-centred unless the guide says otherwise (a centred one is highest where its
    scale vanishes). A point has no spread: the verdict never calls it a posterior.

    Args:
        starts: independent starts.
        modes: how many distinct ends to polish.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     rate = taut.sample("rate", dist.Gamma(3.0, 1.0))
        ...     taut.sample("y", dist.Poisson(rate), obs=y)
        >>> fit = taut.fit(model, dict(y=5), algorithm=taut.algorithms.MAP())
        >>> round(float(fit["rate"].mean), 6)       # Gamma(8, 2) in log(rate): 8 / 2
        4.0
    """

    starts: int = 8
    modes: int = 4

    def guide(self, problem: Problem) -> Guide:
        """A point, hierarchies non-centred."""
        return Delta(centredness=0.0)

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> Search:
        """See `Algorithm`."""
        if not isinstance(guide, Delta):
            raise TautError(
                "bad-combination",
                found=f"MAP with {type(guide).__name__}",
                expected="a Delta guide",
                remedy="algorithm=taut.algorithms.Laplace()",
            )
        return begin(problem, guide.centredness, key, guide, self.starts)

    def step(self, problem: Problem, guide: Guide, state: Search) -> tuple[Search, Progress]:
        """All climbs, or the polish of their ends."""
        return advance(problem, state, self.starts, self.modes)

    def terminate(self, problem: Problem, guide: Guide, state: Search) -> str | None:
        """See `Algorithm`."""
        if state.modes is None:
            return None
        return status_of(problem, max((c.polished for c in state.modes.candidates), key=lambda p: p.log_p))

    def finish(self, problem: Problem, guide: Guide, state: Search, status: str) -> Solution:
        """See `Algorithm`; an interrupted run gives the highest point met so far."""
        d = problem.dim
        counts, flat = None, ()
        if state.modes is not None:
            scores = [c.polished.log_p for c in state.modes.candidates]
            best = state.modes.candidates[int(np.argmax(scores))].polished
            point, flat = best.mean, flat_sites(problem, best)
            counts = mode_count(state.modes, scores, self.starts if state.given is None else len(state.given))
        elif state.starts is not None:
            point = state.starts.ends[int(np.argmax(state.starts.end_log_p))]
        else:
            point = np.zeros(d + problem.num_params)
        return Solution(guide, {"loc": point[:d]}, point[d:], status, modes=counts, flat=flat)
