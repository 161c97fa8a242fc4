"""A fit beside the sampler that the field trusts: NUTS on the same log density, and what the two disagree on."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._keys import generator, jax_key
from taut._precision import scope
from taut.algorithms import Solution
from taut.guides import Flat, bind
from taut.problem import Problem

_SHIFT, _LOG_SD = 0.1, 0.1  # what the verdict of a fit calls the same
_SURE = 3.0  # standard errors
_RHAT, _ESS = 1.05, 100.0  # beyond which NUTS itself is no reference
_SHOWN = 40


@dataclass(frozen=True, eq=False)
class Reference:
    """NUTS beside a fit, one entry for each scalar of the latents and deterministic sites, in the model's own space.

    Attributes:
        names: ``"theta[3]"``.
        mean, sd: of NUTS's draws.
        mean_se, sd_se: their Monte Carlo errors.
        ess, rhat: effective sample size (bulk) and rank-normalised R-hat.
        shift, shift_se: (mean of the fit - mean of NUTS) / sd of NUTS, and its error.
        sd_ratio, sd_ratio_se: sd of the fit / sd of NUTS, and its error.
        divergences: transitions that diverged after warm-up.
        gradients: evaluations, warm-up included.
        values: NUTS's draws by site, ``(chains, draws, *shape)``.
        agrees: whether no scalar is off by more than 0.1 sd, or 10 % of an sd, and three errors; ``None`` where NUTS
            did not converge itself.
        verdict: the same as a sentence.

    Source: Vehtari et al. (2021), Rank-normalization, folding, and localization, for ESS and R-hat.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    mean_se: np.ndarray
    sd_se: np.ndarray
    ess: np.ndarray
    rhat: np.ndarray
    shift: np.ndarray
    shift_se: np.ndarray
    sd_ratio: np.ndarray
    sd_ratio_se: np.ndarray
    divergences: int
    gradients: int
    values: dict[str, np.ndarray] = field(repr=False)

    @property
    def agrees(self) -> bool | None:
        """See the class."""
        if not (np.all(self.rhat < _RHAT) and np.all(self.ess > _ESS)):
            return None
        return not bool((self._excess() > 0).any())

    @property
    def verdict(self) -> str:
        """See the class."""
        lost = f", {self.divergences} divergences" if self.divergences else ""
        if self.agrees is None:
            worst = int(np.argmax(self.rhat))
            return (
                f"NUTS is no reference here: R-hat {self.rhat[worst]:.3f} ({self.names[worst]}), smallest effective "
                f"sample size {self.ess.min():.0f}{lost}; take more draws or more warm-up."
            )
        if self.agrees:
            most = int(np.argmax(np.abs(self.shift)))
            return (
                f"NUTS agrees: largest shift {self.shift[most]:+.2f} ± {self.shift_se[most]:.2f} sd "
                f"({self.names[most]}), sd ratios {self.sd_ratio.min():.2f}-{self.sd_ratio.max():.2f}{lost}."
            )
        worst = int(np.argmax(self._excess()))
        return (
            f"NUTS differs: {self.names[worst]} has shift {self.shift[worst]:+.2f} ± {self.shift_se[worst]:.2f} sd and "
            f"sd ratio {self.sd_ratio[worst]:.2f} ± {self.sd_ratio_se[worst]:.2f}{lost}."
        )

    def _excess(self) -> np.ndarray:
        """How far a scalar is beyond what may be, ``(k,)``."""
        shift = np.abs(self.shift) - _SHIFT - _SURE * self.shift_se
        spread = np.abs(np.log(self.sd_ratio)) - _LOG_SD - _SURE * self.sd_ratio_se / self.sd_ratio
        return np.maximum(shift, spread)

    def __str__(self) -> str:
        order = np.arange(len(self.names))
        if len(order) > _SHOWN:  # those that differ most
            order = np.sort(np.argsort(-self._excess())[:_SHOWN])
        width = max(4, *(len(self.names[i]) for i in order))
        head = f"{'':{width}}  {'mean':>10}  {'sd':>10}  {'shift':>14}  {'sd ratio':>13}  {'ess':>6}  {'R-hat':>5}"
        lines = [self.verdict, "", head]
        for i in order:
            lines.append(
                f"{self.names[i]:{width}}  {self.mean[i]:10.4g}  {self.sd[i]:10.4g}  {self.shift[i]:+6.3f} ± "
                f"{self.shift_se[i]:5.3f}  {self.sd_ratio[i]:5.3f} ± {self.sd_ratio_se[i]:5.3f}  {self.ess[i]:6.0f}  "
                f"{self.rhat[i]:5.3f}"
            )
        if len(order) < len(self.names):
            lines.append(f"(the {len(order)} of {len(self.names)} scalars that differ most)")
        return "\n".join([*lines, "", f"mean, sd, ess: of NUTS, {self.gradients:,} gradients"])


def against_nuts(
    problem: Problem,
    solution: Solution,
    held: Mapping[str, np.ndarray],
    *,
    draws: int,
    warmup: int,
    chains: int,
    key: int | jax.Array,
) -> Reference:
    """Run NUTS on a problem and compare draws of a fit with it; see `Fit.check_against_nuts`.

    Args:
        problem: the problem on its full data; the model's own parameters stay where the fit left them.
        solution: what was fitted: chains start from draws of its guide, in its coordinates of hierarchies.
        held: draws that the fit's verdict covers, ``(n, *shape)`` by site.
        draws: of each chain.
        warmup: steps of window adaptation before them.
        chains: how many.
        key: an integer or a JAX key.

    Returns:
        `Reference`.

    Raises:
        TautError: ``missing-extra`` when blackjax or arviz-stats is not installed; ``bad-combination`` for a guide
            without coordinates on the real line to start from.
    """
    try:  # by name: types are checked where blackjax is absent too
        blackjax = importlib.import_module("blackjax")
        tools = importlib.import_module("arviz_stats.base").array_stats
    except ImportError as error:
        raise TautError(
            "missing-extra",
            found=f"no package {error.name}",
            expected="blackjax and arviz-stats, for fit.check_against_nuts()",
            remedy='pip install "taut[nuts]"',
        ) from error
    begin, _ = bind(solution.guide, problem).draws(problem, solution.params, chains, generator(key, 3200))
    if not isinstance(begin, Flat):
        raise TautError(
            "bad-combination",
            found=f"check_against_nuts of a fit whose guide is a {type(solution.guide).__name__}",
            expected="a guide on the real line, from whose draws the chains can start",
            remedy="taut.fit(model, data).check_against_nuts()",
        )
    lam = np.concatenate([np.asarray(begin.centredness, float)[: problem.dim], np.ones(problem.num_params)])
    own = np.asarray(solution.model_params, float)

    def chain(key: Any, start: Any, lam: Any, own: Any, inputs: Any) -> Any:
        def log_density(z: Any) -> Any:
            return problem.log_joint(jnp.concatenate([z, own]), lam, inputs)

        first, second = jax.random.split(key)
        adaptation = blackjax.window_adaptation(blackjax.nuts, log_density, target_acceptance_rate=0.9)
        (state, tuned), before = adaptation.run(first, start, num_steps=warmup)
        sampler = blackjax.nuts(log_density, **tuned)

        def step(state: Any, key: Any) -> Any:
            state, info = sampler.step(key, state)
            return state, (state.position, info.is_divergent, info.num_integration_steps)

        _, (z, divergent, steps) = jax.lax.scan(step, state, jax.random.split(second, draws))
        return z, divergent.sum(), steps.sum() + before.info.num_integration_steps.sum()

    with scope(problem.precision):
        run = jax.jit(chain)
        found = [
            jax.tree.map(np.asarray, run(each, begin.coordinates[k], lam, own, problem.inputs))
            for k, each in enumerate(jax.random.split(jax_key(key), chains))
        ]
    z = np.stack([part[0] for part in found]).astype(float)
    points = np.concatenate([z, np.broadcast_to(own, (*z.shape[:2], len(own)))], axis=2).reshape(chains * draws, -1)
    values = {
        name: value.reshape(chains, draws, *value.shape[1:])
        for name, value in problem.constrain(points, lam).items()
        if name not in problem.params and name in held
    }
    names = tuple(label for name, value in values.items() for label in _labels(name, value.shape[2:]))
    by_nuts = np.concatenate([np.moveaxis(v.reshape(chains, draws, -1), 2, 0) for v in values.values()])
    by_fit = np.concatenate([held[name].reshape(len(held[name]), -1) for name in values], axis=1)
    kept = (by_nuts.std(axis=(1, 2)) > 0) & (by_fit.std(axis=0) > 0)  # a deterministic site may be a constant
    by_nuts, by_fit = by_nuts[kept], by_fit[:, kept]
    sd = by_nuts.std(axis=(1, 2), ddof=1)
    n = len(by_fit)
    mean_se, sd_se = tools.mcse(by_nuts, method="mean"), tools.mcse(by_nuts, method="sd")
    ratio = by_fit.std(axis=0, ddof=1) / sd
    return Reference(
        names=tuple(label for label, keep in zip(names, kept, strict=True) if keep),
        mean=by_nuts.mean(axis=(1, 2)),
        sd=sd,
        mean_se=mean_se,
        sd_se=sd_se,
        ess=tools.ess(by_nuts),
        rhat=tools.rhat(by_nuts),
        shift=(by_fit.mean(axis=0) - by_nuts.mean(axis=(1, 2))) / sd,
        shift_se=np.hypot(mean_se / sd, ratio / np.sqrt(n)),
        sd_ratio=ratio,
        sd_ratio_se=ratio * np.hypot(sd_se / sd, 1 / np.sqrt(2 * n)),
        divergences=int(sum(part[1] for part in found)),
        gradients=int(sum(part[2] for part in found)),
        values=values,
    )


def _labels(name: str, shape: tuple[int, ...]) -> list[str]:
    if not shape:
        return [name]
    return [f"{name}[{', '.join(map(str, index))}]" for index in np.ndindex(*shape)]
