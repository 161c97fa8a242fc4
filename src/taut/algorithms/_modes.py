"""Which of the ends are different modes, and a mixture of Gaussians over those that are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from taut._draws import orthogonal_antithetic
from taut.algorithms._polish import Polished, polish
from taut.algorithms._starts import Evaluate, Starts, gaussian_elbos

SCORING_DRAWS = 32


class Candidate(NamedTuple):
    """A Gaussian to begin a fit from.

    point: ``(dim,)``. factor: ``(D, D)`` lower triangular. elbo: estimate on a few draws, nats.
    reached: how many starts ended there. polished: what the polish said of the end it came from.
    from_path: the Gaussian is one met on the way up, better than the one at the end.
    """

    point: np.ndarray
    factor: np.ndarray
    elbo: float
    reached: int
    polished: Polished
    from_path: bool


class Modes(NamedTuple):
    """Distinct candidates, best first; `reached` of the first counts the starts that found the best mode."""

    candidates: list[Candidate]
    gradients: int


def mahalanobis(x: np.ndarray, mean: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Distances ``|C^-1 (x - mean)|`` of the rows of ``x``, ``(n,)``."""
    r = solve_triangular(factor, (np.atleast_2d(x) - mean).T, lower=True, check_finite=False)
    return np.sqrt(np.einsum("ij,ij->j", r, r))


def same_mode(mean_a: np.ndarray, factor_a: np.ndarray, mean_b: np.ndarray, factor_b: np.ndarray) -> bool:
    r"""Whether two Gaussians tell of one mode: either mean lies within :math:`3 + 1.5\sqrt D` of the other."""
    radius = 3.0 + 1.5 * np.sqrt(len(mean_a))
    return bool(
        mahalanobis(mean_a, mean_b, factor_b)[0] <= radius or mahalanobis(mean_b, mean_a, factor_a)[0] <= radius
    )


def distinct(means: Sequence[np.ndarray], factors: Sequence[np.ndarray], scores: Sequence[float]) -> list[int]:
    """Indices of Gaussians that are different modes, best score first; of each mode the best is kept."""
    kept: list[int] = []
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        if np.isfinite(scores[i]) and not any(same_mode(means[i], factors[i], means[k], factors[k]) for k in kept):
            kept.append(int(i))
    return kept


def find_modes(
    evaluate: Evaluate,
    starts: Starts,
    rng: np.random.Generator,
    *,
    most: int = 4,
    margin: float = 20.0,
    tolerance: float = 1e-3,
    difference: float = 1e-3,
) -> Modes:
    r"""Polish the distinct ends of the climbs, and keep for each the better of two Gaussians.

    Ends are taken best path ELBO first; one that lies within :math:`3 + 1.5\sqrt D` Mahalanobis units of a polished
    mode reached that mode. The others are polished, at most ``most``. The Laplace Gaussian of a mode and the best
    Gaussian along the path that led there are scored on the same draws, and the better is the candidate (a funnel's
    best is on the path). Candidates more than ``max(margin, 3 D)`` nats below the best are dropped, equal modes merged.

    Args:
        evaluate: the density.
        starts: from `explore`.
        rng: generator, for the scoring draws.
        most: most polishes, and most candidates.
        margin: nats.
        tolerance: of the polish, nats.
        difference: of the polish.

    Returns:
        `Modes`; no candidates when no start met a finite density.
    """
    latent = starts.factors.shape[1]
    has_params = starts.points.shape[1] > latent
    order = [int(i) for i in np.argsort(-starts.elbos, kind="stable") if np.isfinite(starts.end_log_p[i])]
    polished: list[Polished] = []
    owner: dict[int, int] = {}
    gradients = 0
    radius = 3.0 + 1.5 * np.sqrt(latent)
    for i in order:
        # Point-estimated parameters have no useful joint mode: stay where the ELBO was best.
        end, factor = (starts.points[i], starts.factors[i]) if has_params else (starts.ends[i], starts.end_factors[i])
        for k, mode in enumerate(polished):
            if mahalanobis(end[:latent], mode.mean[:latent], mode.factor)[0] <= radius:
                owner[i] = k
                break
        else:
            if len(polished) < most:
                owner[i] = len(polished)
                polished.append(polish(evaluate, end, factor, tolerance=tolerance, difference=difference))
                gradients += polished[-1].gradients
    if not polished:
        return Modes([], gradients)

    leads = [next(i for i in order if owner.get(i) == k) for k in range(len(polished))]
    u = orthogonal_antithetic(SCORING_DRAWS, latent, rng)
    points = [p.mean for p in polished] + [starts.points[i] for i in leads]
    factors = [p.factor for p in polished] + [starts.factors[i] for i in leads]
    elbos, used = gaussian_elbos(evaluate, points, factors, u)
    gradients += used
    found: list[Candidate] = []
    for k, p in enumerate(polished):
        path = len(polished) + k
        from_path = bool(elbos[path] > elbos[k])
        pick = path if from_path else k
        reached = sum(1 for o in owner.values() if o == k)
        found.append(Candidate(points[pick], factors[pick], float(elbos[pick]), reached, p, from_path))

    found.sort(key=lambda c: -c.elbo)
    merged: list[Candidate] = []
    for c in found:
        for j, other in enumerate(merged):
            close = same_mode(
                c.polished.mean[:latent], c.polished.factor, other.polished.mean[:latent], other.polished.factor
            )
            if close or same_mode(c.point[:latent], c.factor, other.point[:latent], other.factor):
                merged[j] = other._replace(reached=other.reached + c.reached)
                break
        else:
            merged.append(c)
    floor = merged[0].elbo - max(margin, 3.0 * latent)
    return Modes([c for c in merged if c.elbo >= floor][:most], gradients)
