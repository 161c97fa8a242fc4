r"""Low-rank natural steps: from a mean-field Gaussian to one with the directions that matter, a round at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taut._draws import gaussian_log_density, orthogonal_antithetic, paired_standard_error, pool
from taut.algorithms._levels import Fresh
from taut.algorithms._low_rank_curvature import far_eigenpairs, probed_diagonal
from taut.algorithms._low_rank_shape import Shape, with_diagonal, with_directions
from taut.algorithms._moving_frame import quasi_newton
from taut.algorithms._starts import Evaluate

_HESSIAN_DRAWS = 64  # times two: one block of the kernel for each step of Lanczos
_DRAWS = (512, 2048)  # one for each latent between these: the mean overfits by D / 2M where gradients vary
_FRESH = 1024
_MEAN_STEPS = 20
_MEMORY = 8
_BACKTRACKS = 8
_TOLERANCE = 1e-4  # nats


class Fitted(NamedTuple):
    """A round's Gaussian: shape; point ``(P,)``; elbo on the draws that moved its mean, fresh draws, gradients."""

    shape: Shape
    point: np.ndarray
    elbo: float
    fresh: Fresh
    gradients: int


class _Here(NamedTuple):
    value: float
    gradient: np.ndarray
    shape: Shape
    point: np.ndarray


def value_of(
    evaluate: Evaluate, shape: Shape, point: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws ``m + C u`` beside the point, their log densities and gradients."""
    z = shape.out(u)
    z = np.concatenate([z, np.broadcast_to(point, (len(z), len(point)))], axis=1) if len(point) else z
    log_p, gradient = evaluate(z)
    return z, log_p, gradient


def tested(evaluate: Evaluate, shape: Shape, point: np.ndarray, key: np.random.Generator) -> Fresh:
    """The ELBO on draws that took no part in the fit; generators of one state give paired draws."""
    u = pool(_FRESH, len(shape.mean), key)
    z, log_p, _ = value_of(evaluate, shape, point, u)
    log_q = gaussian_log_density(u, shape.log_det())
    log_w = log_p - log_q
    return Fresh(z, log_p, log_q, float(log_w.mean()), paired_standard_error(log_w))


def centred(
    evaluate: Evaluate, shape: Shape, point: np.ndarray, units: np.ndarray, u: np.ndarray
) -> tuple[Shape, np.ndarray, float, int]:
    r"""The mean (and the model's own parameters) of highest fixed-draw ELBO, at the present spread.

    L-BFGS in the frame $z = m + C(a + u)$, where the expected Hessian is close to the identity.

    Returns:
        Shape, point, the ELBO there in nats, and gradients.
    """
    d, used = len(shape.mean), 0
    constant = shape.log_det() + 0.5 * d * (1.0 + np.log(2 * np.pi))

    def at(x: np.ndarray) -> _Here:
        nonlocal used
        used += len(u)
        moved, there = shape._replace(mean=shape.out(x[:d])), point + units * x[d:]
        _, log_p, g = value_of(evaluate, moved, there, u)
        slope = g.mean(0)
        return _Here(float(log_p.mean()), np.concatenate([-shape.back(slope[:d]), -units * slope[d:]]), moved, there)

    x = np.zeros(d + len(point))
    here = at(x)
    if not np.isfinite(here.value):
        return shape, point, -np.inf, used
    s, y = np.empty((0, len(x))), np.empty((0, len(x)))
    for _ in range(_MEAN_STEPS):
        direction = -quasi_newton(here.gradient, s, y, np.ones(len(x)))
        slope = float(here.gradient @ direction)
        if not -0.5 * slope > _TOLERANCE:
            break
        t = min(1.0, 3.0 * np.sqrt(d) / float(np.linalg.norm(direction)))
        for _ in range(_BACKTRACKS):
            new = at(x + t * direction)
            if new.value >= here.value - 1e-4 * t * slope:
                break
            t *= 0.4
        else:
            break
        step, change = t * direction, new.gradient - here.gradient
        if step @ change > 1e-10 * np.linalg.norm(step) * np.linalg.norm(change):
            s, y = np.concatenate([s[1 - _MEMORY :], step[None]]), np.concatenate([y[1 - _MEMORY :], change[None]])
        x, here = x + step, new
    return here.shape, here.point, here.value + constant, used


def low_rank_round(
    evaluate: Evaluate,
    fitted: Fitted,
    units: np.ndarray,
    rng: np.random.Generator,
    test: np.random.Generator,
    *,
    most: int,
    difference: float,
) -> Fitted:
    r"""One natural step of the whole Gaussian: directions, scales, mean.

    The precision $A = -E_q[S\,\nabla^2\log p\,S]$ is looked at under q: its diagonal by probes, which sets the units S,
    and its far eigenpairs by Lanczos. Two Gaussians come of it, one with these units as scales, one whose scales are
    such that the diagonal still fits after the directions; the one of higher ELBO on common draws has its mean moved.

    Args:
        evaluate: rows ``(n, D + P)`` to ``(log_p, gradients)``.
        fitted: the last round's, or the mean-field fit.
        units: of the model's own parameters, ``(P,)``.
        rng: generator.
        test: generator of the fresh draws.
        most: largest number of directions.
        difference: half-width of differences of gradients, in scales.

    Returns:
        `Fitted`; whether it is better its fresh draws must tell.
    """
    shape, point = fitted.shape, fitted.point
    d = len(shape.mean)
    u = orthogonal_antithetic(int(np.clip(d, *_DRAWS)), d, rng)
    diagonal, used = probed_diagonal(evaluate, shape, point, u, rng, difference)
    # In these units the diagonal is 1: what is left to the directions is correlation.
    scale = shape.scale / np.sqrt(diagonal)
    z = shape.out(orthogonal_antithetic(_HESSIAN_DRAWS, d, rng))
    found = far_eigenpairs(evaluate, z, scale, point, rng, most=most, difference=difference)
    used += found.gradients
    candidates = [make(shape, scale, found.value, found.vector) for make in (with_diagonal, with_directions)]
    scores = []
    for candidate in candidates:
        log_p = value_of(evaluate, candidate, point, u)[1]
        scores.append(float(log_p.mean()) + candidate.log_det())
        used += len(u)
    shape, point, elbo, more = centred(evaluate, candidates[int(np.argmax(scores))], point, units, u)
    fresh = tested(evaluate, shape, point, test)
    return Fitted(shape, point, elbo, fresh, used + more + len(fresh.log_p))


def gain(old: Fresh, new: Fresh) -> tuple[float, float]:
    """Difference of two ELBOs on the same base draws, and its standard error; both nats."""
    change = (new.log_p - new.log_q) - (old.log_p - old.log_q)
    return float(change.mean()), paired_standard_error(change)
