"""One move of many particles at once: Hamiltonian dynamics in lockstep, in frames whitened by the particles."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from taut.algorithms._starts import lower_factor

MOST_LEAPFROGS = 40
_FROZEN = 50.0  # nats of energy error at which a trajectory is given up
_TARGET = 0.8  # acceptance aimed at
_GAIN = 0.7
_ENOUGH = 2.5  # particles for each dimension: a frame made of fewer follows each of them, and moves are no longer exact
_STEPS = (1e-3, 1.4)  # smallest and largest step; beyond 2 / 1.25 a whitened Gaussian is unstable


class Cloud(NamedTuple):
    """Particles with what is known there. z, grad_p, grad_q ``(P, D)``; log_p, log_q ``(P,)``, nats."""

    z: np.ndarray
    log_p: np.ndarray
    grad_p: np.ndarray
    log_q: np.ndarray
    grad_q: np.ndarray

    def take(self, which: np.ndarray) -> Cloud:
        """The particles at these positions."""
        return Cloud(*(part[which] for part in self))

    def where(self, which: np.ndarray, other: Cloud) -> Cloud:
        """The other cloud's particles where ``which``, ``bool[P]``, these elsewhere."""
        column = which[:, None]
        return Cloud(
            *(np.where(column if b.ndim == 2 else which, b, a) for a, b in zip(self, other, strict=True)),
        )

    def tempered(self, beta: float) -> tuple[np.ndarray, np.ndarray]:
        r"""Value and gradient of :math:`\beta\log p + (1 - \beta)\log q`."""
        if beta == 1.0:
            return self.log_p, self.grad_p
        return beta * self.log_p + (1 - beta) * self.log_q, beta * self.grad_p + (1 - beta) * self.grad_q


class Frames(NamedTuple):
    """A linear frame for each group of particles. factors ``(K, D, D)``: ``z = F x``; groups ``(P,)``."""

    factors: np.ndarray
    groups: np.ndarray

    def out(self, x: np.ndarray) -> np.ndarray:
        """``F x`` for each row."""
        return self._each(x, lambda part, f: part @ f.T)

    def back(self, g: np.ndarray) -> np.ndarray:
        """``F' g`` for each row: gradients in the frame."""
        return self._each(g, lambda part, f: part @ f)

    def _each(self, rows: np.ndarray, map_: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        if len(self.factors) == 1:
            return map_(rows, self.factors[0])
        result = np.empty_like(rows)
        for k, factor in enumerate(self.factors):
            mine = self.groups == k
            result[mine] = map_(rows[mine], factor)
        return result


def adapted(factors: np.ndarray, groups: np.ndarray, z: np.ndarray) -> Frames:
    r"""Frames in which the particles of each group are round, as far as their number tells.

    .. math:: F = C\,\operatorname{chol}\big((1 - w)\,\hat\Sigma_x + w I\big),\qquad x = C^{-1}(z - \bar z),\quad
              w = \frac{D}{P + D}

    Args:
        factors: ``C``, the frames to start from, ``(K, D, D)`` lower triangular.
        groups: the frame of each particle, ``(P,)``.
        z: particles ``(P, D)``.

    Returns:
        `Frames`; a group of too few particles keeps its factor.
    """
    found = []
    for k, factor in enumerate(factors):
        mine = z[groups == k]
        d = z.shape[1]
        if len(mine) < max(2, _ENOUGH * d):
            found.append(factor)
            continue
        x = solve_triangular(factor, (mine - mine.mean(0)).T, lower=True, check_finite=False).T
        weight = d / (len(mine) + d)
        spread = (1 - weight) * (x.T @ x) / len(mine) + weight * np.eye(d)
        usable = np.isfinite(spread).all()
        # Particles that run away along an improper direction spread beyond what a plain factorisation can hold.
        found.append(factor @ lower_factor(spread) if usable else factor)
    return Frames(np.stack(found), groups)


def leapfrogs(step: float, trajectory: float) -> int:
    """How many steps make a trajectory."""
    return int(min(MOST_LEAPFROGS, max(1, np.ceil(trajectory / step - 1e-9))))


def hmc(
    evaluate: Callable[[np.ndarray], Cloud],
    cloud: Cloud,
    beta: float,
    frames: Frames,
    step: float,
    trajectory: float,
    rng: np.random.Generator,
) -> tuple[Cloud, np.ndarray]:
    r"""One Hamiltonian move of every particle; leaves :math:`p^\beta q^{1-\beta}` invariant exactly.

    In the frame ``z = F x`` with velocity ``v ~ N(0, I)``, leapfrog steps of length ``step * U(0.5, 1.25)``, one
    length per particle, then accepted with probability :math:`\min(1, e^{H_0 - H_L})`. A particle whose energy ever
    exceeds that of either end by 50 nats stays where it is; the rule reads the same backwards, so it is exact.

    Args:
        evaluate: points ``(P, D)`` to a `Cloud`.
        cloud: the particles.
        beta: inverse temperature in (0, 1].
        frames: linear frames, one for each group of particles.
        step: length of a step in the frame.
        trajectory: length of a trajectory; a quarter period of a standard normal is 1.57.
        rng: generator.

    Returns:
        The particles after the move, and the probability with which each was accepted.

    Source: Neal (2011), MCMC using Hamiltonian dynamics.
    """
    rows, d = cloud.z.shape
    length = (step * rng.uniform(0.5, 1.25, rows))[:, None]
    v = rng.standard_normal((rows, d))
    value, gradient = cloud.tempered(beta)
    start = 0.5 * np.einsum("ij,ij->i", v, v) - value
    highest = start.copy()
    alive = np.isfinite(start)
    here, force = cloud, frames.back(gradient)
    end = start
    for _ in range(leapfrogs(step, trajectory)):
        v = v + 0.5 * length * force
        z = np.where(alive[:, None], here.z + length * frames.out(v), here.z)
        here = evaluate(z)
        value, gradient = here.tempered(beta)
        force = frames.back(gradient)
        v = v + 0.5 * length * force
        end = np.where(np.isfinite(value), 0.5 * np.einsum("ij,ij->i", v, v) - value, np.inf)
        highest = np.maximum(highest, end)
        alive &= highest - start <= _FROZEN
    alive &= highest - end <= _FROZEN
    with np.errstate(invalid="ignore", over="ignore"):
        probability = np.where(alive, np.exp(np.minimum(0.0, start - end)), 0.0)
    accepted = rng.uniform(size=rows) < probability
    return cloud.where(accepted, here), probability


def tuned(step: float, acceptance: float) -> float:
    r"""The next step length: :math:`\log\epsilon \mathrel{+}= 0.7\,(\text{acceptance} - 0.8) / 0.8`."""
    return float(np.clip(step * np.exp(_GAIN * (acceptance - _TARGET) / _TARGET), *_STEPS))


def next_temperature(beta: float, log_ratio: np.ndarray, share: float) -> float:
    r"""The largest inverse temperature at which the weights keep a share of the particles.

    With weights :math:`w = (p/q)^{\beta' - \beta}`, solves :math:`(\sum w)^2 / (n \sum w^2) = ` ``share`` over the n
    particles of positive density.

    Args:
        beta: the present one.
        log_ratio: ``log p - log q``, ``(P,)``; ``-inf`` is a density of zero.
        share: relative effective sample size to keep.

    Returns:
        ``beta'`` in (beta, 1].
    """
    ratio = log_ratio[np.isfinite(log_ratio)]
    if not len(ratio):
        return 1.0
    ratio = ratio - ratio.max()

    def kept(delta: float) -> float:
        w = np.exp(delta * ratio)
        return float(w.sum() ** 2 / (len(w) * (w @ w)))

    low, high = 0.0, 1.0 - beta
    if kept(high) >= share:
        return 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kept(middle) >= share else (low, middle)
    return beta + high


def relative_variance(log_weights: np.ndarray) -> float:
    """Variance of the weights over their squared mean; infinite if all are zero."""
    top = log_weights.max()
    if not np.isfinite(top):
        return np.inf
    w = np.exp(log_weights - top)
    return float(w.var() / w.mean() ** 2)


def resampled(log_weights: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Systematic resampling: each particle appears its expected number of times, rounded.

    Args:
        log_weights: ``(n,)``.
        rng: generator.

    Returns:
        Positions ``(n,)`` and the log of the mean weight, ``-inf`` if all are zero.
    """
    n, top = len(log_weights), log_weights.max()
    if not np.isfinite(top):
        return np.arange(n), -np.inf
    w = np.exp(log_weights - top)
    edges = np.cumsum(w / w.sum())
    which = np.searchsorted(edges, (rng.uniform() + np.arange(n)) / n).clip(0, n - 1)
    return which, float(top + np.log(w.mean()))
