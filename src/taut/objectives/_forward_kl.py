"""KL(p || q): the forward divergence, and reweighted wake-sleep, which learns a model beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from taut.objectives._iwae import IWAE
from taut.objectives._objective import Bound, Objective, averaged, whole_particles
from taut.objectives._tvo import riemann
from taut.objectives._upper_bound import UpperBound


@dataclass(frozen=True)
class ForwardKL(UpperBound):
    r"""The evidence upper bound, $\mathbb E_{p(z \mid x)}[\log w] = \log Z + \mathrm{KL}(p \,\|\, q)$; minimised.

    Expectations under the posterior are taken with normalised weights $\tilde w_k = w_k / \sum_j w_j$: the value is
    $\sum_k \tilde w_k \log w_k$, and lies below the bound for few draws. The gradient is that of wake-phi,
    $-\sum_k \tilde w_k \nabla_\phi \log q_\phi(z_k)$, consistent as $K$ grows. q covers the whole posterior: for a
    Gaussian the optimum has the posterior's own means and variances. The model's parameters cannot be learned by it;
    `RWS` learns both.

    Args:
        particles: draws $K$; too few weights that count leave a bias.
        averaged_over: independent estimates whose mean is taken.

    Source: Bornschein, Bengio (2015), Reweighted wake-sleep; Naesseth, Lindsten, Blei (2020), Markovian score
    climbing.

    Example:
        >>> round(float(taut.objectives.ForwardKL(particles=2).reduce(jnp.log(jnp.array([1.0, 3.0])))), 4)
        0.824
    """

    particles: int = 64
    averaged_over: int = 1

    def __str__(self) -> str:
        """See `Objective`."""
        return f"forward KL with {self.particles} weighted draws{averaged(self)}; estimates lie below the bound"

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return riemann(log_weights, (1.0,), (1.0,))

    def score_weights(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return -jax.nn.softmax(jnp.asarray(log_weights), axis=0)


@dataclass(frozen=True)
class RWS(Objective):
    r"""Reweighted wake-sleep: the model climbs the `IWAE`, q descends $\mathrm{KL}(p \,\|\, q)$, from the same draws.

    $$\hat\nabla_\theta = \sum_k \tilde w_k \nabla_\theta \log p_\theta(x, z_k), \qquad
      \hat\nabla_\phi = \sum_k \tilde w_k \nabla_\phi \log q_\phi(z_k)$$

    (wake-theta and wake-phi). Draws need not follow their parameters, so discrete guides are as good as smooth ones,
    and the signal of $\phi$ does not fade as $K$ grows. The value is that of the `IWAE`, a lower bound.

    Args:
        particles: draws $K$.
        averaged_over: independent estimates whose mean is taken.

    Source: Bornschein, Bengio (2015), Reweighted wake-sleep; Le, Kosiorek, Siddharth, Teh, Wood (2019), Revisiting
    reweighted wake-sleep.

    Example:
        >>> float(taut.objectives.RWS(particles=1).reduce(jnp.array([-3.0])))
        -3.0
    """

    particles: int = 16
    averaged_over: int = 1
    bound: ClassVar[Bound | None] = "lower"

    def __post_init__(self) -> None:
        whole_particles(self)

    def __str__(self) -> str:
        """See `Objective`."""
        return f"reweighted wake-sleep with {self.particles} draws{averaged(self)}: wake-theta and wake-phi"

    @property
    def own_gradient(self) -> bool:
        """See `Objective`."""
        return True

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return IWAE(self.particles).reduce(log_weights)

    def score_weights(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return jax.nn.softmax(jnp.asarray(log_weights), axis=0)
