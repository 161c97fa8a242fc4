"""What a decoder's numbers mean: the distribution of a row given its latents."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut.core import param


class Likelihood(abc.ABC):
    """How an autoencoder's decoder describes a row, number by number.

    Attributes:
        outputs: numbers that the decoder gives for each number of a row.
        allow: codes of checks that the observed site is exempt from.
        remedy: what to do about data that the likelihood cannot have, in a line; none is the library's own.
    """

    outputs: ClassVar[int] = 1
    allow: tuple[str, ...] = ()
    remedy: ClassVar[str | None] = None

    def learned(self, shape: tuple[int, ...]) -> Any:
        """What is learned beside the decoder; called once, outside of the plate of the rows."""
        return None

    @abc.abstractmethod
    def given(self, outputs: Any, learned: Any) -> Any:
        """The distribution of rows, from the decoder's numbers ``float[rows, outputs, *row]``."""

    @abc.abstractmethod
    def mean(self, outputs: Any) -> Any:
        """Its mean, ``float[rows, *row]``."""

    def start(self, mean: np.ndarray) -> np.ndarray:
        """The decoder's numbers at which its mean is near a given one."""
        return np.log(np.clip(mean, 0.001, 0.999)) - np.log1p(-np.clip(mean, 0.001, 0.999))


@dataclass(frozen=True)
class BernoulliLikelihood(Likelihood):
    r"""Black or white, $x \sim \text{Bernoulli}(\sigma(l))$ with the decoder's numbers for logits $l$.

    Grey values have no probability under it, and are refused unless it is said that the cross-entropy is meant.

    Args:
        soft_targets: take grey values, with $x \log\sigma(l) + (1 - x) \log\sigma(-l)$, which is no likelihood.
    """

    soft_targets: bool = False
    remedy: ClassVar[str | None] = (
        'fresh black-and-white images at every step: taut.data.Batches(..., transform=taut.data.Binarise("x")), or '
        "once and for all taut.data.binarise(x); or the density of grey values, "
        'likelihood="continuous-bernoulli"; or, if the cross-entropy is meant, '
        "likelihood=taut.nn.BernoulliLikelihood(soft_targets=True), on intensities from 0 to 1"
    )

    @property
    def allow(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Likelihood`."""
        return ("soft-targets",) if self.soft_targets else ()

    def given(self, outputs: Any, learned: Any) -> Any:
        """See `Likelihood`."""
        return dist.Bernoulli(logits=outputs[:, 0])

    def mean(self, outputs: Any) -> Any:
        """See `Likelihood`."""
        return jax.nn.sigmoid(outputs[:, 0])


@dataclass(frozen=True)
class ContinuousBernoulliLikelihood(Likelihood):
    """Grey values between 0 and 1, the decoder's numbers for logits; see `taut.dist.ContinuousBernoulli`."""

    remedy: ClassVar[str | None] = "intensities from 0 to 1: x / 255 for whole numbers of 8 bits"

    def given(self, outputs: Any, learned: Any) -> Any:
        """See `Likelihood`."""
        return dist.ContinuousBernoulli(logits=outputs[:, 0])

    def mean(self, outputs: Any) -> Any:
        """See `Likelihood`."""
        return dist.ContinuousBernoulli(logits=outputs[:, 0]).mean


@dataclass(frozen=True)
class GaussianLikelihood(Likelihood):
    r"""Any numbers, $x \sim \mathcal N(m, s^2)$ with the decoder's numbers for locations $m$.

    Args:
        scale: $s$: ``"learned"``, one for all numbers; ``"decoder"``, which then gives $m$ and $\log s$ for each; or a
            positive number that stays.

    Raises:
        TautError: ``bad-argument`` for another scale.
    """

    scale: float | Literal["learned", "decoder"] = "learned"

    def __post_init__(self) -> None:
        number = isinstance(self.scale, int | float | np.floating) and not isinstance(self.scale, bool)
        if not (self.scale in ("learned", "decoder") or (number and 0 < float(self.scale) < math.inf)):
            raise TautError(
                "bad-argument",
                site="scale",
                found=f"GaussianLikelihood(scale={self.scale!r})",
                expected='a positive number, "learned" or "decoder"',
                remedy="taut.nn.GaussianLikelihood(scale=0.1)",
            )

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """See `Likelihood`."""
        return 2 if self.scale == "decoder" else 1

    def learned(self, shape: tuple[int, ...]) -> Any:
        """See `Likelihood`."""
        return param("x_scale", 1.0, constraint=dist.constraints.positive) if self.scale == "learned" else None

    def given(self, outputs: Any, learned: Any) -> Any:
        """See `Likelihood`."""
        scale = learned if self.scale == "learned" else self.scale if self.outputs == 1 else jnp.exp(outputs[:, 1])
        return dist.Normal(outputs[:, 0], scale)

    def mean(self, outputs: Any) -> Any:
        """See `Likelihood`."""
        return outputs[:, 0]

    def start(self, mean: np.ndarray) -> np.ndarray:
        """See `Likelihood`."""
        return mean


_BY_NAME: dict[str, Likelihood] = {
    "bernoulli": BernoulliLikelihood(),
    "continuous-bernoulli": ContinuousBernoulliLikelihood(),
    "gaussian": GaussianLikelihood(),
}


def likelihood_of(given: str | Likelihood) -> Likelihood:
    """A likelihood, or the one of that name.

    Raises:
        TautError: ``bad-argument``.
    """
    if isinstance(given, Likelihood):
        return given
    if isinstance(given, str) and given in _BY_NAME:
        return _BY_NAME[given]
    name = getattr(given, "__name__", None) or repr(given)
    raise TautError(
        "bad-argument",
        site="likelihood",
        found=f"likelihood={name}",
        expected=f"one of {', '.join(map(repr, _BY_NAME))}, or a taut.nn.Likelihood",
        remedy='likelihood="bernoulli"',
    )
