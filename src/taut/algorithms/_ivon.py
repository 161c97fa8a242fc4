r"""IVON: Newton's method under the mean-field posterior itself, at about Adam's cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from taut._errors import TautError
from taut.algorithms._optimizer import Distance, Optimizer, Travelled
from taut.algorithms._svi import SVI
from taut.gradients import GradientEstimator, Pathwise
from taut.guides import Guide, MeanField
from taut.objectives import ELBO, Objective
from taut.problem import Problem


class Momentum(NamedTuple):
    """What `NaturalMeanField` remembers.

    Attributes:
        loc: mean of the gradients of locations.
        steps: how many are in it.
        pace: factor on both rates in this stage.
        model: of the model's own parameters, which have no spread.
    """

    loc: Any
    steps: Any
    pace: Any
    model: Travelled


@dataclass(frozen=True)
class NaturalMeanField(Optimizer):
    r"""Steps along the natural gradient of a mean-field normal; see `IVON` for the equations and the arguments.

    Gradients in $m$ and $\log s$ are all it needs: the Fisher information of these is $1 / s^2$ and 2. The model's own
    parameters have no $q$ and move by `Distance`.
    """

    rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    clip: float = 1.0
    shrink: float = 0.7

    def init(self, params: Any) -> Momentum:
        """See `Optimizer`.

        Raises:
            TautError: ``bad-combination`` for the parameters of another guide.
        """
        if set(params.guide) != {"loc", "log_scale"}:
            raise TautError(
                "bad-combination",
                site="optimizer",
                found=f"IVON with a guide whose parameters are {', '.join(map(repr, params.guide)) or 'none'}",
                expected="a mean-field guide: a location and a log scale for every weight",
                remedy="guide=taut.guides.MeanField()",
            )
        zero = jnp.zeros((), params.guide["loc"].dtype)
        return Momentum(jnp.zeros_like(params.guide["loc"]), zero, zero + 1.0, Distance().init(params.model))

    def update(self, gradient: Any, state: Momentum, params: Any) -> tuple[Any, Momentum]:
        """See `Optimizer`."""
        loc, log_scale = params.guide["loc"], params.guide["log_scale"]
        mean = self.beta1 * state.loc + (1.0 - self.beta1) * gradient.guide["loc"]
        steps = state.steps + 1.0
        slope = mean / (1.0 - self.beta1**steps)
        s = jnp.exp(log_scale)
        # In units of the spread: far from the mode one step goes no further than q itself reaches.
        moved = jnp.clip(self.rate * state.pace * s * slope, -self.clip, self.clip)
        u = -(1.0 - self.beta2) * state.pace * gradient.guide["log_scale"]
        narrower = 0.5 * jnp.log1p(u + 0.5 * u**2)
        model, walked = Distance().update(gradient.model, state.model, params.model)
        guide = {"loc": loc + s * moved, "log_scale": log_scale - narrower}
        return params._replace(guide=guide, model=model), Momentum(mean, steps, state.pace, walked)

    def restart(self, params: Any, average: Any, state: Momentum) -> tuple[Any, Momentum]:
        """See `Optimizer`: from the average of the last stage, at a slower pace."""
        model, walked = Distance().restart(params.model, average.model, state.model)
        fresh = Momentum(jnp.zeros_like(state.loc), jnp.zeros_like(state.steps), state.pace * self.shrink, walked)
        return average._replace(model=model), fresh


@dataclass(frozen=True)
class IVON(SVI):
    r"""Improved variational online Newton: natural-gradient steps of a mean-field normal, at about the cost of Adam.

    With $q = \mathcal N(m, \operatorname{diag} P^{-1})$, one draw $\theta = m + \epsilon / \sqrt P$ and the gradient
    $\hat g = \nabla \log p(y, \theta)$ of the log joint of the whole data (batches are weighed by the library),

    $$\hat F = -\hat g\, \epsilon \sqrt P, \qquad u = (1 - \beta_2)\, (\hat F - P) / P$$
    $$P \leftarrow P\, (1 + u + \tfrac12 u^2), \qquad \bar g \leftarrow \beta_1 \bar g + (1 - \beta_1)\, \hat g, \qquad
      m \leftarrow m + \rho\, P^{-1} \bar g / (1 - \beta_1^t)$$

    $\hat F$ estimates the negative diagonal Hessian by Stein's identity, and $P$ stays positive without being clipped.
    This is the published update with $P = \lambda (h + \delta)$, $\lambda$ the number of observations and $\delta$ the
    prior's precision by observation; the prior's own part is exact where it has a closed form (``kl="analytic"``).
    Iterates are averaged, and both rates fall from stage to stage, as `SVI` does and says.

    Args:
        objective: what is maximised; the ELBO with its KL part in closed form.
        gradient: `Pathwise`; no other estimator gives $\hat F$.
        optimizer: made of the fields below.
        steps, chunk, tolerance, noise: see `SVI`.
        rate: $\rho$, of the Newton steps.
        beta1: memory of the gradient.
        beta2: memory of the precision. The paper's 0.99999 is for a million steps; a network of a few thousand wants
            0.9995 or more: faster, weights of which the data say little widen to their prior within a few epochs,
            and their noise drowns the others.
        clip: longest step of a location, in standard deviations of q.
        shrink: factor on $\rho$ and $1 - \beta_2$ from stage to stage.

    Raises:
        TautError: ``bad-combination`` for a guide that is not mean-field, or another estimator.

    Source: Shen, Daheim, Cong, Nickl, Marconi, Bazan, Yokota, Gurevych, Cremers, Khan, Möllenhoff (2024), Variational
    learning is effective for large deep networks.

    Example:
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> fit = taut.fit(model, dict(y=10.0), algorithm=taut.algorithms.IVON())
        >>> round(float(fit["mu"].mean), 2), round(float(fit["mu"].sd), 2)
        (8.0, 0.45)
    """

    objective: Objective = ELBO(kl="analytic")
    gradient: GradientEstimator | None = Pathwise()
    rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    clip: float = 1.0
    shrink: float = 0.7

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            self._check(name, 0.0 <= getattr(self, name) < 1.0, "a number from 0 to below 1")
        for name in ("rate", "clip"):
            self._check(name, getattr(self, name) > 0.0, "a positive number")
        self._check("shrink", 0.0 < self.shrink <= 1.0, "a number above 0, at most 1")
        if not isinstance(self.gradient, Pathwise):
            raise TautError(
                "bad-combination",
                site="gradient",
                found=f"IVON with {type(self.gradient).__name__}",
                expected="Pathwise: the curvature is read off the noise of the pathwise gradient",
                remedy="taut.algorithms.IVON()",
            )
        rule = NaturalMeanField(self.rate, self.beta1, self.beta2, self.clip, self.shrink)
        object.__setattr__(self, "optimizer", rule)
        super().__post_init__()

    def guide(self, problem: Problem) -> Guide:
        """A mean-field normal."""
        return MeanField()

    def _check(self, name: str, right: bool, expected: str) -> None:
        if not right:
            raise TautError(
                "bad-argument",
                site=name,
                found=f"IVON({name}={getattr(self, name)!r})",
                expected=expected,
                remedy=f"taut.algorithms.IVON({name}={type(self).__dataclass_fields__[name].default})",
            )
