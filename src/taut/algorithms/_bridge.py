"""The evidence from draws of the posterior: the ratio of two densities that each have draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_ROUNDS = 200
_CLOSE = 1e-10


class Bridge(NamedTuple):
    """A log evidence in nats and its standard error, in nats as long as it is small."""

    log_evidence: float
    se: float


def bridge(of_posterior: np.ndarray, of_proposal: np.ndarray) -> Bridge:
    r"""The optimal bridge estimate of :math:`\log Z` between a posterior and a normalised proposal g.

    .. math:: \hat Z = \frac{\operatorname{mean}_g\, p\, /\, (s_1 p + s_2 \hat Z g)}
                            {\operatorname{mean}_p\, g\, /\, (s_1 p + s_2 \hat Z g)}

    with s the shares of the two samples. Where importance sampling needs g to cover p, and its reverse the opposite, a
    bridge needs only that they overlap.

    Args:
        of_posterior: ``log p - log g`` at draws of the posterior, ``(T, P)``: T dependent draws of each of P particles.
        of_proposal: the same at independent draws of g, ``(N,)``.

    Returns:
        `Bridge`; not finite where the two do not overlap.

    Source: Meng and Wong (1996), Simulating ratios of normalizing constants via a simple identity; the error by
    Frühwirth-Schnatter (2004), with particles as the independent unit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(0, 2, (4, 1000)), rng.normal(1, 1, 1000)
        >>> l = lambda z: -z**2 / 8 - (-0.5 * (z - 1) ** 2 - 0.5 * np.log(2 * np.pi))
        >>> found = bridge(l(x), l(y))
        >>> bool(abs(found.log_evidence - 0.5 * np.log(8 * np.pi)) < 3 * found.se), found.se < 0.1
        (True, True)
    """
    if not (np.isfinite(of_posterior).all() and np.isfinite(of_proposal).any()):
        return Bridge(np.nan, np.inf)
    particles = of_posterior.shape[1]
    share = np.log(np.array([particles, len(of_proposal)], float) / (particles + len(of_proposal)))
    posterior = of_posterior.ravel()

    def terms(log_z: float) -> tuple[np.ndarray, np.ndarray]:
        # logs of g / (s1 p / Z + s2 g) at draws of p, and of p / Z / (s1 p / Z + s2 g) at draws of g
        first = -np.logaddexp(share[0] + posterior - log_z, share[1])
        second = -np.logaddexp(share[0], share[1] + log_z - of_proposal)
        return first, second

    log_z = float(np.median(posterior))
    for _ in range(_ROUNDS):
        first, second = terms(log_z)
        step = _log_mean(second) - _log_mean(first)
        log_z += step
        if not np.isfinite(log_z):
            return Bridge(np.nan, np.inf)
        if abs(step) < _CLOSE:
            break
    first, second = terms(log_z)
    by_particle = np.exp(first - first.max()).reshape(of_posterior.shape).mean(0)
    variance = _relative_variance(by_particle) / particles
    variance += _relative_variance(np.exp(second - second.max())) / len(second)
    return Bridge(log_z, float(np.sqrt(variance)))


def _log_mean(x: np.ndarray) -> float:
    return float(np.logaddexp.reduce(x) - np.log(len(x)))


def _relative_variance(x: np.ndarray) -> float:
    return float(x.var(ddof=1) / x.mean() ** 2)
