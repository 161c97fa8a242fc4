"""Pruning: weights whose sign q is not sure of are set to zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut.nn._fitted import Fitted, problem_of, weights_of
from taut.problem import Problem


def signal_to_noise(fit: Fitted, sites: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    r"""The ratio $|\mu| / \sigma$ of every weight: how far from zero q puts it, in units of its own spread.

    From the guide's parameters where it is mean-field in the weights themselves, from draws otherwise.

    Args:
        fit: a fit of a network.
        sites: which sites; by default all weights that `bayesian` drew.

    Returns:
        By site, an array of the site's shape.

    Source: Blundell, Cornebise, Kavukcuoglu, Wierstra (2015), Weight uncertainty in neural networks, section 5.1.

    Example:
        >>> taut.nn.signal_to_noise(fit)["net$layers[0].weight"]        # doctest: +SKIP
    """
    return {name: _ratio(fit, name) for name in (weights_of(fit) if sites is None else tuple(sites))}


@dataclass(frozen=True)
class Pruned:
    """A fit with weights set to zero.

    Attributes:
        fit: the fit.
        kept: which weights are left, by site.
    """

    fit: Any = field(repr=False)
    kept: Mapping[str, np.ndarray]

    @property
    def fraction(self) -> float:
        """The share of weights that are zero."""
        total = sum(mask.size for mask in self.kept.values())
        return 1.0 - sum(int(mask.sum()) for mask in self.kept.values()) / total

    def draws(self, n: int | None = None, key: int | jax.Array = 0) -> dict[str, np.ndarray]:
        """Draws of the fit with the pruned weights at zero; arguments as for ``fit.draws``."""
        found = dict(self.fit.draws(n, key))
        for name, mask in self.kept.items():
            for site in (name, f"{name}/z"):  # a horseshoe's weight is zero where its z is
                if site in found:
                    found[site] = np.where(mask, found[site], 0.0)
        return found

    def predict(
        self, data: Mapping[str, Any] | None = None, n: int | None = None, key: int | jax.Array = 0
    ) -> dict[str, np.ndarray]:
        """Predictive draws of the pruned network; arguments as for ``fit.predict``.

        Raises:
            TautError: ``no-model`` for a loaded fit.
        """
        problem: Problem = problem_of(self.fit, "taut.nn.prune(fit, 0.5).predict(data)")
        return problem.predict(self.draws(n, key), data, key=key)


def prune(fit: Fitted, fraction: float, sites: Iterable[str] | None = None) -> Pruned:
    r"""Set the weights of least `signal_to_noise` to zero, over all layers together.

    Args:
        fit: a fit of a network.
        fraction: the share of weights to set to zero, 0 to 1.
        sites: which sites may be pruned; by default all weights that `bayesian` drew.

    Returns:
        A `Pruned` network with ``draws`` and ``predict``.

    Raises:
        TautError: ``bad-argument`` for a share outside of 0 and 1.

    Source: Blundell, Cornebise, Kavukcuoglu, Wierstra (2015), section 5.1; Graves (2011) for the criterion.

    Example:
        >>> taut.nn.prune(fit, 0.75).predict(dict(x=x))                 # doctest: +SKIP
    """
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        raise TautError(
            "bad-argument",
            site="fraction",
            found=f"prune(fit, {fraction!r})",
            expected="a share from 0 to 1",
            remedy="taut.nn.prune(fit, 0.75)",
        )
    ratios = signal_to_noise(fit, sites)
    flat = np.concatenate([ratio.ravel() for ratio in ratios.values()])
    gone = np.zeros(flat.size, bool)
    gone[np.argsort(flat, kind="stable")[: int(fraction * flat.size + 1e-9)]] = True
    kept, start = {}, 0
    for name, ratio in ratios.items():
        kept[name] = ~gone[start : start + ratio.size].reshape(ratio.shape)
        start += ratio.size
    return Pruned(fit, kept)


def _ratio(fit: Fitted, name: str) -> np.ndarray:
    problem, params = fit.problem, fit.params
    if problem is not None and name in problem.latents and {"loc", "log_scale"} <= set(params):
        latent, part = problem.latents[name], problem.layout[name]
        if latent.support == "real" and not latent.hierarchical and len(params["loc"]) == problem.dim:
            ratio = np.abs(np.asarray(params["loc"])[part]) * np.exp(-np.asarray(params["log_scale"])[part])
            return ratio.reshape(latent.shape)
    marginal = fit[name]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.abs(marginal.mean) / marginal.sd
    # A weight without spread is as sure as can be.
    return np.where(np.isnan(found), 0.0, found)
