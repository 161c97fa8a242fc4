"""The deterministic algorithm for every guide of noise: fixed noise, quasi-Newton steps in the guide's own metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import minimize

from taut._draws import orthogonal_antithetic, paired_standard_error, pool
from taut._errors import TautError
from taut._keys import generator
from taut._precision import scope
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._deterministic import evaluator, impossible_start
from taut.algorithms._failures import check_pair
from taut.algorithms._fixed_draws import curvature_scale
from taut.algorithms._large_starts import explore_large
from taut.algorithms._levels import FRESH_ROWS, OVERFIT
from taut.algorithms._modes import find_modes
from taut.algorithms._noise_fit import NoiseFit, information_metric
from taut.algorithms._starts import DENSE_LIMIT, explore, given_starts
from taut.gradients import Pathwise
from taut.guides import Guide, NoiseGuide, bind, with_model
from taut.problem import Problem, compilations

EXPLORE, FIT, DONE = 0, 1, 2

MOST_LATENTS = 2000  # past which fits to fixed noise, at two draws a latent and more, take longer than `SVI`

# Draws of the first level per number of noise, and at least; each level has four times as many.
_PER_DIM, _LEAST = 2, 256
_ROUNDS = 4  # of L-BFGS, each in the metric of where the last one ended
_ROOT_STEPS = 60
_REACH = 0.5  # of one of them, in units of the metric
_NOISE_CAP = 0.2
_LOOKS, _SHRINKS = 256, (1.0, 0.3, 0.1, 0.01)  # draws of a first member, and how much narrower it may be made
_DIFFERENCE = {"float64": 1e-3, "float32": 3e-2}
_TOLERANCE = {"float64": 1e-8, "float32": 1e-3}


class NoiseState(NamedTuple):
    """Where a run stands.

    Attributes:
        key: the run's key.
        phase: `EXPLORE`, `FIT` or `DONE`.
        level: of the next fit.
        names, params: the guide's parameters; ``params`` is empty before the first phase has ended.
        point, units: the model's own parameters on the real line, and the size of a step of theirs.
        elbo, se: of the last test on fresh draws, nats.
        gap: what the fixed draws promised beyond it.
        modes: what the climbs said; `Solution.modes`.
        status: of the last fit.
        gradients: evaluations so far.
    """

    key: Any
    phase: int
    level: int
    params: dict[str, np.ndarray]
    point: np.ndarray
    units: np.ndarray
    elbo: float
    se: float
    gap: float
    modes: tuple[int, int, int] | None
    status: str
    gradients: int


@dataclass(frozen=True)
class FixedNoise(Algorithm):
    r"""Maximise the ELBO of any `NoiseGuide` over fixed noise: no step size, no gradient noise, a definite end.

    $$\max_\phi \; \frac1M \sum_{i=1}^M \log p(x, g(\epsilon_i; \phi)) - \log q_\phi(g(\epsilon_i; \phi))$$

    with orthogonal, antithetic $\epsilon$ whose first two moments are exact, by L-BFGS in coordinates in which the
    guide's Fisher information is the identity. Then, from that optimum, quasi-Newton steps to the root of

    $$\frac1M \sum_i \big(\partial_\phi\, g(\epsilon_i; \phi)\big)^{\!\top} \nabla_z \log(p / q_\phi) = 0,$$

    the same condition without the score, whose mean is zero: where the posterior is a member of the family every term
    vanishes there, so that it is found to rounding, whatever the draws. The number of draws grows while fresh ones show
    that the fit has learnt its own.

    Args:
        starts: independent climbs to a first Gaussian, near which the guide begins.
        levels: how often the number of draws may grow, by four each time.
        steps: most L-BFGS steps of each level.

    Raises:
        TautError: ``bad-combination`` for guides that are no `NoiseGuide`, ``impossible-start``.

    Source: Giordano, Ingram, Broderick (2024), Black box variational inference with a deterministic objective, for
    fixed draws; Roeder, Wu, Duvenaud (2017), Sticking the landing, for the gradient without its score.

    Example:
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> problem = taut.Problem(model, dict(y=10.0))
        >>> solution = taut.algorithms.Run()(taut.algorithms.FixedNoise(), problem, taut.guides.BlockDense(), 0)
        >>> solution.status, round(float(solution.params["loc"][0]), 6)
        ('converged', 8.0)
    """

    starts: int = 8
    levels: int = 3
    steps: int = 500

    @staticmethod
    def suits(problem: Problem, guide: Guide) -> bool:
        """Whether it is the algorithm of choice: for families near a Gaussian, and not too many latents."""
        near = isinstance(guide, NoiseGuide) and type(guide).from_gaussian is not NoiseGuide.from_gaussian
        return near and problem.dim <= MOST_LATENTS

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> NoiseState:
        """See `Algorithm`."""
        guide = bind(guide, problem)
        _noise_guide(guide)
        check_pair(problem, guide, Pathwise())
        return NoiseState(key, EXPLORE, 0, {}, np.zeros(0), np.zeros(0), -np.inf, np.inf, np.nan, None, "budget", 0)

    def step(self, problem: Problem, guide: Guide, state: NoiseState) -> tuple[NoiseState, Progress]:
        """All climbs, or the fit of one level and its test on fresh draws."""
        guide = _noise_guide(bind(guide, problem))
        if state.phase == EXPLORE:
            return self._explore(problem, guide, state)
        rng = generator(state.key, 10 + state.level)
        before = compilations()
        with scope(problem.precision):
            state = self._fit(problem, guide, state, rng)
        problem.kernel().compilations += compilations() - before
        return state, Progress("fit", state.gradients, state.elbo, state.se)

    def terminate(self, problem: Problem, guide: Guide, state: NoiseState) -> str | None:
        """See `Algorithm`."""
        return state.status if state.phase == DONE else None

    def finish(self, problem: Problem, guide: Guide, state: NoiseState, status: str) -> Solution:
        """See `Algorithm`; an interrupted run gives the member that it began from, or its last level."""
        guide = bind(guide, problem)
        params = state.params or {n: np.asarray(v, float) for n, v in guide.init(problem, state.key).items()}
        point = state.point if state.phase != EXPLORE else np.zeros(problem.num_params)
        gap = (state.gap, state.se) if np.isfinite(state.elbo) else None
        return Solution(guide, with_model(guide, params, point), point, status, gap=gap, modes=state.modes)

    def _explore(self, problem: Problem, guide: NoiseGuide, state: NoiseState) -> tuple[NoiseState, Progress]:
        rng = generator(state.key, 0)
        centredness = _centredness(problem, guide)
        evaluate, d, p = evaluator(problem, centredness), problem.dim, problem.num_params
        given = given_starts(problem, guide, centredness, rng, self.starts)
        if d + p <= DENSE_LIMIT:
            starts = explore(evaluate, d + p, rng, starts=self.starts, params=p, given=given)
            if starts.never_finite == len(starts.points):
                raise impossible_start(problem, starts.points[0], centredness, self.starts)
            modes = find_modes(evaluate, starts, rng)
            best = modes.candidates[0]
            loc, factor, score = best.point, best.factor, best.elbo
            counts = (1, best.reached, len(starts.points))
            gradients = starts.gradients + modes.gradients
        else:
            found = explore_large(
                evaluate,
                d + p,
                rng,
                self.starts,
                params=p,
                difference=_DIFFERENCE[problem.precision],
                given=given,
            )
            if found.never_finite == found.starts:
                raise impossible_start(problem, found.point, centredness, self.starts)
            loc, factor, score = found.point, found.scale, found.elbo
            counts, gradients = (1 + found.others, found.reached, found.starts), found.gradients
        units = curvature_scale(evaluate, loc, p) if p else np.zeros(0)
        params = self._near(problem, guide, state.key, loc, factor, units)
        state = state._replace(phase=FIT, params=params, point=loc[d:], units=units, modes=counts, gradients=gradients)
        return state, Progress("starts", gradients, score, np.inf)

    def _near(
        self, problem: Problem, guide: NoiseGuide, key: Any, loc: np.ndarray, factor: np.ndarray, units: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The member to begin from: near a Gaussian, narrower where its draws meet a density of zero."""
        d, noise = problem.dim, pool(_LOOKS, guide.noise_size(problem.program), generator(key, 1))
        for shrink in _SHRINKS:
            params = guide.from_gaussian(problem, loc[:d], shrink * factor)
            if params is None:
                break
            params = {name: np.asarray(value, float) for name, value in params.items()}
            with scope(problem.precision):
                fitted = NoiseFit(problem, guide, params, loc[d:], units)
                if np.isfinite(fitted.log_weights(fitted.start, noise)).all():
                    return params
        return {name: np.asarray(value, float) for name, value in guide.init(problem, key).items()}

    def _fit(self, problem: Problem, guide: NoiseGuide, state: NoiseState, rng: np.random.Generator) -> NoiseState:
        size = guide.noise_size(problem.program)
        rows = max(_PER_DIM * size, _LEAST) * 4**state.level
        fitted = NoiseFit(problem, guide, state.params, state.point, state.units)
        noise = orthogonal_antithetic(rows, size, rng, radii="stratified")
        x, status = _climbed(fitted, noise, self.steps)
        x = _rooted(fitted, noise, x) if guide.evaluable and status != "nonfinite" else x
        elbo = fitted.log_weights(x, noise)
        fresh = fitted.log_weights(x, pool(FRESH_ROWS, size, rng))
        gap, se = float(elbo.mean() - fresh.mean()), paired_standard_error(fresh)
        enough = np.isfinite(gap) and gap <= OVERFIT + min(2 * se, _NOISE_CAP)
        over = enough or state.level + 1 >= self.levels or not np.isfinite(elbo.mean())
        params, point = fitted.parts(x)
        problem.kernel().gradients += fitted.gradients
        return state._replace(
            phase=DONE if over else FIT,
            level=state.level + 1,
            params=params,
            point=point,
            elbo=float(fresh.mean()),
            se=se,
            gap=gap,
            status=status if np.isfinite(elbo.mean()) else "nonfinite",
            gradients=state.gradients + fitted.gradients,
        )


def _climbed(fitted: NoiseFit, noise: np.ndarray, steps: int) -> tuple[np.ndarray, str]:
    """The optimum of the fixed-noise ELBO by L-BFGS, and how it ended."""
    x, status, left = fitted.start, "budget", steps
    first, _ = fitted.value_and_grad(x, noise)
    if not np.isfinite(first):
        return x, "nonfinite"
    for _ in range(_ROUNDS):
        towards = information_metric(fitted, noise, x)
        base = x

        def loss(a: np.ndarray, base: np.ndarray = base, towards: Any = towards) -> tuple[float, np.ndarray]:
            value, slope = fitted.value_and_grad(base + towards(a, False), noise)
            if np.isfinite(value) and np.isfinite(slope).all():
                return -value, -towards(slope, True)
            return 1e10 * (1 + abs(first)), np.zeros_like(a)

        # A few steps show whether the metric of the start is that of the end; then it is taken anew.
        tolerance = _TOLERANCE[fitted.problem.precision]
        options = {"maxiter": min(left, max(30, steps // _ROUNDS)), "ftol": 1e-16, "gtol": tolerance, "maxcor": 20}
        found = minimize(loss, np.zeros_like(x), jac=True, method="L-BFGS-B", options=options)
        if not found.nit and status == "converged":
            # No step improves what a round has brought to rest: a new metric may only magnify the rounding.
            break
        x = base + towards(found.x, False)
        left -= found.nit
        promise = 0.5 * float(np.dot(found.jac, found.jac))
        # Nats: what a Newton step would still gain. Rounding may stop the line search first.
        status = "converged" if promise < 1e-3 else "budget"
        if promise < 1e-14 or left <= 0 or (found.nit < 3 and status == "converged"):
            break
    return x, status


def _rooted(fitted: NoiseFit, noise: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The root of the gradient without score next to an optimum, by Broyden's steps in the guide's metric.

    Where the steps do not lead there, or lead to a lower ELBO than the draws' noise explains, the optimum stays.
    """
    towards = information_metric(fitted, noise, x)

    def residual(x: np.ndarray) -> np.ndarray:
        return towards(fitted.value_and_grad(x, noise, landing=True)[1], True)

    start, at, r = x, x, residual(x)
    size = first = float(np.linalg.norm(r))
    s_list: list[np.ndarray] = []
    u_list: list[np.ndarray] = []
    for _ in range(_ROOT_STEPS):
        if not np.isfinite(size) or size < 1e-10:
            break
        # Broyden's second update of the inverse Jacobian, which begins as -1: the metric is the curvature at the end.
        step = r.copy()
        for s, u in zip(s_list, u_list, strict=True):
            step += s * (u @ r)
        step *= min(1.0, _REACH / float(np.linalg.norm(step)))
        new = at + towards(step, False)
        after = residual(new)
        y = after - r
        if not np.isfinite(after).all() or np.linalg.norm(after) > 2 * size or not y @ y > 0:
            break
        applied = y.copy()
        for s, u in zip(s_list, u_list, strict=True):
            applied += s * (u @ y)
        # H+ = H + (s - H y) y' / y'y for the inverse Jacobian H, of which -H is kept.
        s_list.append(-(step + applied))
        u_list.append(y / (y @ y))
        at, r, size = new, after, float(np.linalg.norm(after))
    if not size < max(1e-3 * first, 1e-8):
        return start
    gain = fitted.log_weights(at, noise) - fitted.log_weights(start, noise)
    return at if np.isfinite(gain).all() and gain.mean() > -OVERFIT else start


def _noise_guide(guide: Guide) -> NoiseGuide:
    if isinstance(guide, NoiseGuide):
        return guide
    raise TautError(
        "bad-combination",
        found=f"FixedNoise with {type(guide).__name__}",
        expected="a guide whose draws are a smooth function of standard normal noise",
        remedy="algorithm=taut.algorithms.SVI()",
    )


def _centredness(problem: Problem, guide: Guide) -> np.ndarray:
    lam = getattr(guide, "centredness", 1.0)
    return np.asarray(lam, float) if isinstance(lam, tuple) else problem.centredness(lam)
