r"""Variational autoencoders: a model and a guide made of an encoder and a decoder, and nothing else.

$$p(x, z) = p(z_L) \prod_{l < L} p(z_l \mid z_{l+1})\, p(x \mid z_1), \qquad
  q(z \mid x) = q(z_1 \mid x) \prod_{l < L} q(z_{l+1} \mid z_l)$$
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut._keys import generator
from taut._precision import real_dtype
from taut.core import plate, sample
from taut.nn._autoencoder_rows import normal_of, one_or_all, outputs_of
from taut.nn._autoencoder_views import Views
from taut.nn._bayesian import bayesian
from taut.nn._dense import Dense
from taut.nn._likelihoods import Likelihood, likelihood_of


@dataclass(frozen=True, eq=False, init=False, repr=False)
class VAE(Views):
    r"""A variational autoencoder: `model` and `guide` for `taut.fit`, of one stochastic layer or of several.

    Encoders and decoders are Equinox modules, or any callable pytrees with arrays, and see one row at a time. What the
    objective is (`ELBO`, `IWAE`), how it is differentiated and how long is said to `taut.fit`, as for any model.

    Args:
        encoder: from a row of ``x`` to location and log scale of $z_1$, a pair of arrays or one array of both. For
            several layers a sequence, the next from $z_1$ to $z_2$.
        decoder: from $z_1$ to what the likelihood takes, such as a logit for each pixel. For several layers a sequence,
            the next from $z_2$ to location and log scale of $z_1$.
        latents: numbers of each layer, $z_1$ first.
        likelihood: ``"bernoulli"``, ``"continuous-bernoulli"``, ``"gaussian"``, or a `Likelihood`.
        plate: name of the plate of the rows, as `taut.data.Batches` is told.
        row: shape of a row, for a decoder that returns it flat; where it is not given, pictures and reconstructions
            have the decoder's own shape.

    Raises:
        TautError: ``bad-argument`` for other numbers of encoders, decoders and latents, and, when the model is traced,
            for outputs of the wrong size.

    Source: Kingma, Welling (2014), Auto-encoding variational Bayes; Burda, Grosse, Salakhutdinov (2016), Importance
    weighted autoencoders.

    Example:
        >>> vae = taut.nn.VAE.mlp(64, hidden=(32,), latents=4)
        >>> problem = taut.Problem(vae.model, dict(x=np.zeros((10, 64))))
        >>> list(problem.latents), problem.latents["z"].shape
        (['z'], (10, 4))
    """

    encoders: tuple[Any, ...]
    decoders: tuple[Any, ...]
    latents: tuple[int, ...]
    likelihood: Likelihood
    plate: str
    row: tuple[int, ...] | None

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        latents: int | Sequence[int],
        likelihood: str | Likelihood = "bernoulli",
        *,
        plate: str = "images",
        row: Sequence[int] | None = None,
    ):
        sizes = (latents,) if isinstance(latents, int | np.integer) else tuple(latents)
        for name, value in dict(
            encoders=_several(encoder),
            decoders=_several(decoder),
            latents=tuple(int(size) for size in sizes),
            likelihood=likelihood_of(likelihood),
            plate=plate,
            row=None if row is None else tuple(row),
        ).items():
            object.__setattr__(self, name, value)
        counts = len(self.encoders), len(self.decoders), len(self.latents)
        if len(set(counts)) > 1 or not counts[0] or min(self.latents) < 1:
            raise TautError(
                "bad-argument",
                site="latents",
                found=f"{counts[0]} encoders, {counts[1]} decoders and latents={latents!r}",
                expected="as many of each as there are stochastic layers, and at least one latent in each",
                remedy="taut.nn.VAE([x_to_z1, z1_to_z2], [z1_to_x, z2_to_z1], latents=(100, 50))",
            )

    @classmethod
    def mlp(
        cls,
        pixels: int | tuple[int, ...],
        hidden: Sequence[int] | Sequence[Sequence[int]] = (200, 200),
        latents: int | Sequence[int] = 50,
        likelihood: str | Likelihood = "bernoulli",
        *,
        activation: Callable[[Any], Any] = jnp.tanh,
        mean: Any = None,
        plate: str = "images",
        key: int | jax.Array = 0,
    ) -> VAE:
        """The usual one: dense layers, the same widths on the way back.

        With two layers as in Burda et al. (2016): ``VAE.mlp(784, ((200, 200), (100, 100)), (100, 50))`` is x -> 200,
        200 -> z1 (100) -> 100, 100 -> z2 (50), and back.

        Args:
            pixels: numbers of a row, or its shape.
            hidden: widths of the hidden layers, of every stochastic layer alike, or one tuple for each.
            latents: numbers of each stochastic layer, that next to the data first.
            likelihood: see `VAE`.
            activation: of the hidden layers.
            mean: the mean row of the data, at whose logits (or values) the decoder's last biases begin; else at zero.
            plate: see `VAE`.
            key: an integer or a JAX key: of the first weights.

        Raises:
            TautError: ``bad-argument``.
        """
        sizes = [int(latents)] if isinstance(latents, int | np.integer) else [int(size) for size in latents]
        nested = any(not isinstance(width, int | np.integer) for width in hidden)
        widths: list[Any] = [tuple(w) for w in hidden] if nested else [tuple(hidden)] * len(sizes)  # type: ignore[arg-type]
        if len(widths) != len(sizes):
            raise TautError(
                "bad-argument",
                site="hidden",
                found=f"hidden layers for {len(widths)} stochastic layers, and latents={latents!r}",
                expected="one tuple of widths for each stochastic layer, or one for all",
                remedy="hidden=((200, 200), (100, 100)), latents=(100, 50)",
            )
        chosen = likelihood_of(likelihood)
        numbers = int(np.prod(pixels, dtype=int))
        keys = generator(key, 0).integers(0, 2**31, (2, len(sizes)))
        below = [numbers, *sizes[:-1]]
        encoders = [
            Dense(a, w, b, normal=True, activation=activation, key=int(k))
            for a, w, b, k in zip(below, widths, sizes, keys[0], strict=True)
        ]
        decoders = [
            Dense(
                b,
                w[::-1],
                a * (chosen.outputs if layer == 0 else 1),
                normal=layer > 0,
                activation=activation,
                key=int(k),
            )
            for layer, (a, w, b, k) in enumerate(zip(below, widths, sizes, keys[1], strict=True))
        ]
        if mean is not None:
            decoders[0] = _starting_at(decoders[0], np.ravel(np.asarray(mean, float)), numbers, chosen)
        row = (pixels,) if isinstance(pixels, int | np.integer) else tuple(pixels)
        return cls(encoders, decoders, sizes, chosen, plate=plate, row=row)

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.latents))
        return f"VAE(latents=({sizes}), likelihood={self.likelihood}, plate={self.plate!r})"

    def model(self, x: Any) -> None:
        """The generative model of rows ``x``, whose decoders are learned as points."""
        x = jnp.asarray(x, real_dtype())
        row = x.shape[1:]
        decoders = _several(bayesian("decoder", one_or_all(self.decoders), prior=None))
        learned = self.likelihood.learned(row)
        with plate(self.plate, len(x)):
            top = dist.Normal(0.0, 1.0).expand([self.latents[-1]]).to_event(1)
            z = sample(self.sites[-1], top)
            for layer in range(len(self.latents) - 2, -1, -1):
                fn = normal_of("decoder", decoders[layer + 1], z, self.latents[layer])
                z = sample(self.sites[layer], fn)
            given = self.likelihood.given(outputs_of(decoders[0], z, self.likelihood.outputs, row), learned)
            note = {"remedy": self.likelihood.remedy} if self.likelihood.remedy else {}
            sample("x", given.to_event(len(row)), obs=x, infer=note, allow=self.likelihood.allow)

    def guide(self, x: Any) -> None:
        """The encoders, from the data upwards, whose weights are the guide's parameters."""
        encoders = _several(bayesian("encoder", one_or_all(self.encoders), prior=None))
        h = jnp.asarray(x, real_dtype())
        with plate(self.plate, len(x)):
            for name, encoder, size in zip(self.sites, encoders, self.latents, strict=True):
                h = sample(name, normal_of("encoder", encoder, h, size))


def _several(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _starting_at(decoder: Dense, mean: np.ndarray, numbers: int, likelihood: Likelihood) -> Dense:
    """A decoder that says the mean row, whatever its latents, but for its weights."""
    if mean.shape != (numbers,) or not np.all(np.isfinite(mean)):
        raise TautError(
            "bad-argument",
            site="mean",
            found=f"a mean row of {mean.size} numbers",
            expected=f"{numbers} finite numbers",
            remedy="mean=x.mean(0)",
        )
    start = likelihood.start(mean)
    bias = np.zeros_like(decoder.biases[-1])
    bias[:numbers] = start
    return eqx.tree_at(lambda d: d.biases[-1], decoder, bias)
