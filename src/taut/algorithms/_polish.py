"""The mode, for certain: saddle-free Newton steps with a Hessian from differences of gradients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taut.algorithms._starts import Evaluate, triangular

STEP_LENGTHS = np.array([1.0, 2.0, 4.0, 0.5, 0.25, 0.1, 0.03, 0.01])
_GROWTH = 1e-6  # smallest curvature, in the local frame, that a step and a frame may divide by
_FLAT = 1e-5  # below this curvature, after growing the frame, a direction is called flat
_LOOKS = 4  # at directions that seem flat, each with a frame a thousand times longer
_ROUNDING = 1e3 * np.finfo(float).eps
_REACHES = np.geomspace(1e-6, 1e8, 57)  # in units of the first frame: how far a fall of the density is looked for
_FALL = 10.0  # nats on both sides that show a direction to be restrained, curved or not


class Polished(NamedTuple):
    """A mode and the Gaussian there.

    mean: ``(dim,)``. factor: ``(D, D)`` lower triangular, ``factor factor' = |H|^-1`` for the negative Hessian H.
    log_p: at ``mean``, nats. log_evidence: Laplace, ``log p + D/2 log 2 pi + log det factor``, nats.
    decrement: ``g'|H|^-1 g / 2``, nats, where the Hessian was last taken. converged: it is below the tolerance, no
    curvature is negative and no direction is flat. curvature: smallest eigenvalue of H in the local frame (1 means
    as the frame predicts). flat: unit vector ``(D,)`` along which the density does not fall, or None.
    """

    mean: np.ndarray
    factor: np.ndarray
    log_p: float
    log_evidence: float
    decrement: float
    converged: bool
    curvature: float
    flat: np.ndarray | None
    steps: int
    gradients: int


def _hessian(
    evaluate: Evaluate, x: np.ndarray, frame: np.ndarray, difference: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Negative Hessian in ``frame`` by central differences; columns never finite on both sides are marked."""
    d = len(frame)
    h = np.full(d, difference)
    change = np.zeros((d, d))
    todo = np.arange(d)
    used = 0
    for _ in range(4):
        rows = np.repeat(x[None], 2 * len(todo), axis=0)
        offsets = (frame[:, todo] * h[todo]).T
        rows[: len(todo), :d] += offsets
        rows[len(todo) :, :d] -= offsets
        log_p, grad = evaluate(rows)
        used += len(rows)
        up, down = grad[: len(todo), :d], grad[len(todo) :, :d]
        finite = np.isfinite(log_p).reshape(2, -1).all(0)
        change[:, todo[finite]] = (frame.T @ (down - up)[finite].T) / (2 * h[todo[finite]])
        todo = todo[~finite]
        if not len(todo):
            break
        h[todo] *= 0.03
    change[todo, :], change[:, todo] = 0.0, 0.0
    change[todo, todo] = 1.0  # nothing learnt: keep the frame's own length
    return 0.5 * (change + change.T), todo, used


def _rounding(h: np.ndarray, frame: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    r"""Curvature that rounding alone can show along an eigenvector ``b``: :math:`10^3\epsilon\sum_i\Lambda_{ii}b_i^2`.

    ``Lambda_ii`` is the conditional precision of coordinate i: a gradient that should cancel along ``b`` is a sum of
    terms ``Lambda_ii b_i``. Independent of the units of the coordinates.
    """
    inverse = np.linalg.inv(frame)
    precision = np.einsum("ki,kl,li->i", inverse, h, inverse, optimize=True)
    return _ROUNDING * (np.abs(precision) @ (frame @ vectors) ** 2)


def restrained(
    evaluate: Evaluate, x: np.ndarray, value: float, directions: np.ndarray, unit: float
) -> tuple[np.ndarray, int]:
    """How long each direction ``(D, n)`` is if the density falls along it both ways, 0 if it does not; gradients used.

    A tail may fall without any curvature: that of a Laplace distribution does. The length is where half a nat is lost,
    as at one sd of a normal, geometric mean of both sides.
    """
    d, n = directions.shape
    reach = np.concatenate([-_REACHES, _REACHES]) * unit
    rows = np.repeat(x[None], n * len(reach), axis=0)
    rows[:, :d] += (directions.T[:, None] * reach[:, None]).reshape(-1, d)
    with np.errstate(over="ignore", invalid="ignore"):
        log_p, _ = evaluate(rows)
    found = np.where(np.isfinite(log_p), log_p, -np.inf).reshape(n, 2, -1)
    lost = np.maximum(found.max((1, 2), keepdims=True), value) - found
    # -inf is a bound of the support, or an overflow far out where the last finite values already tell.
    falls = (lost.max(2) > _FALL).all(1) & (lost[:, :, -1] > _FALL).all(1)
    first = np.abs(reach[len(_REACHES) :])[np.argmax(lost > 0.5, axis=2)]
    return np.where(falls, np.sqrt(first.prod(1)), 0.0), len(rows)


def polish(
    evaluate: Evaluate,
    start: np.ndarray,
    factor: np.ndarray,
    *,
    tolerance: float = 1e-3,
    max_steps: int = 12,
    difference: float = 1e-3,
) -> Polished:
    r"""Newton's method that saddles do not attract, in coordinates whitened by the last Hessian.

    In the frame ``B`` (at first the factor given), with :math:`\Lambda, V` the eigenvalues and vectors of
    :math:`B^\top(-\nabla^2\log p)B` and :math:`c = V^\top B^\top\nabla\log p`,

    .. math:: x \leftarrow x + t\,B V |\Lambda|^{-1} c,\qquad B \leftarrow B V |\Lambda|^{-1/2},\qquad
              \delta = \tfrac12 c^\top|\Lambda|^{-1}c .

    Columns of the Hessian are central differences of gradients along those of ``B`` (one call of 2D rows), eight
    lengths ``t`` are tried in one call, and the best is taken. It ends when the decrement :math:`\delta` is under the
    tolerance, after one more Newton step. A quasi-Newton climb may stop far from the mode along soft
    directions, where its inverse Hessian is still small; the frame here grows by up to a thousand per step there.
    A direction whose curvature stays zero however long the frame grows is looked along: where the density falls by ten
    nats both ways it is only straight, as the logarithm of a Laplace density is; otherwise it is flat, and the
    posterior improper.

    Args:
        evaluate: rows ``(n, dim)`` to ``(log_p, gradients)``.
        start: point ``(dim,)``; coordinates past the factor's stay as they are.
        factor: any square root of a guess of the covariance, ``(D, D)``.
        tolerance: nats.
        max_steps: most Newton steps.
        difference: half-width of the differences, in units of the frame.

    Returns:
        `Polished`.

    Source: Dauphin et al. (2014), "Identifying and attacking the saddle point problem", for the absolute eigenvalues.

    Example:
        >>> f = lambda z: (-0.5 * (z**2).sum(1), -z)
        >>> p = polish(f, np.ones(2), 0.3 * np.eye(2))
        >>> bool(np.allclose(p.mean, 0)), bool(np.isclose(p.log_evidence, np.log(2 * np.pi)))
        (True, True)
    """
    x = np.array(start, dtype=float)
    frame = np.array(factor, dtype=float)
    d = len(frame)
    unit = float(np.median(np.linalg.norm(frame, axis=1)))
    if not abs(np.linalg.slogdet(frame)[0]) > 0:
        frame = np.eye(d)  # a climb into an unbounded density leaves a singular guess
    log_p, grad = evaluate(x[None])
    value, g = float(log_p[0]), np.array(grad[0, :d])
    gradients, steps = 1, 0
    stuck, looks = False, 0
    while True:
        h, unknown, used = _hessian(evaluate, x, frame, difference)
        gradients += used
        eigenvalue, v = np.linalg.eigh(h)
        c = v.T @ (frame.T @ g)
        size = np.maximum(np.abs(eigenvalue), _GROWTH)
        flat = np.abs(eigenvalue) < _FLAT
        lost = np.zeros(d, dtype=bool)
        if np.abs(eigenvalue).min() < 0.1:
            noise = _rounding(h, frame, v)
            lost = (np.abs(eigenvalue) < noise) & (noise > _GROWTH)
            flat |= lost
            size[lost] = 1.0  # no telling how long: leave it
        newton = c / size
        decrement = 0.5 * float(c @ newton)
        direction = frame @ (v @ newton)
        shaped = frame @ (v / np.sqrt(size))
        small = decrement < tolerance
        if not abs(np.linalg.slogdet(shaped)[0]) > 0:
            small = False  # where a density is unbounded the frame shrinks out of the numbers
            break
        frame = shaped
        # A curvature under the floor may be a frame still too short: grow it and look again.
        looks = looks + 1 if small and flat.any() else 0
        if (small and (not flat.any() or lost.any() or looks > _LOOKS)) or steps >= max_steps or stuck:
            break
        steps += 1
        if small:
            continue
        rows = np.repeat(x[None], len(STEP_LENGTHS), axis=0)
        rows[:, :d] += STEP_LENGTHS[:, None] * direction
        log_p, grad = evaluate(rows)
        gradients += len(rows)
        best = int(np.argmax(log_p))
        stuck = not log_p[best] > value
        if not stuck:
            x, value, g = rows[best], float(log_p[best]), np.array(grad[best, :d])

    if small and decrement > 0 and not flat.any():  # the last step costs one gradient and squares the error
        row = x.copy()
        row[:d] += direction
        log_p, _ = evaluate(row[None])
        gradients += 1
        if log_p[0] >= value:
            x, value = row, float(log_p[0])
    along = None
    if flat.any() and np.isfinite(unit) and unit > 0 and np.isfinite(value):
        length = np.linalg.norm(frame[:, flat], axis=0)
        found, used = restrained(evaluate, x, value, frame[:, flat] / length, unit)
        gradients += used
        frame[:, flat] *= np.where(found > 0, found / length, 1.0)
        eigenvalue[flat] = np.where(found > 0, 1.0, eigenvalue[flat])
        flat[flat] = found == 0
    chol = triangular(frame)
    if flat.any():
        along = frame[:, int(np.argmin(np.abs(eigenvalue)))]
        along = along / np.linalg.norm(along)
    evidence = value + 0.5 * d * np.log(2 * np.pi) + float(np.log(np.diagonal(chol)).sum())
    lowest = float(eigenvalue.min())
    converged = bool(small and not flat.any() and lowest > 0 and not len(unknown) and np.isfinite(value))
    return Polished(x, chol, value, evidence, decrement, converged, lowest, along, steps, gradients)
