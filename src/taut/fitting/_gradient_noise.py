"""How noisy a run's gradients are where it ended, parameter by parameter, and what would be less noisy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from taut._errors import TautError
from taut.algorithms import SVI, Solution, alternatives, gradient_draws
from taut.fitting._refusals import loaded
from taut.problem import Problem

# A signal that is less than so many of its standard errors is none.
_SEEN = 3.0
# Advice is given where another choice has so much less variance.
_WORTH = 2.0


@dataclass(frozen=True)
class ParameterNoise:
    """One parameter's gradient.

    Attributes:
        mean: the norm of the mean gradient, in nats per unit of the parameter on the real line.
        sd: the root of the summed variances of one estimate, likewise.
        snr: signal-to-noise of one estimate, ``mean / sd``; ``inf`` without noise, NaN where nothing moves.
        seen: whether the signal is more than the noise of the mean explains.
    """

    mean: float
    sd: float
    snr: float
    seen: bool


@dataclass(frozen=True)
class GradientNoise:
    """Signal and noise of a run's gradients at its end; ``print`` shows a table and the advice.

    Attributes:
        what: objective, estimator and noise, in words.
        estimates: how many gradients were taken.
        parameters: by name.
        others: variance of what could be used instead, as a share of this one's, by the code that asks for it.
        advice: sentences.
    """

    what: str
    estimates: int
    parameters: dict[str, ParameterNoise]
    others: dict[str, float]
    advice: tuple[str, ...]

    def __getitem__(self, name: str) -> ParameterNoise:
        return self.parameters[name]

    def __str__(self) -> str:
        width = max(len(name) for name in self.parameters)
        rows = [f"{'':{width}}  {'|mean|':>9}  {'sd':>9}  {'SNR':>9}"]
        for name, p in self.parameters.items():
            rows.append(f"{name:{width}}  {p.mean:9.3g}  {p.sd:9.3g}  {p.snr:9.3g}" + ("" if p.seen else "  at rest"))
        return "\n".join([f"{self.what}; {self.estimates} gradients", *rows, *(f"- {line}" for line in self.advice)])


class Noisy:
    """The part of a fit that measures its gradients; `Fit` is one."""

    problem: Problem | None
    solution: Solution | None

    def gradient_noise(
        self, algorithm: SVI | None = None, estimates: int = 256, key: int | jax.Array = 0
    ) -> GradientNoise:
        """Signal-to-noise of stochastic gradients where the fit ended, by parameter, and what would be less noisy.

        Args:
            algorithm: the `taut.algorithms.SVI` whose objective, estimator and noise are meant; its defaults if none.
            estimates: how many gradients are taken.
            key: an integer or a JAX key.

        Returns:
            `GradientNoise`; ``print`` shows a table and the advice.

        Raises:
            TautError: ``no-model`` for a loaded fit; what the algorithm refuses for this guide.

        Example:
            >>> print(fit.gradient_noise())             # doctest: +SKIP
        """
        if self.problem is None or self.solution is None:
            raise loaded("fit.gradient_noise()")
        return gradient_noise(self.problem, self.solution, algorithm, estimates, key)


def gradient_noise(
    problem: Problem,
    solution: Solution,
    algorithm: SVI | None = None,
    estimates: int = 256,
    key: int | jax.Array = 0,
) -> GradientNoise:
    r"""Signal-to-noise of the gradients of stochastic variational inference where a fit ended.

    $\mathrm{SNR} = \|\mathbb E \hat g\| / \sqrt{\sum_j \mathrm{Var}\, \hat g_j}$ for each parameter, over new draws and
    new rows. At an optimum the signal is zero by definition, so it is the noise that counts there: it is compared with
    that of every other estimator and noise that the table allows, at the same number of draws.

    Args:
        problem: the problem.
        solution: where.
        algorithm: the run whose gradients are meant; `SVI` with its defaults if none is given.
        estimates: how many gradients are taken.
        key: an integer or a JAX key.

    Raises:
        TautError: ``bad-argument`` for fewer than two estimates; what the algorithm refuses for this guide.
    """
    if isinstance(estimates, bool) or not isinstance(estimates, int) or estimates < 2:
        raise TautError(
            "bad-argument",
            site="estimates",
            found=f"estimates={estimates!r}",
            expected="two or more: one gradient has no spread",
            remedy="fit.gradient_noise(estimates=256)",
        )
    run = algorithm or SVI()
    at = (solution.params, solution.model_params, estimates, key)
    found = gradient_draws(problem, solution.guide, run, *at)
    parameters = {name: _noise_of(values) for name, values in found.items()}
    total = _variance(found)
    others = {}
    if total > 0:
        for code, other in alternatives(problem, solution.guide, run):
            others[code] = _variance(gradient_draws(problem, solution.guide, other, *at)) / total
    objective, estimator = run.pair(problem, solution.guide)
    what = f"{objective}; {type(estimator).__name__}; {type(run.noise).__name__} noise"
    return GradientNoise(what, estimates, parameters, others, _advice(parameters, others, total))


def _noise_of(values: np.ndarray) -> ParameterNoise:
    flat = np.asarray(values, float).reshape(len(values), -1)
    mean = float(np.linalg.norm(flat.mean(axis=0)))
    sd = float(np.sqrt(flat.var(axis=0, ddof=1).sum()))
    snr = mean / sd if sd > 0 else np.inf if mean > 0 else np.nan
    return ParameterNoise(mean, sd, snr, mean > _SEEN * sd / np.sqrt(len(flat)))


def _variance(found: Mapping[str, np.ndarray]) -> float:
    return float(sum(np.var(values, axis=0, ddof=1).sum() for values in found.values()))


def _advice(parameters: Mapping[str, ParameterNoise], others: Mapping[str, float], total: float) -> tuple[str, ...]:
    lines = []
    idle = [name for name, p in parameters.items() if p.mean == 0 and p.sd == 0]
    if idle:
        lines.append(f"no gradient reaches {', '.join(idle)}: nothing in the objective depends on it here")
    moving = [name for name, p in parameters.items() if p.seen]
    if total == 0:
        lines.append("without noise: q is the posterior as far as this estimator can tell, or the draws are fixed")
    elif moving:
        worst = min(moving, key=lambda name: parameters[name].snr)
        steps = int(np.ceil(1 / parameters[worst].snr ** 2)) if parameters[worst].snr > 0 else 0
        lines.append(f"{', '.join(moving)} still moved; in {worst} one gradient's signal is the noise of {steps} steps")
    else:
        lines.append("at rest: no mean gradient stands out of its noise; smaller steps or averaging take out the rest")
    better = {code: share for code, share in others.items() if share * _WORTH < 1}
    if better:
        code = min(better, key=lambda c: better[c])
        times = f"{1 / better[code]:.3g} times less" if better[code] > 0 else "no"
        lines.append(f"{code} has {times} variance here, at the same number of draws")
    elif total > 0:
        lines.append("no other choice that the table allows has less than half of this variance")
    return tuple(lines)
