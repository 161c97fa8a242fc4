"""The deterministic algorithm: starts, polish, and a Gaussian fitted to fixed draws, for a guide that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from taut._errors import TautError
from taut._keys import generator
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._fixed_draws import curvature_scale
from taut.algorithms._levels import Climb, climb, level_draws
from taut.algorithms._mean_field import mean_field_draws, mean_field_scales
from taut.algorithms._modes import Candidate, Modes, find_modes
from taut.algorithms._polish import restrained
from taut.algorithms._starts import Evaluate, Starts, explore, given_starts
from taut.guides import Delta, FullRank, Guide, MeanField
from taut.problem import Problem

# Phases of a run, in order; `FIT` is repeated for each candidate.
EXPLORE, POLISH, FIT, DONE = 0, 1, 2, 3

_BOUNDARY = 25.0  # of a coordinate on a log or logit scale: past it a latent is on its bound
_MOST_AXES = 150  # along which a run that found no rest is looked after

# Modes whose ELBO is further below the best hold less than a thousandth of the mass.
COMPARABLE = 7.0


class State(NamedTuple):
    """Where a run stands.

    Attributes:
        key: the run's key.
        phase: `EXPLORE`, `POLISH`, `FIT` or `DONE`.
        centredness: ``float[dim]``, the coordinates of this run.
        starts: what the climbs found.
        modes: distinct candidates, best first.
        fits: one `Climb` per candidate fitted so far.
        gradients: evaluations so far.
    """

    key: Any
    phase: int
    centredness: np.ndarray
    starts: Starts | None
    modes: Modes | None
    fits: tuple[Climb, ...]
    gradients: int


@dataclass(frozen=True)
class FixedDraws(Algorithm):
    r"""Maximise the ELBO over fixed, orthogonal, antithetic draws: no step size, no noise, hundreds of gradients.

    $$\max_{m, C} \; \frac1M \sum_{i=1}^M \log p(x, m + C u_i) + \log |C|$$

    with $u$ chosen once so that their first two moments are those of a standard normal, from the best of several
    starts, in coordinates whitened at its mode. Serves `FullRank`, `MeanField` and `Delta` guides on full data.

    Args:
        starts: independent starts.
        levels: how often the number of draws may grow when fresh draws show that the fit has learnt its own: 1 is $4D$
            draws, 2 goes on to $16D$, 3 to $64D$ if q is within a nat of the posterior by then.
        modes: how many distinct modes to follow.
        steps: most steps of each fit.

    Source: Giordano, Ingram, Broderick (2024), Black box variational inference with a deterministic objective.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> fit = taut.fit(model, dict(y=10.0), algorithm=taut.algorithms.FixedDraws(), guide=taut.guides.FullRank())
        >>> round(float(fit["mu"].mean), 3)
        8.0
    """

    starts: int = 8
    levels: int = 3
    modes: int = 4
    steps: int = 300

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> State:
        """See `Algorithm`."""
        if not isinstance(guide, FullRank | MeanField | Delta):
            raise TautError(
                "bad-combination",
                found=f"FixedDraws with {type(guide).__name__}",
                expected="a FullRank, MeanField or Delta guide",
                remedy="algorithm=taut.algorithms.SVI()",
            )
        lam = guide.centredness
        centredness = np.asarray(lam, float) if isinstance(lam, tuple) else problem.centredness(lam)
        return State(key, EXPLORE, centredness, None, None, (), 0)

    def step(self, problem: Problem, guide: Guide, state: State) -> tuple[State, Progress]:
        """One phase: all climbs, the polish of all modes, or one fit."""
        evaluate = evaluator(problem, state.centredness)
        rng = generator(state.key, state.phase + len(state.fits))
        if state.phase == EXPLORE:
            given = given_starts(problem, guide, state.centredness, rng, self.starts)
            dim, params = problem.dim + problem.num_params, problem.num_params
            starts = explore(evaluate, dim, rng, starts=self.starts, params=params, given=given)
            if starts.never_finite == len(starts.points):
                raise impossible_start(problem, starts.points[0], state.centredness, self.starts)
            state = state._replace(phase=POLISH, starts=starts, gradients=state.gradients + starts.gradients)
            return state, Progress("starts", state.gradients, float(np.max(starts.elbos)), np.inf)
        if state.phase == POLISH:
            assert state.starts is not None
            modes = find_modes(evaluate, state.starts, rng, most=self.modes)
            phase = DONE if isinstance(guide, Delta) else FIT
            state = state._replace(phase=phase, modes=modes, gradients=state.gradients + modes.gradients)
            return state, Progress("modes", state.gradients, modes.candidates[0].elbo, np.inf)
        assert state.modes is not None
        candidate = state.modes.candidates[len(state.fits)]
        fitted = fit_candidate(evaluate, problem, guide, candidate, rng, levels=self.levels, steps=self.steps)
        fits = (*state.fits, fitted)
        phase = DONE if len(fits) == len(state.modes.candidates) else FIT
        state = state._replace(phase=phase, fits=fits, gradients=state.gradients + fitted.gradients)
        return state, Progress("fit", state.gradients, fitted.fresh.elbo, fitted.fresh.elbo_se)

    def terminate(self, problem: Problem, guide: Guide, state: State) -> str | None:
        """See `Algorithm`."""
        if state.phase != DONE:
            return None
        if isinstance(guide, Delta):
            assert state.modes is not None
            return "converged" if state.modes.candidates[0].polished.converged else "budget"
        return status_of(best_fit(state))

    def finish(self, problem: Problem, guide: Guide, state: State, status: str) -> Solution:
        """See `Algorithm`; an interrupted run gives the best Gaussian met so far."""
        d = problem.dim
        if state.fits:
            fitted = best_fit(state)
            mean, factor, point = fitted.state.mean, fitted.state.factor, fitted.state.point
        elif state.modes is not None:
            first = state.modes.candidates[0]
            delta = isinstance(guide, Delta)
            whole = first.polished.mean if delta else first.point
            mean, factor, point = whole[:d], first.factor, whole[d:]
        elif state.starts is not None:
            k = int(np.argmax(state.starts.elbos))
            mean, factor, point = state.starts.points[k, :d], state.starts.factors[k], state.starts.points[k, d:]
        else:
            mean, factor, point = np.zeros(d), np.eye(d), np.zeros(problem.num_params)
        return Solution(
            guide=guide,
            params=gaussian_params(guide, mean, factor),
            model_params=point,
            status=status,
            history=history_of(state),
            gap=(best_fit(state).gap, best_fit(state).fresh.elbo_se) if state.fits else None,
            modes=mode_counts(state, self.starts),
            flat=flat_names(problem, state) or self._escapes(problem, state, status),
        )

    def _escapes(self, problem: Problem, state: State, status: str) -> tuple[str, ...]:
        """Where a run went that found no rest: latents along which the density does not fall from the best point."""
        if state.modes is None or status == "interrupted":
            return ()
        best = state.modes.candidates[0].polished
        rested = best.converged and (not state.fits or bool(np.isfinite(best_fit(state).fresh.elbo)))
        d = problem.dim
        if (rested and status == "converged") or d > _MOST_AXES or not np.isfinite(best.log_p):
            return ()
        lengths, _ = restrained(evaluator(problem, state.centredness), best.mean, best.log_p, np.eye(d), 1.0)
        # A climb that carried a scale to e^-25 found a density without bound, however steep it is beside the spike.
        bounded = np.concatenate([np.full(v.size, v.support != "real") for v in problem.latents.values()])
        lost = (lengths == 0) | (bounded & (np.abs(best.mean[:d]) > _BOUNDARY))
        return tuple(name for name in problem.latents if lost[problem.layout[name]].any())


def evaluator(problem: Problem, centredness: np.ndarray) -> Evaluate:
    """The problem's kernel in one set of coordinates."""
    kernel = problem.kernel()
    return lambda points: kernel(points, centredness)


def fit_candidate(
    evaluate: Evaluate,
    problem: Problem,
    guide: Guide,
    candidate: Candidate,
    rng: np.random.Generator,
    *,
    levels: int,
    steps: int,
    first: int = 0,
) -> Climb:
    """The fixed-draw fit of one mode, in the family that the guide asks for."""
    d = problem.dim
    mean, point = candidate.point[:d], candidate.point[d:]
    scale = curvature_scale(evaluate, candidate.point, len(point)) if len(point) else None
    common: dict[str, Any] = {
        "point": point if len(point) else None,
        "params_scale": scale,
        "levels": levels,
        "max_steps": steps,
        "first": first,
    }
    if isinstance(guide, MeanField):
        return climb(
            evaluate,
            mean,
            mean_field_scales(candidate.factor),
            rng,
            location=candidate.factor,
            draw=mean_field_draws,
            **common,
        )
    return climb(evaluate, mean, candidate.factor, rng, draw=level_draws, **common)


def gaussian_params(guide: Guide, mean: np.ndarray, factor: np.ndarray) -> dict[str, Any]:
    """Guide parameters from a mean and a factor (a triangle, or standard deviations)."""
    if isinstance(guide, Delta):
        return {"loc": mean}
    if isinstance(guide, MeanField):
        scale = factor if factor.ndim == 1 else mean_field_scales(factor)
        return {"loc": mean, "log_scale": np.log(scale)}
    return FullRank.from_moments(mean, factor)


def best_fit(state: State) -> Climb:
    """The fit of highest fresh-draw ELBO."""
    return max(state.fits, key=lambda f: f.fresh.elbo)


def status_of(fitted: Climb) -> str:
    """A fit's status in the words of `Solution`."""
    return "converged" if fitted.state.status in ("converged", "stalled") else fitted.state.status


def comparable(fits: tuple[Climb, ...]) -> list[int]:
    """Fits whose mode may hold a share of the mass that counts, best first."""
    order = sorted(range(len(fits)), key=lambda k: -fits[k].fresh.elbo)
    return [k for k in order if fits[k].fresh.elbo >= fits[order[0]].fresh.elbo - COMPARABLE]


def mode_counts(state: State, starts: int) -> tuple[int, int, int] | None:
    """Comparable modes, starts that reached the best of them, starts."""
    if state.modes is None:
        return None
    keep = comparable(state.fits) if state.fits else [0]
    made = starts if state.starts is None else len(state.starts.points)
    return len(keep), state.modes.candidates[keep[0]].reached, made


def history_of(state: State) -> tuple[Progress, ...]:
    """The objective along the best fit, against gradients."""
    if not state.fits:
        return ()
    fitted = best_fit(state)
    before = state.gradients - fitted.gradients
    return tuple(Progress(i.kind, before + i.gradients, i.elbo, i.elbo_se) for i in fitted.infos)


def flat_names(problem: Problem, state: State) -> tuple[str, ...]:
    """The latents along which the density at the best mode does not fall."""
    if state.modes is None or state.modes.candidates[0].polished.flat is None:
        return ()
    direction = np.abs(state.modes.candidates[0].polished.flat)
    heavy = direction > 0.1 * direction.max()
    return tuple(name for name in problem.latents if heavy[problem.layout[name]].any())


def impossible_start(problem: Problem, point: np.ndarray, centredness: np.ndarray, starts: int) -> TautError:
    """The error for a density that is zero or undefined wherever it was tried, naming the sites."""
    (terms,) = problem.kernel().outputs(("density",), point[None], centredness)
    (values,) = problem.kernel().outputs(("value",), point[None], centredness)
    bad = [name for name, term in terms.items() if not np.isfinite(term[0])]
    site = problem.program.sites[bad[0]] if bad else None
    tried = ", ".join(f"{n} = {np.asarray(v[0]).ravel()[0]:.4g}" for n, v in values.items() if n in problem.latents)
    return TautError(
        "impossible-start",
        site=bad[0] if bad else None,
        source=site.source if site else None,
        found=f"log density {terms[bad[0]][0]} of {bad[0]!r} at each of {starts} starts, the last at {tried}"
        if bad
        else f"a gradient that is not finite at each of {starts} starts, the last at {tried}",
        expected="a finite log density somewhere near the start",
        remedy="check that the observed values can occur under the prior: their support, their units, and logarithms "
        "or roots of values that may be zero or negative",
    )
