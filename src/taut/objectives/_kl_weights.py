r"""How a KL term is spread over the batches of an epoch: weights that sum to one, and no others.

For any partition of the data into batches $D_1 \dots D_M$ and any shares $\pi_i$ that sum to one,

$$\sum_{i=1}^M \Big[\pi_i\, \mathrm{KL}(q \,\|\, p) - \mathbb E_q \log p(D_i \mid z)\Big]
  = \mathrm{KL}(q \,\|\, p) - \mathbb E_q \log p(D \mid z)$$

is the negative ELBO of the whole data, whatever the sizes of the batches. The likelihood is a sum over rows, never a
mean, and nobody multiplies a KL term by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from taut._arguments import whole_number
from taut._errors import TautError
from taut._precision import real_dtype
from taut.objectives._elbo import ELBO
from taut.objectives._objective import Bound, Objective, whole_particles

# What the sum of weights given in single precision may be off by.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class KLWeights:
    r"""Shares $\pi_i \ge 0$ of the KL term that the batches $i = 1 \dots M$ of an epoch carry, $\sum_i \pi_i = 1$.

    The sum of $\pi_i\,\mathrm{KL}(q \,\|\, p) - E_q[\log p(x_i \mid z)]$ over an epoch is then the negative ELBO of the
    whole data set, once. A plate with a ``subsample_size`` needs no weights: there the library owns every scale.

    Args:
        weights: one per batch.

    Raises:
        TautError: ``kl-weights`` if they do not sum to one.

    Example:
        >>> taut.objectives.KLWeights([0.5, 0.25, 0.25]).weights
        (0.5, 0.25, 0.25)
    """

    weights: tuple[float, ...]

    def __init__(self, weights: Sequence[float]):
        found = np.asarray(weights, float).ravel()
        total = float(np.sum(found))
        proper = found.size > 0 and np.isfinite(total) and not np.any(found < 0)
        if not proper or abs(total - 1.0) > _ROUNDING:
            shown = f"weights that sum to {total:g}" if proper else f"weights {found.tolist()}"
            remedy = f"taut.objectives.KLWeights(weights / {total:g})" if proper and total > 0 else "uniform(batches)"
            raise TautError(
                "kl-weights",
                found=f"{shown} over {found.size} batches",
                expected="weights that are not negative and sum to 1",
                remedy=remedy.replace("uniform(batches)", "taut.objectives.Blundell(batches)"),
            )
        object.__setattr__(self, "weights", tuple(found.tolist()))

    @property
    def batches(self) -> int:
        """How many batches $M$ an epoch has."""
        return len(self.weights)

    def loss(self, batch: Any, kl: Any, log_likelihood: Any) -> Any:
        r"""$\pi_i\, \mathrm{KL} - \log p(D_i \mid z)$, in nats: summed over an epoch, the negative ELBO of all data.

        Args:
            batch: $i - 1$, its number in the epoch from 0 on; may be traced.
            kl: $\mathrm{KL}(q \,\|\, p)$ of what all rows share, or an estimate: $\log q(z) - \log p(z)$.
            log_likelihood: $\log p(D_i \mid z)$, summed over the rows of the batch and not scaled.

        Example:
            >>> weights = taut.objectives.Uniform(2)
            >>> float(weights.loss(0, kl=3.0, log_likelihood=-5.0) + weights.loss(1, kl=3.0, log_likelihood=-7.0))
            15.0
        """
        return self.share(batch) * kl - log_likelihood

    def share(self, batch: Any) -> Any:
        r"""$\pi_i$ of batch $i - 1$; may be traced."""
        return jnp.asarray(self.weights, real_dtype())[batch]


class Uniform(KLWeights):
    r"""Equal weights, $\pi_i = 1 / M$: every batch estimates the ELBO of the whole data.

    Args:
        batches: how many batches $M$ an epoch has.

    Example:
        >>> taut.objectives.Uniform(4).weights
        (0.25, 0.25, 0.25, 0.25)
    """

    def __init__(self, batches: int):
        batches = whole_number("batches", batches, "taut.objectives.Uniform(batches=len(y) // 128)")
        super().__init__([1.0 / batches] * batches)


class Blundell(KLWeights):
    r"""The weights $\pi_i = 2^{M - i} / (2^M - 1)$: the prior rules the first batches, the data the last ones.

    Computed as $2^{-i} / (1 - 2^{-M})$, which neither overflows nor loses its sum, whatever $M$.

    Args:
        batches: how many batches $M$ an epoch has.

    Source: Blundell, Cornebise, Kavukcuoglu, Wierstra (2015), Weight uncertainty in neural networks, section 3.4.

    Example:
        >>> taut.objectives.Blundell(2).weights
        (0.6666666666666666, 0.3333333333333333)
    """

    def __init__(self, batches: int):
        batches = whole_number("batches", batches, "taut.objectives.Blundell(batches=len(y) // 128)")
        index = np.arange(1, batches + 1, dtype=float)
        super().__init__(list(np.exp2(-index) / -np.expm1(-batches * np.log(2.0))))


@dataclass(frozen=True)
class BatchELBO(Objective):
    r"""The `ELBO` whose KL term is shared out over the batches of an epoch.

    Step $t$ sees batch $i = t \bmod M$ and estimates, at the scale of the whole data,

    $$\frac{N}{|D_i|} \log p(D_i \mid z) + M \pi_i\, \big[\log p(z) - \log q(z)\big]$$

    The factors $M \pi_i$ are 1 on average over an epoch, so that over an epoch it is the ELBO; fits are compared by the
    `ELBO` itself, and the one that is reported does not depend on the batches. With `Uniform` weights it is the `ELBO`.

    Args:
        weights: `Uniform`, `Blundell`, or any `KLWeights`, one per batch of an epoch.
        particles: draws per estimate, averaged.

    Source: Blundell, Cornebise, Kavukcuoglu, Wierstra (2015), Weight uncertainty in neural networks, section 3.4;
    Graves (2011), Practical variational inference for neural networks, for equal weights.

    Example:
        >>> objective = taut.objectives.BatchELBO(taut.objectives.Blundell(2))
        >>> [round(float(objective.kl_weight(step)), 4) for step in (0, 1, 2)]
        [1.3333, 0.6667, 1.3333]
    """

    weights: KLWeights
    particles: int = 1
    bound: ClassVar[Bound | None] = "lower"
    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_particles(self)
        if not isinstance(self.weights, KLWeights):
            raise TautError(
                "kl-weights",
                site="weights",
                found=f"BatchELBO(weights={self.weights!r})",
                expected="weights that sum to 1, one per batch of an epoch",
                remedy="taut.objectives.BatchELBO(taut.objectives.Uniform(batches))",
            )

    def __str__(self) -> str:
        """See `Objective`."""
        name = type(self.weights).__name__
        return f"ELBO, its KL term shared out over {self.weights.batches} batches by {name} weights"

    @property
    def yardstick(self) -> Objective:
        """See `Objective`: fits are compared with the whole KL term in every batch."""
        return ELBO(particles=self.particles)

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`: of log-weights whose KL part is already weighed."""
        return jnp.mean(log_weights, axis=0)

    def kl_weight(self, step: Any = None) -> Any:
        """See `Objective`."""
        if step is None:
            return None
        return self.weights.batches * self.weights.share(jnp.asarray(step) % self.weights.batches)
