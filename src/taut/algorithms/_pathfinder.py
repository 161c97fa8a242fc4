"""Pathfinder: Gaussians along quasi-Newton paths, the best of each path, all paths together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from taut._errors import TautError
from taut._keys import generator
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._deterministic import evaluator, impossible_start
from taut.algorithms._mode_search import centredness_of
from taut.algorithms._modes import same_mode
from taut.algorithms._starts import Starts, explore, given_starts
from taut.guides import FullRank, GaussianMixture, Guide
from taut.problem import Problem

# Nats: the least promise that single precision can tell from rounding.
_SINGLE = 1e-4
# Paths this far below the best, in nats (or 3 per dimension), only cost draws.
_MARGIN = 20.0


class PathState(NamedTuple):
    """The coordinates of a run, its key, and what the climbs found."""

    key: int | jax.Array
    centredness: np.ndarray
    starts: Starts | None


@dataclass(frozen=True)
class Pathfinder(Algorithm):
    r"""Multi-path Pathfinder: a few hundred gradients, no tuning, a posterior within sight.

    Quasi-Newton climbs start from several points. Along each, iterates and inverse Hessians are Gaussians
    $\mathcal N(x_t, H_t)$; the one of highest ELBO on a few draws stands for its path. q is their mixture,

    $$q(z) = \frac1K \sum_{k=1}^K \mathcal N(z; x_k, H_k),$$

    and the fit's smoothed importance weights, taken against the whole mixture, do what the paper's resampling of single
    paths does, with less variance: a path that ended in a poor place costs draws and not truth. A quasi-Newton inverse
    Hessian is a guess of the covariance, so q itself is rarely exact. Hierarchies are non-centred unless the guide
    says otherwise.

    Args:
        paths: number of starts.
        draws: draws behind each ELBO estimate.
        ticks: most steps of each climb.
        radius: half width of the box that starts are drawn from, on the real line.
        tolerance: nats; a climb ends when its next step promises less. The last steps hardly move the point, and they
            teach the inverse Hessian its soft directions: on a Gaussian in 20 dimensions, $10^{-4}$ leaves a KL of 6
            nats to the target and $10^{-8}$ leaves .6. In single precision it is never below $10^{-4}$.

    Source: Zhang, Carpenter, Gelman, Vehtari (2022), Pathfinder: parallel quasi-Newton variational inference.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> fit = taut.fit(model, dict(y=10.0), algorithm=taut.algorithms.Pathfinder())
        >>> round(float(fit["mu"].mean), 2), round(fit.log_evidence, 2)
        (8.0, -41.03)
    """

    paths: int = 8
    draws: int = 8
    ticks: int = 300
    radius: float = 2.0
    tolerance: float = 1e-8

    def guide(self, problem: Problem) -> Guide:
        """A full-rank Gaussian per path, hierarchies non-centred."""
        return FullRank(centredness=0.0)

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> PathState:
        """See `Algorithm`."""
        if not isinstance(guide, FullRank):
            raise TautError(
                "bad-combination",
                found=f"Pathfinder with {type(guide).__name__}",
                expected="a FullRank guide, the family of each path",
                remedy="guide=taut.guides.FullRank(centredness=0.0)",
            )
        return PathState(key, centredness_of(problem, guide.centredness), None)

    def step(self, problem: Problem, guide: Guide, state: PathState) -> tuple[PathState, Progress]:
        """All paths at once: they climb in lockstep."""
        found = explore(
            evaluator(problem, state.centredness),
            problem.dim + problem.num_params,
            generator(state.key, 0),
            starts=self.paths,
            params=problem.num_params,
            draws=self.draws,
            ticks=self.ticks,
            radius=self.radius,
            given=given_starts(problem, guide, state.centredness, generator(state.key, 2), self.paths),
            tolerance=self.tolerance if problem.precision == "float64" else max(self.tolerance, _SINGLE),
        )
        if found.never_finite == len(found.points):
            raise impossible_start(problem, found.points[0], state.centredness, self.paths)
        return state._replace(starts=found), Progress("paths", found.gradients, float(np.max(found.elbos)), np.inf)

    def terminate(self, problem: Problem, guide: Guide, state: PathState) -> str | None:
        """One step is all; converged when the climb of the best path is."""
        if state.starts is None:
            return None
        return "converged" if state.starts.converged[int(np.argmax(state.starts.elbos))] else "budget"

    def finish(self, problem: Problem, guide: Guide, state: PathState, status: str) -> Solution:
        """See `Algorithm`."""
        assert isinstance(guide, FullRank)
        d = problem.dim
        found = state.starts
        if found is None:
            return Solution(guide, FullRank.from_moments(np.zeros(d), np.eye(d)), np.zeros(problem.num_params), status)
        floor = found.elbos.max() - max(_MARGIN, 3.0 * d)
        order = [int(i) for i in np.argsort(-found.elbos, kind="stable") if floor <= found.elbos[i] > -np.inf]
        order = order or [int(np.argmax(found.end_log_p))]
        best, notes = order[0], ()
        if problem.num_params and len(order) > 1:
            # Each path has parameters of its own, and a mixture over latents can hold only one set of them.
            order = [best]
            notes = ("The model has parameters of its own: q is the Gaussian of the best path alone.",)
        means, factors = found.points[order, :d], found.factors[order]
        lost = len(found.points) - len(order)
        if lost and not notes:
            notes = (f"{lost} of {len(found.points)} paths ended far below the best one and were left out.",)
        point = found.points[best, d:]
        if len(order) == 1:
            return Solution(guide, FullRank.from_moments(means[0], factors[0]), point, status, notes=notes)
        # Every path's place is in the mixture: what is left to say is how many paths found the best one.
        reached = sum(1 for m, c in zip(means, factors, strict=True) if same_mode(m, c, means[0], factors[0]))
        params = GaussianMixture.from_moments(np.ones(len(order)), means, factors)
        return Solution(
            GaussianMixture(len(order), guide.centredness),
            params,
            point,
            status,
            modes=(1, reached, len(found.points)),
            notes=notes,
        )
