"""What `taut.fit` returns: the verdict first, then the posterior by site name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from taut import diagnostics, report
from taut._files import atomic_write
from taut._keys import generator
from taut.algorithms import Response, Solution, linear_response
from taut.diagnostics import CORRECTED, Verdict
from taut.fitting._discrete import Enumerated
from taut.fitting._encodes import Encodes
from taut.fitting._evidence import evidence_of
from taut.fitting._gradient_noise import Noisy
from taut.fitting._guide_view import FittedGuide
from taut.fitting._loss import Loss, loss_of
from taut.fitting._marginal import Marginal
from taut.fitting._nuts import Reference, against_nuts
from taut.fitting._params import Params
from taut.fitting._refusals import loaded, too_many, unknown
from taut.fitting._store import read_fit, write_fit
from taut.fitting._unconstrained import Unconstrained, unconstrained
from taut.interop import to_arviz
from taut.problem import NewRows, Problem
from taut.problem import predictive as run_forward


@dataclass(frozen=True, eq=False)
class Fit(Encodes, Enumerated, Noisy):
    """A fitted posterior.

    `print` leads with the verdict. ``fit["tau"]`` is one site in the model's own space; every summary is of the draws
    that the verdict covers: q itself, or corrected draws when only these are usable: particles that SMC carried from q
    to the posterior, or importance-weighted draws of q where no SMC was run.

    Attributes:
        title: the model's name.
        verdict: whether to believe it, and why.
        status: how the run ended: ``converged``, ``plateaued``, ``budget``, ``nonfinite`` or ``interrupted``.
        values: draws by site, ``(S, *shape)``, from q or, where SMC corrected them, from the posterior; parameters have
            one row.
        log_weights: ``log p - log q`` of the draws, ``float64[S]``, or ``None`` for a point and for particles.
        kinds, supports: of each site.
        guide: the fitted guide by name, in the model's own space; as text it is the family's name.
        params: what was learned, the guide's parameters and then the model's: as arrays on the real line, with
            ``.value`` in their own space and the ``.transform`` between the two; ``print`` shows a table.
        numbers: figures by name: value, standard error or ``None``, unit.
        history: ``float64[T, 3]``: gradients so far, objective, its standard error.
        held_out: the same of held-out rows, for each look at them.
        facts: versions and choices, in words.
        guide_draws, guide_log_weights: q's own draws of the latents and their weights, where ``values`` are particles.
        state: arrays from which a stochastic run can go on; see ``resume`` of `taut.fit`.
        problem: the problem, unless the fit was loaded.
        solution: what the algorithm found, unless the fit was loaded.
    """

    title: str
    verdict: Verdict
    status: str
    values: dict[str, np.ndarray]
    log_weights: np.ndarray | None
    kinds: dict[str, str]
    supports: dict[str, str]
    guide: FittedGuide
    params: Params
    numbers: dict[str, tuple[float, float | None, str]]
    history: np.ndarray
    facts: dict[str, str]
    held_out: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    guide_draws: dict[str, np.ndarray] = field(default_factory=dict)
    guide_log_weights: np.ndarray | None = None
    state: tuple[np.ndarray, ...] = field(default=(), repr=False)
    problem: Problem | None = field(default=None, repr=False)
    solution: Solution | None = field(default=None, repr=False)

    # -- the posterior --------------------------------------------------------------------------------------------

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of all sites, in program order, but for the bases of latents that NumPyro's `reparam` computes."""
        return tuple(n for n in self.values if self.kinds[n] != "base")

    def __getitem__(self, name: str) -> Marginal:
        if name not in self.values:
            raise unknown(name, self.values)
        values = self.values[name]
        weights = None if self.kinds[name] == "param" else self._weights()
        return Marginal(name, self.kinds[name], self.supports[name], values, weights)

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def cov(self, first: str | Sequence[str], second: str | None = None) -> np.ndarray:
        """Posterior covariance in the model's own space.

        Args:
            first: one site; or several, whose scalars are laid side by side.
            second: another site.

        Returns:
            ``(*first, *second)`` for two sites; a square matrix over all scalars for several.

        Example:
            >>> fit.cov("mu", "tau")                    # doctest: +SKIP
            >>> fit.cov(["mu", "tau"])                  # doctest: +SKIP
        """
        if second is not None and isinstance(first, str):
            return diagnostics.cov(self[first].values, self[second].values, self._weights())
        names = [first] if isinstance(first, str) else list(first)
        flat = np.concatenate([self[n].values.reshape(len(self[n].values), -1) for n in names], axis=1)
        return diagnostics.cov(flat, flat, self._weights())

    def corr(self, first: str | Sequence[str], second: str | None = None) -> np.ndarray:
        """Posterior correlation; arguments and shape as for `cov`."""
        c = self.cov(first, second)
        if second is not None and isinstance(first, str):
            a, b = self[first].sd, self[second].sd
            return c / (a.reshape(a.shape + (1,) * b.ndim) * b)
        sd = np.sqrt(np.diag(c))
        return c / np.outer(sd, sd)

    def linear_response(self, name: str, key: int | jax.Array = 0) -> Response:
        """Spread of a site by linear response: what a mean-field guide knows of it and does not show.

        Args:
            name: a latent or a deterministic site.
            key: of the fixed draws.

        Returns:
            `Response` in the model's own space: ``sd`` of the site's shape, ``covariance`` ``(*shape, *shape)``.

        Raises:
            TautError: ``no-model`` for a loaded fit; else as `taut.algorithms.linear_response`.

        Example:
            >>> fit.linear_response("mu").sd            # doctest: +SKIP
        """
        if self.problem is None or self.solution is None:
            raise loaded("fit.linear_response(name)")
        if name not in self.values:
            raise unknown(name, self.values)
        found = linear_response(self.problem, self.solution, name, key)
        shape = self.values[name].shape[1:]
        return found._replace(sd=found.sd.reshape(shape), covariance=found.covariance.reshape(shape + shape))

    @property
    def unconstrained(self) -> Unconstrained:
        """What the guide's parameters say, by site: on the real line, with the map's name and the value it leads to.

        Raises:
            TautError: ``no-model`` for a loaded fit.

        Example:
            >>> fit.unconstrained["sigma"].loc          # doctest: +SKIP
        """
        if self.problem is None or self.solution is None:
            raise loaded("fit.unconstrained")
        return unconstrained(self.problem, self.solution)

    def check_against_nuts(
        self, draws: int = 1000, *, warmup: int = 1000, chains: int = 4, key: int | jax.Array = 0
    ) -> Reference:
        """Run NUTS on the same density and compare: means, sds, their errors and a one-line verdict.

        Args:
            draws: of each chain.
            warmup: steps of window adaptation before them.
            chains: how many; they start from draws of q.
            key: an integer or a JAX key.

        Returns:
            `Reference`; ``print`` shows a table.

        Raises:
            TautError: ``missing-extra`` without blackjax; ``no-model`` for a loaded fit.

        Example:
            >>> print(fit.check_against_nuts())         # doctest: +SKIP
        """
        if self.problem is None or self.solution is None:
            raise loaded("fit.check_against_nuts()")
        held = self.draws(self.held, key)
        return against_nuts(self.problem, self.solution, held, draws=draws, warmup=warmup, chains=chains, key=key)

    def draws(self, n: int | None = None, key: int | jax.Array = 0) -> dict[str, np.ndarray]:
        """Draws that the verdict covers, equally weighted.

        When the verdict is *trusted after correction* these are SMC's particles, or q's draws resampled by their
        smoothed weights where no SMC was run; otherwise they are q's own.

        Args:
            n: how many; by default 4,000, or all there are if fewer.
            key: which draws are picked; the same key gives the same draws, before and after saving.

        Returns:
            Sites by name, ``(n, *shape)``; deterministic sites included.

        Raises:
            TautError: ``too-many-draws`` when the fit does not hold so many.
        """
        held = self.held
        n = min(4000, held) if n is None else n
        if n > held:
            raise too_many(n, held)
        rng = generator(key, 2000)
        log_weights = self._weights()
        if log_weights is None:
            pick = np.arange(n) if n == held else rng.permutation(held)[:n]
        else:
            # Systematic resampling: each draw appears its expected number of times, rounded.
            weights = np.exp(log_weights - log_weights.max())
            edges = np.cumsum(weights / weights.sum())
            pick = rng.permutation(np.searchsorted(edges, (rng.uniform() + np.arange(n)) / n).clip(0, held - 1))
        return {
            name: np.repeat(v, n, axis=0) if self.kinds[name] == "param" else v[pick] for name, v in self.values.items()
        }

    @property
    def held(self) -> int:
        """How many draws the fit holds."""
        return max(len(v) for v in self.values.values())

    def predict(
        self,
        data: Mapping[str, Any] | None = None,
        n: int | None = None,
        key: int | jax.Array = 0,
        *,
        new_rows: NewRows | Literal["encode"] = "error",
        model: Any = None,
    ) -> dict[str, np.ndarray]:
        """Posterior predictive draws.

        Args:
            data: arguments for the model, observations left out; by default the fit's own data, observed sites drawn
                anew.
            n: number of draws; 4,000 by default.
            key: an integer or a JAX key.
            new_rows: ``"prior"`` draws latents of plates with other rows from their prior given the rest, ``"encode"``
                by an amortised guide's encoder.
            model: the model, for a fit that was loaded.

        Returns:
            Drawn and deterministic sites by name, ``(n, *shape)``.
        """
        if new_rows == "encode":
            return self._predict_encoded(data, n, key)
        draws = self.draws(n, key)
        if self.problem is not None:
            return self.problem.predict(draws, data, key=key, new_rows=new_rows)
        if model is None or data is None:
            raise loaded(
                "fit.predict(data, model=model)", without="neither model nor data", want="the model and the data"
            )
        known = {n: v for n, v in draws.items() if self.kinds[n] != "deterministic"}
        size = len(next(iter(known.values())))
        return run_forward(model, data, known, size=size, key=key, new_rows=new_rows)

    # -- figures --------------------------------------------------------------------------------------------------

    @property
    def log_evidence(self) -> float:
        """$\\log Z$ in nats, by importance weights where q is close and by SMC otherwise; NaN for a point."""
        return self._number("log evidence")

    @property
    def elbo(self) -> float:
        """The ELBO on fresh draws, in nats."""
        return self._number("ELBO")

    @property
    def kl(self) -> float:
        """$\\log Z - $ ELBO: how far q is from the posterior, KL(q || p), in nats."""
        return self._number("KL")

    @property
    def khat(self) -> float:
        """Largest Pareto k-hat of four independent batches of weights."""
        return self._number("k-hat")

    @property
    def gradients(self) -> int:
        """Gradient evaluations that finding q took; weighing it is not counted."""
        return int(self._number("gradients"))

    @property
    def seconds(self) -> float:
        """Seconds from the call to the verdict."""
        return self._number("seconds")

    @property
    def compilations(self) -> int:
        """Kernels compiled for this fit; 0 when an earlier fit had the same shapes."""
        return int(self._number("compilations"))

    @property
    def loss(self) -> Loss:
        """The loss along the run, in nats per observation."""
        return loss_of(self.history, int(self.facts.get("observations", "1")))

    evidence = evidence_of

    # -- how it is shown ------------------------------------------------------------------------------------------

    def content(self) -> report.Content:
        """Everything that the text and the page show, as plain values."""
        corrected = "q" if self.verdict.level != CORRECTED else "moved" if self.log_weights is None else "reweighted"
        history = None
        if len(self.history):
            history = report.History(*self.history.T, held_out=self.held_out)
        return report.Content(
            title=self.title,
            level=self.verdict.level,
            headline=self.verdict.headline.removeprefix(f"{self.verdict.level}: "),
            reasons=(*self.verdict.reasons, *self.verdict.evidence_reasons, *self.verdict.notes),
            advice=self.verdict.advice,
            status=self.status,
            sites={
                name: report.SiteDraws(self.kinds[name], self.values[name], self.supports[name]) for name in self.sites
            },
            log_weights=self.log_weights,
            covers=corrected,
            guide_draws=self.guide_draws,
            guide_log_weights=self.guide_log_weights,
            numbers=self.numbers,
            history=history,
            facts=self.facts,
        )

    def __str__(self) -> str:
        return report.text(self.content())

    def __repr__(self) -> str:
        return self.__str__()

    def _repr_html_(self) -> str:
        return report.notebook(self.content())

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one self-contained HTML page, atomically.

        Args:
            path: the file to write.

        Returns:
            Its path.
        """
        return atomic_write(path, report.html(self.content()))

    # -- keeping --------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save draws, weights, verdict and figures: arrays and JSON, no pickle, no data; see `taut.load`."""
        return write_fit(path, vars(self))

    def to_arviz(self) -> Any:
        """The posterior as ArviZ's ``DataTree``; needs the optional package ``arviz-base``.

        Returns:
            Groups ``posterior`` (the draws that the verdict covers) and, unless the fit was loaded,
            ``posterior_predictive`` and ``observed_data``.
        """
        attributes = {**self.facts, "verdict": self.verdict.headline}
        if self.problem is None:
            return to_arviz(self.draws(), attributes=attributes)
        observed = self.problem.observed()
        forward = self.predict()
        predictions = {name: forward[name] for name in observed if name in forward}
        return to_arviz(self.draws(), predictions=predictions, observed=observed, attributes=attributes)

    def _weights(self) -> np.ndarray | None:
        if self.verdict.level != CORRECTED or self.log_weights is None:
            return None
        return diagnostics.psis(self.log_weights)[0]

    def _number(self, name: str) -> float:
        return float(self.numbers[name][0]) if name in self.numbers else float("nan")


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` wrote. No code is run and no data are needed.

    Args:
        path: the file.

    Returns:
        A `Fit` without its problem: everything but predictions works as before, bit for bit.

    Raises:
        TautError: ``file-missing``, ``file-format``, or ``schema`` with the versions concerned.
    """
    return Fit(**read_fit(path))
