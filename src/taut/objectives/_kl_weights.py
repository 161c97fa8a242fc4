"""How a KL term is spread over the batches of an epoch: weights that sum to one, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taut._errors import TautError

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
        if isinstance(batches, bool) or not isinstance(batches, int) or batches < 1:
            raise TautError(
                "bad-argument",
                site="batches",
                found=f"batches={batches!r}",
                expected="a positive whole number",
                remedy="taut.objectives.Blundell(batches=len(y) // 128)",
            )
        index = np.arange(1, batches + 1, dtype=float)
        super().__init__(list(np.exp2(-index) / -np.expm1(-batches * np.log(2.0))))
