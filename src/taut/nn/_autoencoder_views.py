"""What a fitted autoencoder can be asked: codes, pictures, fresh samples, and how many of its latents do anything."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from taut._arguments import bad_argument, whole_number
from taut._errors import TautError
from taut._keys import jax_key
from taut._precision import real_dtype, scope
from taut.nn._autoencoder_rows import normal_of, one_or_all, outputs_of
from taut.nn._bayesian import is_real
from taut.nn._likelihoods import GaussianLikelihood, Likelihood

_BLOCK = 1024  # rows at once
_DRAWS = 32  # of the layers below, for the mean of a deep code


class Learned(Protocol):
    """A fit, also a loaded one: all that is read of it is its parameters."""

    @property
    def params(self) -> Any:
        """The learned parameters by name."""
        ...

    @property
    def facts(self) -> Any:
        """Choices, in words."""
        ...


@dataclass(frozen=True, eq=False)
class ActiveUnits:
    r"""Latents that follow the data: $A_u = \operatorname{Var}_x \mathbb E_q[z_u \mid x]$ above a threshold.

    A latent that has collapsed onto its prior has the same code for every row.

    Attributes:
        variances: $A_u$ by layer, ``float64[latents]``.
        threshold: above which a latent is active.
    """

    variances: dict[str, np.ndarray]
    threshold: float

    @property
    def count(self) -> dict[str, int]:
        """How many are active in each layer."""
        return {name: int(np.sum(value > self.threshold)) for name, value in self.variances.items()}

    def __str__(self) -> str:
        return "; ".join(
            f"{name}: {count} of {len(self.variances[name])} latents active" for name, count in self.count.items()
        )

    __repr__ = __str__


class Views:
    """The part of `VAE` that reads fits."""

    encoders: tuple[Any, ...]
    decoders: tuple[Any, ...]
    latents: tuple[int, ...]
    likelihood: Likelihood
    row: tuple[int, ...] | None

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the latents, that next to the data first: ``z``, or ``z1``, ``z2``, ..."""
        return ("z",) if len(self.latents) == 1 else tuple(f"z{k}" for k in range(1, len(self.latents) + 1))

    def fitted(self, fit: Learned) -> Self:
        """The same autoencoder with the weights of a fit, from which another fit may go on.

        Args:
            fit: of this autoencoder, or of one of the same sizes; a loaded one too.

        Raises:
            TautError: ``site-missing`` for a fit of something else.
        """
        found = copy.copy(self)
        for who, networks in (("encoder", self.encoders), ("decoder", self.decoders)):
            filled = _filled(who, one_or_all(networks), fit.params)
            object.__setattr__(found, f"{who}s", filled if len(networks) > 1 else (filled,))
        return found

    def encode(self, fit: Learned, x: Any, *, layer: int = 1, key: int | jax.Array | None = None) -> np.ndarray:
        """The code of rows: the location of q, or with a key a draw from it.

        Args:
            fit: a fit of this autoencoder; a loaded one too.
            x: rows, ``(n, *row)``.
            layer: which stochastic layer, 1 next to the data.
            key: draws every layer; without it each layer stands at the location of the one below.

        Returns:
            ``float[n, latents]``.
        """
        self._check_layer(layer)
        rows = self.intensities(x)
        return _by_block(self.fitted(fit), fit, rows, key, lambda vae, rows, key: vae._up(rows, layer, key, key))

    def decode(self, fit: Learned, z: Any, *, layer: int = 1, key: int | jax.Array | None = None) -> np.ndarray:
        """The mean of rows given codes.

        Args:
            fit: a fit of this autoencoder; a loaded one too.
            z: codes of that layer, ``(n, latents)``.
            layer: which stochastic layer they are of, 1 next to the data.
            key: draws the layers between; without it they stand at their locations.

        Returns:
            ``float[n, *row]``: of black-and-white pixels the probability of white.
        """
        self._check_layer(layer)
        width = self.latents[layer - 1]
        if np.ndim(z) != 2 or np.shape(z)[1] != width:
            expected = f"(n, {width}) for layer {layer}"
            raise bad_argument("z", f"codes of shape {np.shape(z)}", expected, "vae.encode(fit, x)")

        def mean(vae: Self, codes: Any, key: Any) -> Any:
            return vae.likelihood.mean(vae._down(codes, layer, key))

        return _by_block(self.fitted(fit), fit, z, key, mean)

    def reconstruct(self, fit: Learned, x: Any, *, layer: int = 1, key: int | jax.Array | None = None) -> np.ndarray:
        """Rows through the encoder and back: `decode` of `encode`; arguments as there. ``float`` of the shape of x."""
        codes = self.encode(fit, x, layer=layer, key=key)
        other = None if key is None else jax.random.fold_in(jax_key(key), 1)
        return self.decode(fit, codes, layer=layer, key=other).reshape(np.shape(x))

    def sample(self, fit: Learned, n: int, key: int | jax.Array = 0, *, drawn: bool = False) -> np.ndarray:
        """Fresh rows from the model.

        Args:
            fit: a fit of this autoencoder; a loaded one too.
            n: how many.
            key: an integer or a JAX key.
            drawn: draw the pixels, too; by default each row is the mean given its latents.

        Returns:
            ``float[n, *row]``.
        """
        n = whole_number("n", n, "vae.sample(fit, 64)")
        scale = fit.params["x_scale"].value if "x_scale" in fit.params else None
        layers = len(self.latents)

        def fresh(vae: Self, rows: Any, key: Any) -> Any:
            top, below, pixels = jax.random.split(key, 3)
            z = jax.random.normal(top, (len(rows), vae.latents[-1]), real_dtype())
            outputs = vae._down(z, layers, below)
            return vae.likelihood.given(outputs, scale).sample(pixels) if drawn else vae.likelihood.mean(outputs)

        return _by_block(self.fitted(fit), fit, np.zeros((n, 0)), key, fresh)

    def active_units(self, fit: Learned, x: Any, *, threshold: float = 0.01, key: int | jax.Array = 0) -> ActiveUnits:
        r"""How many latents follow the data, and how strongly: a number for posterior collapse.

        Args:
            fit: a fit of this autoencoder; a loaded one too.
            x: rows.
            threshold: variance above which a latent is active.
            key: of the draws of the layers below, where there are several.

        Source: Burda, Grosse, Salakhutdinov (2016), section 5.2.
        """
        variances, x = {}, self.intensities(x)
        for layer, name in enumerate(self.sites, 1):

            def location(vae: Self, rows: Any, key: Any, layer: int = layer) -> Any:
                if layer == 1:
                    return vae._up(rows, 1, None, None)
                # Given draws of the layers below, averaged over them.
                return jnp.mean(
                    jax.vmap(lambda k: vae._up(rows, layer, k, None))(jax.random.split(key, _DRAWS)), axis=0
                )

            variances[name] = np.var(_by_block(self.fitted(fit), fit, x, key, location).astype(float), axis=0)
        return ActiveUnits(variances, threshold)

    def intensities(self, x: Any) -> np.ndarray:
        """Rows as the encoder knows them: of images whole numbers of 8 bits become intensities from 0 to 1.

        Raises:
            TautError: ``data-support`` for other values beyond 0 and 1 where the likelihood has none.
        """
        x = np.asarray(x)
        if isinstance(self.likelihood, GaussianLikelihood) or not x.size:
            return x
        low, high = float(np.min(x)), float(np.max(x))
        if x.dtype == np.uint8 and high > 1:
            return x / np.float32(255.0)
        if not 0.0 <= low <= high <= 1.0:
            raise TautError(
                "data-support",
                site="x",
                found=f"values from {low:g} to {high:g}",
                expected="intensities from 0 to 1, or whole numbers of 8 bits (uint8)",
                remedy="x = x / 255",
            )
        return x

    def _up(self, rows: Any, layer: int, below: Any, last: Any) -> Any:
        """Codes of a layer: with a key ``below`` from draws of the layers below, with ``last`` a draw themselves."""
        for place in range(layer):
            normal = normal_of("encoder", self.encoders[place], rows, self.latents[place])
            rows = _at(normal, below if place < layer - 1 else last, place)
        return rows

    def _down(self, z: Any, layer: int, key: Any) -> Any:
        """What the decoder says of rows, ``float[n, outputs, *row]``; with a key the layers between are drawn."""
        for place in range(layer - 2, -1, -1):
            z = _at(normal_of("decoder", self.decoders[place + 1], z, self.latents[place]), key, place)
        row = self.row
        if row is None:
            # As the decoder gives it; location and log scale may be two arrays, or one.
            first, *others = jax.tree.leaves(jax.eval_shape(jax.vmap(self.decoders[0]), z))
            whole = self.likelihood.outputs == 1 or others
            row = first.shape[1:] if whole else (first.size // len(z) // 2,)
        return outputs_of(self.decoders[0], z, self.likelihood.outputs, row)

    def _check_layer(self, layer: int) -> None:
        if layer not in range(1, len(self.latents) + 1):
            expected = f"one of {len(self.latents)} stochastic layers, counted from 1"
            raise bad_argument("layer", f"layer={layer!r}", expected, "layer=1")


def _at(normal: Any, key: Any, place: int) -> Any:
    """The location of a normal, or with a key a draw from it."""
    return normal.base_dist.loc if key is None else normal.sample(jax.random.fold_in(key, place))


def _by_block(vae: Any, fit: Learned, rows: Any, key: Any, fn: Callable[..., Any]) -> np.ndarray:
    """A function of rows, some of them at a time, each block with a key of its own."""
    parts, given = [], np.asarray(rows)
    with scope("float64" if fit.facts.get("precision") == "float64" else "float32"):
        for start in range(0, len(given), _BLOCK):
            here = None if key is None else jax.random.fold_in(jax_key(key), start)
            parts.append(np.asarray(fn(vae, jnp.asarray(given[start : start + _BLOCK], real_dtype()), here)))
    if not parts:
        raise bad_argument("x", f"rows of shape {given.shape}", "at least one row", "vae.encode(fit, x)")
    return np.concatenate(parts)


def _filled(who: str, networks: Any, params: Any) -> Any:
    """Networks with the leaves that a fit learned, by the names that `bayesian` gave them."""
    entries, treedef = jax.tree_util.tree_flatten_with_path(networks)
    leaves = []
    for path, leaf in entries:
        place = jax.tree_util.keystr(path).lstrip(".")
        name = f"{who}${place}" if place else who
        if not is_real(leaf):
            leaves.append(leaf)
            continue
        if name not in params or np.shape(params[name]) != np.shape(leaf):
            has = f"{name!r} of shape {np.shape(params[name])}" if name in params else f"no {name!r}"
            raise TautError(
                "site-missing",
                site=name,
                found=f"a fit with {has}",
                expected=f"a fit of this autoencoder, with {name!r} of shape {np.shape(leaf)}",
                remedy="fit = taut.fit(vae.model, batches, guide=vae.guide)",
            )
        leaves.append(np.asarray(params[name].value))
    return jax.tree_util.tree_unflatten(treedef, leaves)
