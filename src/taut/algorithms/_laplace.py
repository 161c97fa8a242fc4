"""Laplace: the Gaussian that the mode and its curvature make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from taut._errors import TautError
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._deterministic import evaluator
from taut.algorithms._mode_search import (
    Search,
    advance,
    begin,
    flat_sites,
    full_rank_only,
    mode_count,
    precise,
    status_of,
)
from taut.algorithms._polish import Polished, polish
from taut.guides import FullRank, Guide
from taut.problem import Problem


class LaplaceState(NamedTuple):
    """The search for the mode, and the curvature there once it was taken."""

    search: Search
    mode: Polished | None


@dataclass(frozen=True)
class Laplace(Algorithm):
    r"""The Gaussian at the mode, its covariance the inverse of the curvature there.

    $$q(z) = \mathcal N(z; \hat z, \Lambda^{-1}),\quad \Lambda = -\nabla^2 \log p(x, z)|_{\hat z},\quad
      \log Z \approx \log p(x, \hat z) + \tfrac D2 \log 2\pi - \tfrac12 \log |\Lambda|$$

    The Hessian comes from central differences of gradients in coordinates where it is close to the identity: $2D$
    gradients, exact for a Gaussian. Hierarchies are non-centred unless the guide says otherwise. The approximate
    evidence is a note of the fit; the fit's own evidence is by importance weights.

    Args:
        starts: independent starts.
        modes: how many distinct ends to polish.

    Raises:
        TautError: ``flat-direction``, naming the sites, when the Hessian is singular: the inverse does not exist, and a
            draw without spread would be a lie. ``bad-combination`` for a model with parameters of its own.

    Source: Tierney, Kadane (1986), Accurate approximations for posterior moments and marginal densities.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> fit = taut.fit(model, dict(y=10.0), algorithm=taut.algorithms.Laplace())
        >>> round(float(fit["mu"].mean), 3), round(fit.log_evidence, 4)
        (8.0, -41.0305)
    """

    starts: int = 8
    modes: int = 4

    def guide(self, problem: Problem) -> Guide:
        """A full-rank Gaussian, hierarchies non-centred."""
        return FullRank(centredness=0.0)

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> LaplaceState:
        """See `Algorithm`."""
        guide = full_rank_only("Laplace", problem, guide)
        return LaplaceState(begin(problem, guide.centredness, key, guide, self.starts), None)

    def step(self, problem: Problem, guide: Guide, state: LaplaceState) -> tuple[LaplaceState, Progress]:
        """All climbs, the polish of their ends, or the curvature at the best."""
        if state.search.modes is None:
            search, progress = advance(problem, state.search, self.starts, self.modes)
            return state._replace(search=search), progress
        best = max((c.polished for c in state.search.modes.candidates), key=lambda p: p.log_evidence)
        if best.flat is not None:
            raise flat_direction(problem, best)
        # The polish takes its last step after its last Hessian: here it is taken again, at the mode itself.
        mode = polish(evaluator(problem, state.search.centredness), best.mean, best.factor, **precise(problem))
        gradients = state.search.gradients + mode.gradients
        state = LaplaceState(state.search._replace(gradients=gradients), mode)
        return state, Progress("curvature", gradients, mode.log_evidence, np.inf)

    def terminate(self, problem: Problem, guide: Guide, state: LaplaceState) -> str | None:
        """See `Algorithm`."""
        return None if state.mode is None else status_of(problem, state.mode)

    def finish(self, problem: Problem, guide: Guide, state: LaplaceState, status: str) -> Solution:
        """See `Algorithm`; an interrupted run gives the best Gaussian met so far."""
        search, notes, counts = state.search, (), None
        if state.mode is not None and search.modes is not None:
            if state.mode.flat is not None:
                raise flat_direction(problem, state.mode)
            mean, factor = state.mode.mean, state.mode.factor
            scores = [c.polished.log_evidence for c in search.modes.candidates]
            counts = mode_count(search.modes, scores, self.starts if search.given is None else len(search.given))
            notes = (f"The Laplace approximation of the log evidence is {state.mode.log_evidence:.6f} nats.",)
        elif search.starts is not None:
            best = int(np.argmax(search.starts.elbos))
            mean, factor = search.starts.points[best], search.starts.factors[best]
        else:
            mean, factor = np.zeros(problem.dim), np.eye(problem.dim)
        params = FullRank.from_moments(mean, factor)
        return Solution(guide, params, np.zeros(0), status, modes=counts, notes=notes)


def flat_direction(problem: Problem, mode: Polished) -> TautError:
    """The error for a Hessian without an inverse, naming the direction by its sites."""
    names = flat_sites(problem, mode)
    listed = ", ".join(names)
    first = problem.latents[names[0]]
    return TautError(
        "flat-direction",
        site=names[0],
        source=first.source,
        found=f"a log density without curvature along {_combination(problem, mode)}",
        expected=f"a posterior that falls off in every direction; neither prior nor data restrain {listed}",
        remedy=f'give {listed} a proper prior, for example taut.sample("{names[0]}", dist.Normal(0, 10))',
    )


def _combination(problem: Problem, mode: Polished) -> str:
    """The direction in words: at most four of its largest coordinates."""
    assert mode.flat is not None
    labels = []
    for name, latent in problem.latents.items():
        labels += [name] if latent.size == 1 else [f"{name}[{i}]" for i in range(latent.size)]
    size = np.abs(mode.flat)
    shown = sorted(i for i in np.argsort(-size, kind="stable")[:4] if size[i] > 0.1 * size.max())
    flat = mode.flat * np.sign(mode.flat[shown[0]])
    words = "".join(f" {'-' if flat[i] < 0 else '+'} {size[i]:.2g} {labels[i]}" for i in shown)
    return words.removeprefix(" + ")
