"""The score-function gradient, for draws that do not follow their parameters smoothly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from taut._errors import TautError
from taut.gradients._estimator import GradientEstimator, LogWeights, Reduction, only_gradient
from taut.gradients._table import check_objective, kind_of


@dataclass(frozen=True)
class ScoreFunction(GradientEstimator):
    r"""Weigh the score of every draw by what the draw gained over the others; pathwise where draws are smooth.

    With $d$ the sites that do not follow their parameters (discrete ones, mixtures with learned weights) and
    $\hat{\mathcal L}$ the estimate from $K$ log-weights,

    $$\hat\nabla = \nabla_{\text{path}} \hat{\mathcal L}
      + \sum_k \big(\hat{\mathcal L} - \hat{\mathcal L}_{-k}\big) \nabla_\phi \log q_\phi(d_k)$$

    where $\hat{\mathcal L}_{-k}$ has $\log w_k$ replaced by the mean of the other log-weights, so that it does not
    depend on the $k$-th draw: leave-one-out for the `ELBO`, `VIMCO` for `IWAE`. Unbiased; without noise when $q$ is the
    posterior.

    Args:
        baseline: ``"leave-one-out"``, or ``"none"``: the plain REINFORCE estimator, a reference to measure against.
        everywhere: take the score of smooth draws too, in place of their path.

    Raises:
        TautError: ``bad-combination`` for one particle, which has no others.

    Source: Kool, van Hoof, Welling (2019), Buy 4 REINFORCE samples, get a baseline for free; Mnih, Rezende (2016),
    Variational inference for Monte Carlo objectives.

    Example:
        >>> taut.gradients.ScoreFunction().valid_for(taut.objectives.ELBO(particles=8))
    """

    baseline: Literal["leave-one-out", "none"] = "leave-one-out"
    everywhere: bool = False
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.baseline not in ("leave-one-out", "none"):
            raise TautError(
                "bad-argument",
                site="baseline",
                found=f"ScoreFunction(baseline={self.baseline!r})",
                expected='"leave-one-out" or "none"',
                remedy="taut.gradients.ScoreFunction(), or VarGrad() or VIMCO()",
            )

    def valid_for(self, objective: Reduction) -> None:
        """See `GradientEstimator`; objectives of two or more particles."""
        check_objective(type(self).__name__, objective)
        if self.baseline == "leave-one-out":
            check_others(type(self).__name__, objective)

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        stand_in = mean_of_others if self.baseline == "leave-one-out" else None
        return score_surrogate(objective, log_weights, guide, model, stand_in, self.everywhere)


@dataclass(frozen=True)
class VIMCO(GradientEstimator):
    r"""`ScoreFunction` for bounds with a logarithm, its baselines made of the other particles' weights.

    $$\hat\nabla = \nabla_{\text{path}} \hat{\mathcal L} + \sum_k \Big(\hat{\mathcal L}
      - \log \tfrac1K \big(\textstyle\sum_{j \ne k} w_j + \hat w_{-k}\big)\Big) \nabla_\phi \log q_\phi(d_k)$$

    Args:
        mean: $\hat w_{-k}$ is the ``"geometric"`` mean of the other weights, or their ``"arithmetic"`` one.
        everywhere: take the score of smooth draws too, in place of their path.

    Source: Mnih, Rezende (2016), Variational inference for Monte Carlo objectives.

    Example:
        >>> taut.gradients.VIMCO().valid_for(taut.objectives.IWAE(particles=8))
    """

    mean: Literal["geometric", "arithmetic"] = "geometric"
    everywhere: bool = False
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.mean not in ("geometric", "arithmetic"):
            raise TautError(
                "bad-argument",
                site="mean",
                found=f"VIMCO(mean={self.mean!r})",
                expected='"geometric" or "arithmetic"',
                remedy="taut.gradients.VIMCO()",
            )

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        stand_in = mean_of_others if self.mean == "geometric" else log_mean_of_others
        return score_surrogate(objective, log_weights, guide, model, stand_in, self.everywhere)


@dataclass(frozen=True)
class VarGrad(GradientEstimator):
    r"""The gradient of half the variance of the log-weights over fixed draws.

    $$\hat\nabla = -\nabla_\phi\, \tfrac12 \widehat{\mathrm{Var}}_k\big[\log w_\phi(z_k)\big], \quad z_k \text{ held}$$

    Equal to `ScoreFunction` with leave-one-out baselines at all sites, to the last digits, and cheaper to write down.

    Raises:
        TautError: ``bad-combination`` for one draw, which has no variance.

    Source: Richter, Boustati, Nüsken, Ruiz, Akyildiz (2020), VarGrad: a low-variance gradient estimator for
    variational inference.

    Example:
        >>> taut.gradients.VarGrad().valid_for(taut.objectives.ELBO(particles=8))
    """

    pathwise: ClassVar[bool] = False

    def valid_for(self, objective: Reduction) -> None:
        """See `GradientEstimator`; two or more draws."""
        check_objective(type(self).__name__, objective)
        check_others(type(self).__name__, objective)

    def surrogate(self, objective: Reduction, log_weights: LogWeights, guide: Any, model: Any) -> Any:
        """See `GradientEstimator`."""
        held = jax.lax.stop_gradient(guide)
        weights = log_weights(held, guide, jax.lax.stop_gradient(model))
        total = jax.lax.stop_gradient(objective.estimate(weights))
        total -= only_gradient(0.5 * jnp.sum(jnp.var(weights, axis=0, ddof=1)))
        if jnp.size(model):
            total += only_gradient(objective.estimate(log_weights(held, held, model)))
        return total


def check_others(name: str, objective: Reduction) -> None:
    """Refuse a single draw: its gain is measured against the others.

    Raises:
        TautError: ``bad-combination``.
    """
    compared = objective.particles * objective.averaged_over if kind_of(objective) == "mean" else objective.particles
    if compared < 2:
        given = type(objective).__name__
        raise TautError(
            "bad-combination",
            found=f"{name} with {given}(particles={objective.particles})",
            expected="two or more particles: each draw's gain is measured against the others",
            remedy=f"objective=taut.objectives.{given}(particles=16)",
        )


def mean_of_others(fixed: Any) -> Any:
    """The mean of the other log-weights, for each, along the first axis."""
    return (jnp.sum(fixed, axis=0) - fixed) / (fixed.shape[0] - 1)


def log_mean_of_others(fixed: Any) -> Any:
    """The log of the mean of the other weights, for each, along the first axis."""
    count = fixed.shape[0]
    without = jnp.where(jnp.eye(count, dtype=bool).reshape(count, count, *(1,) * (fixed.ndim - 1)), -jnp.inf, fixed)
    return jax.nn.logsumexp(without, axis=1) - jnp.log(count - 1.0)


def score_surrogate(
    objective: Reduction,
    log_weights: LogWeights,
    guide: Any,
    model: Any,
    stand_in: Callable[[Any], Any] | None,
    everywhere: bool,
) -> Any:
    """The estimate; its gradient is the path's, and the scores weighed by each draw's gain.

    Args:
        objective, log_weights, guide, model: as for `GradientEstimator.surrogate`.
        stand_in: what replaces each log-weight in its baseline; ``None`` for no baseline.
        everywhere: scores at all sites.
    """
    held = jax.lax.stop_gradient(guide)
    density = held if kind_of(objective) == "mean" else guide
    weights = log_weights(held if everywhere else guide, density, model)
    fixed = jax.lax.stop_gradient(weights)
    gain = jax.lax.stop_gradient(_gains(objective, fixed, stand_in))
    if everywhere:
        scores = -log_weights(held, guide, jax.lax.stop_gradient(model))
    else:
        scores = log_weights.still(guide)
    return objective.estimate(weights) + only_gradient(jnp.sum(gain * scores))


def _gains(objective: Reduction, fixed: Any, stand_in: Callable[[Any], Any] | None) -> Any:
    """What each draw adds to the estimate, ``float[draws]``."""
    if kind_of(objective) == "mean":
        base = 0.0 if stand_in is None else mean_of_others(fixed)
        return (fixed - base) / fixed.shape[0]

    def group(x: Any) -> Any:
        whole = objective.reduce_each(x)
        if stand_in is None:
            return jnp.broadcast_to(whole, x.shape)
        other = stand_in(x)
        return whole - jax.vmap(lambda k: objective.reduce_each(x.at[k].set(other[k])))(jnp.arange(x.shape[0]))

    return jnp.reshape(jax.vmap(group)(objective.groups(fixed)), fixed.shape) / objective.averaged_over
