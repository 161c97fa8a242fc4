"""The fitted guide as a reader sees it: by name, and in the model's own space."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from taut import dist, guides
from taut._errors import TautError
from taut._keys import generator
from taut.algorithms import Solution
from taut.diagnostics import cov as weighted_cov
from taut.fitting._guide_density import log_density
from taut.fitting._guide_file import read_guide, write_guide
from taut.fitting._guide_match import check_same_model
from taut.fitting._q_marginal import GuideMarginal, Normals
from taut.fitting._refusals import unknown
from taut.fitting._skeleton import Skeleton, fixed_supports, mapped, mapping, needs_model
from taut.guides import Flat, Guide
from taut.problem import Problem

_DRAWS = 16_000  # of which moments are made where they are not exact
_MOST_KEPT = 2**21  # numbers: a guide that cannot be drawn from without its model keeps so many of its draws


@dataclass(frozen=True, eq=False)
class FittedGuide:
    """A guide with its parameters, by name and in the model's own space.

    ``str`` is the family's name, and a fitted guide equals that text.

    Attributes:
        name: the family.
        params: its parameters, ``float[...]`` by name, as `taut.guides` writes them.
        model_params: unconstrained values of the model's own parameters, ``float[P]``.
        family: the guide; ``None`` for one of the user's own that was loaded without its function.
        problem: the problem; what a file keeps of it, for a loaded guide.
        kept: draws that came with a loaded guide, for one that cannot be drawn from without its model.

    Example:
        >>> def model(y):
        ...     tau = taut.sample("tau", dist.LogNormal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(0.0, tau), obs=y)
        >>> fit = taut.fit(model, dict(y=0.5), guide=taut.guides.MeanField())
        >>> print(fit.guide, fit.guide.slices)
        MeanField {'tau': slice(0, 1, None)}
        >>> path = fit.guide.save("tau.guide")
        >>> bool(taut.load_guide("tau.guide").marginal("tau").mean == fit.guide.marginal("tau").mean)
        True
    """

    name: str
    params: dict[str, np.ndarray]
    model_params: np.ndarray
    family: Guide | None
    problem: Problem = field(repr=False)
    kept: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        lines = [f"{self.name} of {len(self.problem.latents)} latents, {self.problem.dim} coordinates"]
        for name, latent in self.problem.latents.items():
            part = self.slices[name]
            lines.append(f"  {name}: [{part.start}:{part.stop}], {latent.support}, by {latent.transform}")
        return "\n".join(lines)

    def __eq__(self, other: object) -> bool:
        return self.name == other if isinstance(other, str) else self is other

    def __hash__(self) -> int:
        return hash(self.name)

    # -- by name ----------------------------------------------------------------------------------------------------

    @property
    def slices(self) -> dict[str, slice]:
        """Where each latent stands in the flat vector of coordinates."""
        return {name: self.problem.layout[name] for name in self.problem.latents}

    def marginal(self, name: str) -> GuideMarginal:
        """One site under q, in the model's own space.

        Args:
            name: a latent.

        Raises:
            TautError: ``site-missing``; ``no-model`` for a loaded guide whose map depends on the model.
        """
        latent = self.problem.latents.get(name)
        if latent is None:
            raise unknown(name, self.problem.latents, "fit.guide.marginal({})")
        shared: dict[str, Any] = {
            "name": name,
            "support": latent.support,
            "shape": latent.shape,
            "precision": self.problem.precision,
        }
        normals = self._normals
        if normals is not None and self._one_by_one(name):
            part = self.problem.layout[name]
            own = [np.reshape(v[:, part], (len(v), *latent.shape)) for v in (normals.loc, normals.scale)]
            return GuideMarginal(
                **shared,
                normals=Normals(normals.weights, *own),
                transform=mapping(dist.constraints.real if latent.hierarchical else self._supports[name]),
            )
        return GuideMarginal(**shared, values=self._drawn[name])

    def cov(self, first: str | Sequence[str], second: str | None = None) -> np.ndarray:
        """Covariance under q, in the model's own space: exact between real sites of a Gaussian, else of 16,000 draws.

        Args:
            first: one site; or several, whose scalars are laid side by side.
            second: another site.

        Returns:
            ``(*first, *second)`` for two sites; a square matrix over all scalars for several.
        """
        if second is not None and isinstance(first, str):
            shape = self._latent(first).shape + self._latent(second).shape
            size = self._width(first)
            return self.cov([first, second])[:size, size:].reshape(shape)
        names = [first] if isinstance(first, str) else list(first)
        for name in names:
            self._latent(name)
        exact = self._covariance
        if exact is not None and all(self._one_by_one(n) and self._is_identity(n) for n in names):
            index = np.concatenate([np.arange(self.problem.dim)[self.problem.layout[n]] for n in names])
            return exact[np.ix_(index, index)]
        flat = np.concatenate([self._drawn[n].reshape(len(self._drawn[n]), -1) for n in names], axis=1)
        return weighted_cov(flat, flat, None)

    def corr(self, first: str | Sequence[str], second: str | None = None) -> np.ndarray:
        """Correlation under q; arguments and shape as for `cov`."""
        names = [first] if isinstance(first, str) else list(first)
        whole = self.cov([*names, second] if second is not None else names)
        sd = np.sqrt(np.diag(whole))
        whole = whole / np.outer(sd, sd)
        if second is None or not isinstance(first, str):
            return whole
        size = self._width(first)
        return whole[:size, size:].reshape(self._latent(first).shape + self._latent(second).shape)

    # -- draws and densities ----------------------------------------------------------------------------------------

    def draws(self, n: int = 1000, key: int | jax.Array = 0) -> dict[str, np.ndarray]:
        """Fresh draws of q, in the model's own space.

        Args:
            n: how many.
            key: an integer or a JAX key.

        Returns:
            Latents by name, ``(n, *shape)``.
        """
        guide = self.ready
        point, _ = guide.draws(self.problem, self.params, n, generator(key, 2300))
        if not isinstance(point, Flat):
            return {name: np.asarray(point[name]) for name in self.problem.latents}
        return self._constrained(np.asarray(point.coordinates, float), np.asarray(point.centredness, float))

    def sample(self, key: int | jax.Array = 0) -> dict[str, np.ndarray]:
        """One draw of q, in the model's own space."""
        return {name: value[0] for name, value in self.draws(1, key).items()}

    def log_prob(self, values: Mapping[str, Any]) -> Any:
        r"""$\log q$ at values in the model's own space, in nats, Jacobian included.

        $$\log q(x) = \log q_u(T^{-1}(x)) - \log \lvert \det T'(T^{-1}(x)) \rvert$$

        Args:
            values: every latent by name; one point, or several along a first axis that all share. Other names are left
                alone, so that draws of a fit may be given as they are.

        Returns:
            A float, or ``float64[n]``; ``-inf`` outside of the support.

        Raises:
            TautError: ``site-missing``, ``bad-argument``; ``bad-combination`` for a point, and for a site that has
                more coordinates than values; ``no-model`` for a loaded guide whose map depends on the model.
        """
        return log_density(self.problem, self.ready, self.params, self.model_params, self._example, values)

    # -- keeping ----------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save parameters, names, shapes, supports and maps: no model, no data, no pickle; see `taut.load_guide`.

        Guides that are functions of the model or its data keep 16,000 draws too (fewer where sites are large), so that
        marginals and covariances need neither.

        Args:
            path: the file.

        Returns:
            Its path.
        """
        write_guide(path, self.name, self.family, self.params, self.model_params, self.problem, self._to_keep())
        return Path(path)

    def on(self, problem: Problem) -> FittedGuide:
        """The same guide on a problem, which has to have the same latents.

        Args:
            problem: on whatever data.

        Raises:
            TautError: ``bad-combination`` with every difference: names, shapes, supports, maps.
        """
        check_same_model(self.problem, problem)
        family = None if self.family is None else guides.bind(self.family, problem)
        return replace(self, problem=problem, family=family, kept={})

    # -- inside -----------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> Guide:
        """The family, bound to the problem.

        Raises:
            TautError: ``no-model`` for a guide of the user's own, loaded without its function.
        """
        if self.family is None:
            raise TautError(
                "no-model",
                site="guide",
                found=f"the parameters of {self.name}, a guide made of functions, which no file keeps",
                expected="that guide or function, given again",
                remedy="taut.load_guide(path, guide=guide).on(taut.Problem(model, data))",
            )
        if isinstance(self.problem, Skeleton) and self.name in _WITH_MODEL:
            raise needs_model(next(iter(self.problem.latents)), f"what a {self.name} is made of: the model or its data")
        return guides.bind(self.family, self.problem)

    @cached_property
    def _example(self) -> Any:
        return self.ready.draws(self.problem, self.params, 1, np.random.default_rng(0))[0]

    @cached_property
    def _drawn(self) -> Mapping[str, np.ndarray]:
        return self.kept or self.draws(_DRAWS, 0)

    def _to_keep(self) -> Mapping[str, np.ndarray]:
        """Draws for the file, where those that load it could make none."""
        if isinstance(self.problem, Skeleton):
            return self.kept
        if self.name not in _WITH_MODEL:
            lam = np.asarray(self._example.centredness, float)
            simple = mapped(self.problem, self._supports, np.zeros((1, self.problem.dim)), lam)
            if len(simple) == len(self.problem.latents):
                return {}
        scalars = sum(int(np.prod(latent.shape, dtype=int)) for latent in self.problem.latents.values())
        return {name: value[: max(1, _MOST_KEPT // max(scalars, 1))] for name, value in self._drawn.items()}

    @cached_property
    def _supports(self) -> dict[str, Any]:
        return fixed_supports(self.problem)

    @cached_property
    def _normals(self) -> Normals | None:
        """The marginals on the real line, where they are normals or mixtures of them."""
        if self.family is None or type(self.family).__name__ not in _GAUSSIAN:
            return None
        named = self.family.named(self.problem, self.params)
        several = isinstance(self.family, guides.GaussianMixture)
        parts = {}
        for entry in ("loc", "scale"):
            columns = [np.asarray(named[n][entry], float).reshape(self._components, -1) for n in self.problem.latents]
            parts[entry] = np.concatenate(columns, axis=1)
        weights = next(iter(named.values()))["weight"] if several else np.ones(1)
        weights = np.asarray(weights, float)
        return Normals(weights / weights.sum(), parts["loc"], parts["scale"])

    @property
    def _components(self) -> int:
        return self.family.components if isinstance(self.family, guides.GaussianMixture) else 1

    @cached_property
    def _covariance(self) -> np.ndarray | None:
        """The covariance on the real line."""
        if isinstance(self.family, guides.MeanField):
            assert self._normals is not None
            return np.diag(self._normals.scale[0] ** 2)
        if isinstance(self.family, guides.FullRank | guides.LowRank):
            factor = self.family.factor(self.params)
            return factor @ factor.T
        return None

    def _one_by_one(self, name: str) -> bool:
        """Whether the site's map takes its coordinates one by one, and depends on nothing else."""
        latent, lam = self.problem.latents[name], np.asarray(self._example.centredness)
        if latent.coordinate_shape != latent.shape or name not in self._supports:
            return False
        if latent.hierarchical:
            return bool(np.all(lam[self.problem.layout[name]] == 1)) and latent.support == "real"
        return getattr(mapping(self._supports[name]).codomain, "event_dim", 0) == 0 or _elementwise(
            self._supports[name]
        )

    def _is_identity(self, name: str) -> bool:
        return self.problem.latents[name].support == "real"

    def _latent(self, name: str) -> Any:
        if name not in self.problem.latents:
            raise unknown(name, self.problem.latents, "fit.guide.marginal({})")
        return self.problem.latents[name]

    def _width(self, name: str) -> int:
        return int(np.prod(self._latent(name).shape, dtype=int))

    def _constrained(self, z: np.ndarray, centredness: np.ndarray) -> dict[str, np.ndarray]:
        if isinstance(self.problem, Skeleton):
            return self.problem.constrain(z, centredness)
        # As a loaded guide does it, to the bit.
        simple = mapped(self.problem, self._supports, z, centredness)
        if len(simple) == len(self.problem.latents):
            return simple
        extra = np.broadcast_to(self.model_params, (len(z), self.problem.num_params))
        lam = np.concatenate([centredness[: self.problem.dim], np.ones(self.problem.num_params)])
        values = self.problem.constrain(np.concatenate([z, extra], axis=1), lam)
        return {name: simple.get(name, values[name]) for name in self.problem.latents}


# Families whose marginals on the real line are normal, or mixtures of normals.
_GAUSSIAN = ("MeanField", "FullRank", "LowRank", "GaussianMixture", "BlockDense", "SparsePrecision")

# Families that are functions of the model or of its data.
_WITH_MODEL = ("Program", "Structured", "DAIS", "Amortised", "SemiAmortised", "SiteFamilies", "Combine")


def view_of(problem: Problem, solution: Solution) -> FittedGuide:
    """The guide of a solution."""
    family = guides.bind(solution.guide, problem)
    params = {name: np.asarray(value) for name, value in solution.params.items()}
    return FittedGuide(type(family).__name__, params, np.asarray(solution.model_params, float), family, problem)


def load_guide(path: str | os.PathLike[str], guide: Any = None) -> FittedGuide:
    """Read a guide that `FittedGuide.save` wrote, or the guide of a fit that `Fit.save` wrote.

    No code is run, and neither model nor data are needed for marginals and covariances. Nor are they for fresh draws
    and densities, but where the map of a site depends on other latents, and for guides that are functions of the model
    or its data: such a guide has to be put on a problem first, ``taut.load_guide(path).on(problem)``.

    Args:
        path: the file.
        guide: the guide's function or object, for a guide of your own.

    Returns:
        A `FittedGuide`. ``taut.fit(model, data, guide=loaded)`` begins there.

    Raises:
        TautError: ``file-missing``, ``file-format``, ``schema``.

    Example:
        >>> guide = taut.load_guide("tau.guide")                    # doctest: +SKIP
    """
    return FittedGuide(*read_guide(path, guide))


def _elementwise(support: Any) -> bool:
    base = getattr(support, "base_constraint", None)
    return base is not None and getattr(base, "event_dim", 1) == 0
