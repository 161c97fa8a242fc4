"""Fixed-draw ELBO of a Gaussian, maximised in the moving frame; state is a value, one step is one accepted move."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from taut._draws import paired_standard_error
from taut.algorithms._moving_frame import (
    clipped_spectrum,
    frame_gradient,
    metric,
    move,
    natural_step,
    quasi_newton,
    spread_size,
)
from taut.algorithms._starts import Evaluate

_MEMORY = 12
_STEP_LIMIT = 1.5
_NATURAL_STEPS = 6
_DAMPING = 0.4
_NATURAL_TRIES = 3
_BACKTRACKS = 12
_SHRINKS = 30

Status = str  # "running", "converged", "budget", "stalled", "nonfinite"


class State(NamedTuple):
    """All that the next step needs. ``D`` latents, ``P`` point-estimated parameters, ``M`` draws, ``n`` frame entries.

    mean ``(D,)``; factor ``(D, D)`` lower triangular for full rank, ``(D,)`` standard deviations for mean field;
    point ``(P,)``; draws ``(M, D)``; location ``(D, D)``: frame of the mean in a mean-field fit (empty: the factor);
    params_scale ``(P,)``; elbo, elbo_se in nats; gradient ``(n,)`` of the loss in the frame; moment: ``mean Gw u'``;
    pairs_s, pairs_y ``(<= 12, n)``; natural_left, rho: of the natural steps; decrement in nats; steps and gradients so
    far; tolerance, max_steps: when to stop; status: "running", "converged" (decrement under the tolerance), "budget"
    (the step cap was hit), "stalled" (no step of the line search improves: the precision is exhausted), "nonfinite".
    """

    mean: np.ndarray
    factor: np.ndarray
    point: np.ndarray
    draws: np.ndarray
    location: np.ndarray
    params_scale: np.ndarray
    elbo: float
    elbo_se: float
    gradient: np.ndarray
    moment: np.ndarray
    pairs_s: np.ndarray
    pairs_y: np.ndarray
    natural_left: int
    rho: float
    decrement: float
    steps: int
    gradients: int
    tolerance: float
    max_steps: int
    status: Status


class Info(NamedTuple):
    """What a reader wants of a step: fixed-draw ELBO and its standard error in nats (how much another set of draws
    would change it), decrement in nats, gradients spent so far, accepted length, and the kind of step:
    "natural", "lbfgs" or "none"."""

    step: int
    elbo: float
    elbo_se: float
    decrement: float
    gradients: int
    length: float
    kind: str


class _Value(NamedTuple):
    elbo: float
    elbo_se: float
    gradient: np.ndarray
    moment: np.ndarray


def entropy(factor: np.ndarray) -> float:
    """Entropy of the Gaussian, nats: ``D/2 (1 + log 2 pi) + log det C``."""
    diagonal = factor if factor.ndim == 1 else np.diagonal(factor)
    return float(np.log(diagonal).sum()) + 0.5 * len(factor) * (1.0 + np.log(2 * np.pi))


def positions(mean: np.ndarray, factor: np.ndarray, point: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Rows ``(M, D + P)``: ``m + C u`` beside the point-estimated parameters."""
    z = mean + (u * factor if factor.ndim == 1 else u @ factor.T)
    return np.concatenate([z, np.broadcast_to(point, (len(u), len(point)))], axis=1) if len(point) else z


def _value(
    evaluate: Evaluate, mean: np.ndarray, factor: np.ndarray, point: np.ndarray,
    u: np.ndarray, location: np.ndarray, params_scale: np.ndarray,
) -> _Value:  # fmt: skip
    log_p, grad = evaluate(positions(mean, factor, point, u))
    elbo = float(np.mean(log_p)) + entropy(factor)
    if not np.isfinite(elbo):
        return _Value(-np.inf, np.inf, np.empty(0), np.empty(0))
    spread = paired_standard_error(log_p + 0.5 * np.einsum("ij,ij->i", u, u))
    gradient, moment = frame_gradient(grad, u, factor, location, params_scale)
    if not np.all(np.isfinite(gradient)):
        return _Value(-np.inf, np.inf, np.empty(0), np.empty(0))
    return _Value(elbo, spread, gradient, moment)


def init(
    evaluate: Evaluate,
    mean: np.ndarray,
    factor: np.ndarray,
    draws: np.ndarray,
    *,
    point: np.ndarray | None = None,
    params_scale: np.ndarray | None = None,
    location: np.ndarray | None = None,
    tolerance: float = 1e-3,
    max_steps: int = 300,
    natural_steps: int = _NATURAL_STEPS,
) -> State:
    """The state before the first step: one evaluation of all draws, more only if some have zero density.

    Where a draw of the first Gaussian has zero density its spread is halved until none has.

    Args:
        evaluate: rows ``(n, D + P)`` to ``(log_p, gradients)``.
        mean: ``(D,)``.
        factor: ``(D, D)`` lower triangular for a full-rank Gaussian; ``(D,)`` standard deviations for mean field.
        draws: ``(M, D)`` from `orthogonal_antithetic`; full rank needs ``M >= 2 D``.
        point: first value of the point-estimated parameters, ``(P,)``.
        params_scale: their units; see `curvature_scale`. Ones by default.
        location: mean field only: a square root of the posterior covariance (the Laplace factor), which whitens the
            steps of the mean. Without it they are measured in the standard deviations.
        tolerance: nats; the fit is over when the decrement is below.
        max_steps: step cap.
        natural_steps: how many natural steps to try before L-BFGS.

    Returns:
        `State`.
    """
    mean, factor = np.array(mean, dtype=float), np.array(factor, dtype=float)
    point = np.zeros(0) if point is None else np.array(point, dtype=float)
    scale = np.ones(len(point)) if params_scale is None else np.asarray(params_scale, dtype=float)
    frame = np.empty((0, 0)) if location is None or factor.ndim == 2 else np.asarray(location, dtype=float)
    gradients = 0
    value = _Value(-np.inf, np.inf, np.empty(0), np.empty(0))
    for _ in range(_SHRINKS):
        value = _value(evaluate, mean, factor, point, draws, frame, scale)
        gradients += len(draws)
        if np.isfinite(value.elbo):
            break
        factor = 0.5 * factor
    finite = bool(np.isfinite(value.elbo))
    empty = np.empty((0, len(value.gradient)))
    # Below 2 D distinct directions the second moment of a full covariance is not determined.
    natural = natural_steps if factor.ndim == 1 or len(draws) >= 2 * len(mean) else 0
    decrement = _decrement(value.gradient, factor, len(point)) if finite else np.inf
    status = "nonfinite" if not finite else "converged" if decrement < tolerance else "running"
    return State(
        mean, factor, point, draws, frame, scale, value.elbo, value.elbo_se, value.gradient, value.moment,
        empty, empty, natural, 1.0, decrement, 0, gradients, tolerance, max_steps, status,
    )  # fmt: skip


def _decrement(
    gradient: np.ndarray, factor: np.ndarray, params: int, s: np.ndarray | None = None, y: np.ndarray | None = None
) -> float:
    """Promise of the next step, nats: the larger of what the metric and the learnt curvature say.

    The metric alone is blind to soft directions (a ridge between a mean and scales), which the pairs have seen.
    """
    p0 = metric(factor, params)
    promise = float(gradient @ (p0 * gradient))
    if s is not None and y is not None and len(s):
        promise = max(promise, float(gradient @ quasi_newton(gradient, s, y, p0)))
    return 0.5 * promise


def finished(state: State) -> bool:
    """Whether the fit is over; ``state.status`` says how."""
    return state.status != "running"


def step(evaluate: Evaluate, state: State) -> tuple[State, Info]:
    r"""One accepted move of the fixed-draw ELBO.

    .. math:: F(m, C) = \tfrac1M\sum_i\log p(m + Cu_i) + \log|C| + \tfrac D2\log 2\pi e

    is maximised in the frame ``z = m + C (a + L u)``, which restarts at ``a = 0, L = I`` after every move: there the
    target looks like N(0, I), so that one metric ``P0`` and one step limit serve all problems. First natural
    (Stein) steps, damped by .4 until ``F`` rises by ``1e-3 g'P0 g``; when these no longer pay, L-BFGS on pairs
    in the frame, with Armijo backtracking and ``|step| <= 1.5``. Over when ``g'P0 g / 2`` is below the tolerance.

    Args:
        evaluate: rows ``(n, D + P)`` to ``(log_p, gradients)``.
        state: from `init` or from the last step; a finished state comes back as it is.

    Returns:
        The next `State` and an `Info`.

    Example:
        >>> from taut._draws import orthogonal_antithetic
        >>> f = lambda z: (-2 * (z**2).sum(1), -4 * z)
        >>> u = orthogonal_antithetic(8, 2, np.random.default_rng(0))
        >>> state = init(f, np.ones(2), np.eye(2), u)
        >>> state, info = step(f, state)
        >>> info.kind, bool(np.allclose(state.factor, 0.5 * np.eye(2)))
        ('natural', True)
    """
    if finished(state):
        return state, _info(state, 0.0, "none")
    if state.natural_left:
        natural, state = _natural(evaluate, state)
        if natural is not None:
            return natural
    return _lbfgs(evaluate, state)


def _info(state: State, length: float, kind: str) -> Info:
    return Info(state.steps, state.elbo, state.elbo_se, state.decrement, state.gradients, length, kind)


def _after(state: State, value: _Value, **changes: object) -> State:
    """The state at an accepted point."""
    new = state._replace(
        elbo=value.elbo, elbo_se=value.elbo_se, gradient=value.gradient, moment=value.moment,
        steps=state.steps + 1, **changes,
    )  # fmt: skip
    decrement = _decrement(new.gradient, new.factor, len(new.point), new.pairs_s, new.pairs_y)
    status = "converged" if decrement < new.tolerance else "budget" if new.steps >= new.max_steps else "running"
    return new._replace(decrement=decrement, status=status)


def _natural(evaluate: Evaluate, state: State) -> tuple[tuple[State, Info] | None, State]:
    spectrum = clipped_spectrum(state.moment)
    rho = state.rho
    for _ in range(_NATURAL_TRIES):
        a, low = natural_step(state.gradient, state.moment, state.factor, rho, spectrum)
        if state.factor.ndim == 1:
            mean = state.mean + (state.location @ a if state.location.size else state.factor * a)
            factor = state.factor * low
        else:
            mean, factor = state.mean + state.factor @ a, np.tril(state.factor @ low)
        value = _value(evaluate, mean, factor, state.point, state.draws, state.location, state.params_scale)
        state = state._replace(gradients=state.gradients + len(state.draws))
        if value.elbo >= state.elbo + 2e-3 * state.decrement:
            before, gain = state.decrement, value.elbo - state.elbo
            state = _after(
                state, value, mean=mean, factor=factor,
                natural_left=state.natural_left - 1, rho=min(1.0, rho / _DAMPING),
            )  # fmt: skip
            # On finite draws Stein's root is not quite that of the fixed-draw ELBO: near it natural steps stop paying.
            if state.decrement > 0.3 * before and gain < before:
                state = state._replace(natural_left=0)
            return (state, _info(state, rho, "natural")), state
        rho *= _DAMPING
    return None, state._replace(natural_left=0)


def _lbfgs(evaluate: Evaluate, state: State) -> tuple[State, Info]:
    g, p0 = state.gradient, metric(state.factor, len(state.point))
    s, y = state.pairs_s, state.pairs_y
    for memory in (True, False) if len(s) else (False,):
        if not memory:
            s, y = s[:0], y[:0]
        direction = -quasi_newton(g, s, y, p0)
        slope = float(g @ direction)
        if not slope < 0:
            continue
        reach = min(1.0, _STEP_LIMIT / float(np.abs(direction).max()))
        t = reach
        for _ in range(_BACKTRACKS):
            move_by = t * direction
            mean, factor, point = move(
                state.mean, state.factor, state.location, state.point, state.params_scale, move_by
            )
            value = _value(evaluate, mean, factor, point, state.draws, state.location, state.params_scale)
            state = state._replace(gradients=state.gradients + len(state.draws))
            if value.elbo >= state.elbo - 1e-4 * t * slope:
                change = value.gradient - g
                if move_by @ change > 1e-10 * np.sqrt((move_by @ move_by) * (change @ change)):
                    s = np.concatenate([s[-(_MEMORY - 1) :], move_by[None]])
                    y = np.concatenate([y[-(_MEMORY - 1) :], change[None]])
                state = _after(state, value, mean=mean, factor=factor, point=point, pairs_s=s, pairs_y=y)
                return state, _info(state, t, "lbfgs")
            fall = state.elbo - value.elbo - t * slope
            best = -0.5 * t * t * slope / fall if np.isfinite(fall) else 0.0
            t = min(max(best, 0.1 * t), 0.5 * t)
    state = state._replace(status="stalled", steps=state.steps + 1)
    return state, _info(state, 0.0, "none")


def maximise(
    evaluate: Evaluate, state: State, callback: Callable[[Info], None] | None = None
) -> tuple[State, list[Info]]:
    """Step until the state is finished.

    Args:
        evaluate: the density.
        state: from `init`, or any state to resume from.
        callback: called with every `Info`.

    Returns:
        The last state, and the infos of the steps taken.
    """
    infos: list[Info] = []
    while not finished(state):
        state, info = step(evaluate, state)
        infos.append(info)
        if callback is not None:
            callback(info)
    return state, infos


def curvature_scale(evaluate: Evaluate, x: np.ndarray, params: int, difference: float = 1e-3) -> np.ndarray:
    r"""Units for point-estimated parameters: :math:`|\partial^2\log p/\partial\theta_j^2|^{-1/2}` at ``x``, ``(P,)``.

    Taken by central differences in one call of 2 P rows; kept within [1e-4, 1e4], and 1 where unknown.
    """
    d = len(x) - params
    rows = np.repeat(np.asarray(x, dtype=float)[None], 2 * params, axis=0)
    index = np.arange(params)
    rows[index, d + index] += difference
    rows[params + index, d + index] -= difference
    log_p, grad = evaluate(rows)
    curvature = np.abs(grad[index, d + index] - grad[params + index, d + index]) / (2 * difference)
    known = np.isfinite(log_p).reshape(2, -1).all(0) & (curvature > 0)
    return np.where(known, np.clip(np.where(known, curvature, 1.0), 1e-8, 1e8) ** -0.5, 1.0)


def sizes(state: State) -> tuple[int, int, int]:
    """``(D, P, number of frame entries)`` of a state."""
    d, p = len(state.mean), len(state.point)
    return d, p, d + spread_size(state.factor) + p
