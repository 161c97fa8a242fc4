r"""The expected Hessian of many latents, never formed: its diagonal by probes, its far eigenpairs by Lanczos."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taut.algorithms._low_rank_shape import Shape
from taut.algorithms._starts import Evaluate

WORTH = 1e-3  # nats that a direction must bring: an eigenvalue off 1 by about 4 %
_CHECK = 10  # Lanczos steps between looks at what has settled
_SETTLED = 0.01  # of the nats that all directions bring
_SPARE = 30


class Directions(NamedTuple):
    """value ``(r,)`` and vector ``(D, r)``: Ritz pairs of the precision in units of the scales; gradients used."""

    value: np.ndarray
    vector: np.ndarray
    gradients: int


def worth(value: np.ndarray) -> np.ndarray:
    r"""Nats that a direction of precision $\lambda$ instead of 1 brings: $(\lambda - 1 - \log\lambda)/2$."""
    value = np.maximum(value, 1e-8)
    return 0.5 * (value - 1.0 - np.log(value))


def probed_diagonal(
    evaluate: Evaluate,
    shape: Shape,
    point: np.ndarray,
    u: np.ndarray,
    rng: np.random.Generator,
    difference: float,
    limit: float = 4.0,
) -> tuple[np.ndarray, int]:
    r"""Diagonal of $A = -E_q[S\,\nabla^2\log p\,S]$, from one random sign vector at each draw.

    With $w$ of independent signs, $E[w \odot Aw] = \mathrm{diag} A$, and what q itself would give is known exactly:

    $$\widehat{A}_{jj} = (R^{-2})_{jj} + \tfrac1M\sum_i w_{ij}\,\big((A_i - R^{-2})w_i\big)_j,$$

    so that the noise is of the part that q does not yet explain.

    Args:
        evaluate: rows ``(n, D + P)`` to ``(log_p, gradients)``.
        shape: q.
        point: the model's own parameters, ``(P,)``.
        u: base draws ``(M, D)``.
        rng: generator of the signs.
        difference: half-width, in scales.
        limit: largest factor by which the result may differ from what q gives; a probe may be far off for a latent that
            is strongly tied to many.

    Returns:
        ``(D,)``, positive, and the number of gradients.
    """
    d = u.shape[1]
    w = rng.choice([-1.0, 1.0], size=u.shape)
    change, finite = _difference(evaluate, shape.out(u), w * shape.scale, point, difference)
    if not finite.any():
        return shape.inner_precision(), 2 * len(u)
    excess = w * (change[:, :d] * shape.scale - shape.rotate(w, -2.0))
    known = shape.inner_precision()
    return np.clip(np.abs(known + excess[finite].mean(0)), known / limit, known * limit), 2 * len(u)


def far_eigenpairs(
    evaluate: Evaluate,
    z: np.ndarray,
    scale: np.ndarray,
    point: np.ndarray,
    rng: np.random.Generator,
    *,
    most: int,
    difference: float = 1e-3,
) -> Directions:
    r"""Directions in which $A = -E_q[S\,\nabla^2\log p\,S]$ differs most from 1.

    Lanczos with full reorthogonalisation on $v \mapsto Av$, each product one difference of averaged gradients along
    $v$ at the same draws of q. Rayleigh and Ritz make every pair exact for what it says, $V^\top A V =
    \mathrm{diag}\,\lambda$, settled or not. It goes on until the nats that the directions bring have settled, and
    keeps those that bring `WORTH`, at most ``most``.

    Args:
        evaluate: rows ``(n, D + P)`` to ``(log_p, gradients)``.
        z: draws of q ``(M, D)``, where the Hessian is averaged.
        scale: the units ``(D,)``; best those in which A has the diagonal 1.
        point: the model's own parameters, ``(P,)``.
        rng: generator of the first vector.
        most: largest number of directions.
        difference: half-width, in scales.

    Returns:
        `Directions`.

    Source: Golub and Van Loan (2013), Matrix Computations, chapter 10.
    """
    d = len(scale)
    # A unit vector moves each of many latents little: go as far as single probes do, within a tenth of a scale.
    reach = min(difference * np.sqrt(d), 0.1)
    steps = min(d, 2 * most + _SPARE)
    q = np.empty((steps + 1, d))
    q[0] = rng.standard_normal(d)
    q[0] /= np.linalg.norm(q[0])
    alpha, beta = np.empty(steps), np.zeros(steps)
    brought, used, k = -1.0, 0, 0
    value, turn = np.empty(0), np.empty((0, 0))
    for k in range(1, steps + 1):
        v = q[k - 1]
        change, finite = _difference(evaluate, z, np.broadcast_to(v * scale, z.shape), point, reach)
        used += 2 * len(z)
        if not finite.any():
            k -= 1
            break
        product = change[finite, :d].mean(0) * scale
        alpha[k - 1] = v @ product
        left = product - q[:k].T @ (q[:k] @ product)
        left -= q[:k].T @ (q[:k] @ left)  # twice is enough
        beta[k - 1] = np.linalg.norm(left)
        last = k == steps or beta[k - 1] < 1e-10
        if k % _CHECK == 0 or last:
            value, turn = _ritz(alpha[:k], beta[: k - 1])
            gain = float(np.sort(worth(value))[::-1][:most].sum())
            if last or gain - brought < max(_SETTLED * gain, WORTH):
                break
            brought = gain
        q[k] = left / beta[k - 1]
    if k < 1:
        return Directions(np.empty(0), np.empty((d, 0)), used)
    if len(value) != k:
        value, turn = _ritz(alpha[:k], beta[: k - 1])
    gain = worth(value)
    keep = [i for i in np.argsort(-gain)[:most] if gain[i] > WORTH]
    vector = q[:k].T @ turn[:, keep]
    return Directions(value[keep], np.linalg.qr(vector)[0] if keep else vector, used)


def _ritz(alpha: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.linalg.eigh(np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1))


def _difference(
    evaluate: Evaluate, z: np.ndarray, step: np.ndarray, point: np.ndarray, difference: float
) -> tuple[np.ndarray, np.ndarray]:
    """``-(gradient(z + h step) - gradient(z - h step)) / 2h`` for each row, and where both are finite."""
    rows = np.concatenate([z + difference * step, z - difference * step])
    rows = np.concatenate([rows, np.broadcast_to(point, (len(rows), len(point)))], axis=1) if len(point) else rows
    log_p, g = evaluate(rows)
    m = len(z)
    return (g[m:] - g[:m]) / (2.0 * difference), np.isfinite(log_p[:m]) & np.isfinite(log_p[m:])
