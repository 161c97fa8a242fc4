"""What draws show that no check of the verdict says: where the density breaks, which pair q leaves out, whether the
ELBO has a mean at all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from taut.algorithms import Solution
from taut.diagnostics import Weighing
from taut.fitting._weigh import Weighed
from taut.problem import DISCRETE, Problem

# Difference of two correlations that is worth a sentence, and the most scalars whose pairs are compared.
_CORRELATION = 0.3
_MOST_SCALARS = 500
# Effective draws below which a weighted correlation is noise.
_FEWEST = 200.0
# Share of one draw in the sum of all deviations from the median: a mean that exists is not made by one draw.
_DOMINANT = 0.05


def remarks(
    problem: Problem,
    solution: Solution,
    weighed: Weighed,
    weighing: Weighing | None,
    moved: Mapping[str, np.ndarray] | None,
) -> tuple[str, ...]:
    """Sentences for the result.

    Args:
        problem: the problem.
        solution: what an algorithm found.
        weighed: fresh draws from q.
        weighing: what their weights say.
        moved: draws that SMC carried to the posterior, if any.
    """
    if weighed.log_weights is None or weighing is None:
        return ()
    found = (
        *_where_it_breaks(problem, solution, weighed),
        *_heavy_tail(weighed, weighing),
        *_missing_pair(problem, weighed, weighing, moved),
    )
    return found


def has_no_mean(log_weights: np.ndarray, weighing: Weighing) -> bool:
    """Whether the average of the log weights says nothing: its tail has no mean and one draw makes most of it."""
    if not weighing.elbo_khat >= 1.0 or not np.isfinite(log_weights).all():
        return False
    deviations = np.abs(log_weights - np.median(log_weights))
    return bool(deviations.max() > _DOMINANT * deviations.sum())


def _where_it_breaks(problem: Problem, solution: Solution, weighed: Weighed) -> tuple[str, ...]:
    assert weighed.log_weights is not None
    bad = np.flatnonzero(~np.isfinite(weighed.log_weights.ravel()))
    if not len(bad):
        return ()
    point = {name: np.asarray(weighed.values[name][bad[0]]) for name in problem.layout if name in weighed.values}
    if len(point) < len(problem.layout):
        return ()
    terms = {name: float(term) for name, term in problem.log_joint_by_site(point).items()}
    sites = [name for name, term in terms.items() if not np.isfinite(term)]
    if not sites:
        return ()
    at = ", ".join(f"{n} = {point[n].ravel()[0]:.4g}" for n in list(problem.latents)[:3])
    where = problem.program.sites[sites[0]].source
    return (f"the log density of {sites[0]!r} ({where}) is {terms[sites[0]]} at {at}",)


def _heavy_tail(weighed: Weighed, weighing: Weighing) -> tuple[str, ...]:
    assert weighed.log_weights is not None
    log_weights = weighed.log_weights.ravel()
    if not has_no_mean(log_weights, weighing):
        return ()
    counts = [len(log_weights) // 100, len(log_weights) // 10, len(log_weights)]
    means = ", ".join(f"{np.mean(log_weights[:n]):.3g}" for n in counts)
    return (
        f"the ELBO of this guide has no finite mean: its average over {', '.join(f'{n:,}' for n in counts)} draws is "
        f"{means} nats; a guide with lighter tails has one: dist.Normal in place of dist.Cauchy or dist.StudentT",
    )


def _missing_pair(
    problem: Problem, weighed: Weighed, weighing: Weighing, moved: Mapping[str, np.ndarray] | None
) -> tuple[str, ...]:
    assert weighed.log_weights is not None
    smooth = [name for name, latent in problem.latents.items() if latent.transform != DISCRETE]
    names = [f"{n}{list(i) if i else ''}" for n in smooth for i in np.ndindex(weighed.values[n].shape[1:])]
    if not 2 <= len(names) <= _MOST_SCALARS:
        return ()
    weights = np.ones(weighed.log_weights.size)
    of_q = _correlations(_columns(smooth, weighed.values), weights)
    if moved is not None:
        of_p = _correlations(_columns(smooth, moved), np.ones(len(next(iter(moved.values())))))
    elif weighing.ess >= _FEWEST:
        log_weights = weighed.log_weights.ravel()
        of_p = _correlations(_columns(smooth, weighed.values), np.exp(log_weights - log_weights.max()))
    else:
        return ()
    difference = np.nan_to_num(np.abs(np.triu(of_p - of_q, 1)))
    i, j = np.unravel_index(np.argmax(difference), difference.shape)
    if difference[i, j] < _CORRELATION:
        return ()
    return (
        f"{names[i]} and {names[j]} correlate at {of_p[i, j]:.2f} in the posterior and at {of_q[i, j]:.2f} in q; "
        "a guide that can say so: guide=taut.guides.FullRank(), or taut.guides.LowRank() for many latents",
    )


def _columns(names: list[str], values: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([values[n].reshape(len(values[n]), -1) for n in names], axis=1).astype(float)


def _correlations(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    weights = weights / weights.sum()
    centred = (columns - weights @ columns) * np.sqrt(weights)[:, None]
    covariance = centred.T @ centred
    sd = np.sqrt(np.diag(covariance))
    return covariance / np.outer(sd, sd)
