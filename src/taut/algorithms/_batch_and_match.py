"""Batch and match: Gaussian variational inference that matches scores in closed form, without a step size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from taut._draws import gaussian_log_density, orthogonal_antithetic, paired_standard_error, pool
from taut._keys import generator
from taut.algorithms._algorithm import Algorithm, Progress, Solution
from taut.algorithms._deterministic import evaluator
from taut.algorithms._mode_search import Search, advance, begin, full_rank_only, mode_count
from taut.algorithms._starts import Evaluate, lower_factor, triangular
from taut.guides import FullRank, Guide
from taut.problem import Problem

_FIRST_STAGE = 6  # steps; every stage doubles the steps so far
_FAILURES = 5  # batches in a row of which half have density zero


class Average(NamedTuple):
    """A Gaussian averaged over the second half of a run, ``(D,)`` and ``(D, D)`` lower triangular."""

    mean: np.ndarray
    factor: np.ndarray


class Iterate(NamedTuple):
    """All that the next step needs.

    search: for the mode to start from. mean, factor: of q now. step: steps so far. sum_mean, sum_cov, summed: of the
    iterates of this stage. best: the stage average of highest ELBO so far, or None. unclear: stages in a row whose gain
    was lost in its noise. failures: batches in a row that were unusable. gradients: so far. status: why it stopped.
    """

    search: Search
    mean: np.ndarray
    factor: np.ndarray
    step: int
    sum_mean: np.ndarray
    sum_cov: np.ndarray
    summed: int
    best: Average | None
    unclear: int
    failures: int
    gradients: int
    status: str | None


@dataclass(frozen=True)
class BatchAndMatch(Algorithm):
    r"""Match the score of q to that of the posterior, batch by batch, in closed form.

    With $B$ draws of q, their mean $\bar z$ and covariance $C$, the mean $\bar g$ and covariance $\Gamma$ of the scores
    $\nabla \log p$ there, and $\lambda_t = BD/(t+1)$:

    $$U = \lambda\Gamma + \tfrac{\lambda}{1+\lambda}\bar g\bar g^\top,\quad
      V = \Sigma + \lambda C + \tfrac{\lambda}{1+\lambda}(\mu-\bar z)(\mu-\bar z)^\top = WW^\top$$
    $$\Sigma' = 2W\big(I + (I + 4W^\top U W)^{1/2}\big)^{-1}W^\top,\quad
      \mu' = \tfrac{1}{1+\lambda}\mu + \tfrac{\lambda}{1+\lambda}(\Sigma'\bar g + \bar z)$$

    Exact on a Gaussian after one batch of $D + 1$ draws as $\lambda \to \infty$. It starts from the best mode's
    Gaussian and draws orthogonal, antithetic batches. Stages double the number of steps; the second half of the steps
    so far is averaged, and the run ends when an average is no better than the last one: the gain in ELBO, on draws that
    both share, plus two standard errors is below the tolerance (``converged``), or it was lost in its noise twice in a
    row (``plateaued``). The divergence that is minimised weighs squared differences of scores by q's covariance; it is
    not the ELBO's, and far from a Gaussian (a funnel) the two part: the average of highest ELBO is the answer.

    Args:
        batch: draws per step $B$; ``None`` for ``max(32, 2 D)``, which makes them exactly white.
        rate: a constant $\lambda$ instead of the schedule.
        steps: most steps.
        tolerance: nats.
        draws: draws on which averages are compared.
        starts: independent starts.
        modes: how many distinct ends to polish.

    Source: Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei, Saul (2024), Batch and match: black-box variational
        inference with a score-based divergence.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> fit = taut.fit(model, dict(y=10.0), algorithm=taut.algorithms.BatchAndMatch())
        >>> round(float(fit["mu"].mean), 3), fit.status
        (8.0, 'converged')
    """

    batch: int | None = None
    rate: float | None = None
    steps: int = 384
    tolerance: float = 0.03
    draws: int = 512
    starts: int = 8
    modes: int = 4

    def guide(self, problem: Problem) -> Guide:
        """A full-rank Gaussian, hierarchies non-centred."""
        return FullRank(centredness=0.0)

    def init(self, problem: Problem, guide: Guide, key: int | jax.Array) -> Iterate:
        """See `Algorithm`."""
        lam = full_rank_only("BatchAndMatch", problem, guide).centredness
        d = problem.dim
        zero, flat = np.zeros(d), np.zeros((d, d))
        return Iterate(
            begin(problem, lam, key, guide, self.starts), zero, np.eye(d), 0, zero, flat, 0, None, 0, 0, 0, None
        )

    def step(self, problem: Problem, guide: Guide, state: Iterate) -> tuple[Iterate, Progress]:
        """A phase of the search for a start, or one batch; at the end of a stage, the comparison of averages."""
        if state.search.modes is None:
            search, progress = advance(problem, state.search, self.starts, self.modes)
            if search.modes is not None:
                first = search.modes.candidates[0]
                state = state._replace(mean=first.point, factor=first.factor)
            return state._replace(search=search, gradients=search.gradients), progress
        evaluate = evaluator(problem, state.search.centredness)
        state, elbo, se = self._batch(evaluate, state)
        if state.status is None and _ends_stage(state.step):
            state, elbo, se = self._stage(evaluate, state)
        if state.status is None and state.step >= self.steps:
            state = state._replace(status="budget")
        return state, Progress("match", state.gradients, elbo, se)

    def terminate(self, problem: Problem, guide: Guide, state: Iterate) -> str | None:
        """See `Algorithm`."""
        return state.status

    def finish(self, problem: Problem, guide: Guide, state: Iterate, status: str) -> Solution:
        """See `Algorithm`; the average of highest ELBO, or q as it is where no stage has ended."""
        best = state.best or Average(state.mean, state.factor)
        modes, given = state.search.modes, state.search.given
        starts = self.starts if given is None else len(given)
        return Solution(
            guide,
            FullRank.from_moments(best.mean, best.factor),
            np.zeros(0),
            status,
            modes=None if modes is None else mode_count(modes, [c.elbo for c in modes.candidates], starts),
        )

    def _batch(self, evaluate: Evaluate, state: Iterate) -> tuple[Iterate, float, float]:
        d = len(state.mean)
        rows = self.batch or max(32, 2 * d)
        rng = generator(state.search.key, 10 + 2 * state.step)
        white = rows % 2 == 0 and rows >= 2 * d
        u = orthogonal_antithetic(rows, d, rng, radii="chi") if white else rng.standard_normal((rows, d))
        z = state.mean + u @ state.factor.T
        log_p, scores = evaluate(z)
        state = state._replace(step=state.step + 1, gradients=state.gradients + rows)
        log_w = log_p - _log_q(u, state.factor)
        elbo, se = float(log_w.mean()), paired_standard_error(log_w)
        usable = np.isfinite(log_p)
        if usable.sum() < max(2, rows / 2):
            failures = state.failures + 1
            return state._replace(failures=failures, status="nonfinite" if failures >= _FAILURES else None), elbo, se
        rate = rows * d / state.step if self.rate is None else self.rate
        mean, factor = match(state.mean, state.factor, z[usable], scores[usable], rate)
        if not (np.isfinite(mean).all() and np.isfinite(factor).all() and (np.diagonal(factor) > 0).all()):
            return state._replace(status="nonfinite"), elbo, se
        state = state._replace(mean=mean, factor=factor, failures=0)
        if state.step > _FIRST_STAGE // 2:
            state = state._replace(
                sum_mean=state.sum_mean + mean, sum_cov=state.sum_cov + factor @ factor.T, summed=state.summed + 1
            )
        return state, elbo, se

    def _stage(self, evaluate: Evaluate, state: Iterate) -> tuple[Iterate, float, float]:
        """Compare the average of this stage with the one before, on draws that both share."""
        n, d = max(state.summed, 1), len(state.mean)
        new = Average(state.sum_mean / n, lower_factor(state.sum_cov / n)) if state.summed else None
        state = state._replace(sum_mean=np.zeros(d), sum_cov=np.zeros((d, d)), summed=0)
        if new is None or state.best is None:
            return state._replace(best=new or state.best), -np.inf, np.inf
        u = pool(self.draws, d, generator(state.search.key, 11 + 2 * state.step))
        rows = [q.mean + u @ q.factor.T for q in (new, state.best)]
        log_p, _ = evaluate(np.concatenate(rows))
        log_w, old = log_p[: len(u)] - _log_q(u, new.factor), log_p[len(u) :] - _log_q(u, state.best.factor)
        state = state._replace(gradients=state.gradients + len(log_p))
        if not (np.isfinite(log_w).all() and np.isfinite(old).all()):
            gain, se = float(log_w.mean()) - float(old.mean()) if np.isfinite(log_w).all() else -np.inf, np.inf
        else:
            gain, se = float(np.mean(log_w - old)), paired_standard_error(log_w - old)
        unclear = state.unclear + 1 if gain < 2 * se else 0
        status = None
        if gain + 2 * se < self.tolerance:
            # A clear loss: scores are matched ever better by a q that the ELBO likes ever less.
            status = "converged" if gain + 2 * se > -self.tolerance else "plateaued"
        elif unclear >= 2:
            status = "plateaued"
        best = new if gain >= -2 * se else state.best
        state = state._replace(best=best, unclear=unclear, status=status)
        return state, float(max(log_w.mean(), old.mean())), paired_standard_error(log_w)


def match(
    mean: np.ndarray, factor: np.ndarray, z: np.ndarray, scores: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""One step of batch and match, in its symmetric form: no root of a matrix that is not symmetric.

    Args:
        mean: of q, ``(D,)``.
        factor: of q's covariance, ``(D, D)`` lower triangular.
        z: draws of q, ``(B, D)``.
        scores: gradients of the log density there, ``(B, D)``.
        rate: $\lambda$; the larger, the less the old q counts.

    Returns:
        Mean and lower-triangular factor of the new q.

    Source: see `BatchAndMatch`.

    Example:
        >>> z = np.array([[0.0], [1.0]])
        >>> mean, factor = match(np.zeros(1), np.eye(1), z, 4.0 * (3.0 - z), 1e12)
        >>> round(float(mean[0]), 6), round(float(factor[0, 0]), 6)
        (3.0, 0.5)
    """
    middle, pull = z.mean(0), scores.mean(0)
    share = rate / (1.0 + rate)
    dz, ds, shift = z - middle, scores - pull, mean - middle
    u = rate * (ds.T @ ds) / len(z) + share * np.outer(pull, pull)
    v = factor @ factor.T + rate * (dz.T @ dz) / len(z) + share * np.outer(shift, shift)
    w = lower_factor(v)
    value, vector = np.linalg.eigh(4.0 * w.T @ u @ w)
    root = (w @ vector) * np.sqrt(2.0 / (1.0 + np.sqrt(1.0 + np.maximum(value, 0.0))))
    return mean / (1.0 + rate) + share * (root @ (root.T @ pull) + middle), triangular(root)


def _log_q(u: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return gaussian_log_density(u, float(np.log(np.diagonal(factor)).sum()))


def _ends_stage(step: int) -> bool:
    """Steps 6, 12, 24, 48, ..."""
    while step > _FIRST_STAGE and step % 2 == 0:
        step //= 2
    return step == _FIRST_STAGE
