"""What a saved guide knows of its model: names, shapes, supports and maps, without density or data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut._precision import real_dtype, scope
from taut.core import PlateFrame, Site
from taut.fitting._supports import plain_support, support_from
from taut.problem import DISCRETE, Latent, Param, Problem, Program


class Skeleton(Problem):
    """A problem without its model: draws of a guide can be made and mapped, densities of the model cannot.

    Args:
        latents, params: as in `Problem`.
        supports: of latents whose map from the real line is that of their support alone.
        frames: the plates that each latent stands in: name, size, length, dimension.
        precision: what the fit was computed in.
        title: the model's name.
    """

    def __init__(
        self,
        latents: Mapping[str, Latent],
        params: Mapping[str, Param],
        supports: Mapping[str, Any],
        frames: Mapping[str, Any],
        precision: Any,
        title: str,
    ):
        self.precision = precision
        self.title = title
        self.data, self.notes, self.discrete = {}, (), True
        self.program = Program(
            closed=None,
            outputs={"rows": {}},
            latents=dict(latents),
            params=dict(params),
            sites={
                name: Site("sample", name, plates=tuple(PlateFrame(*frame) for frame in frames.get(name, ())))
                for name in latents
            },
            digest=f"saved {title} {sorted(latents.items())}",
            shapes={name: latent.shape for name, latent in latents.items()},
            constraints={},
            supports=dict(supports),
            reach={},
        )
        self.dim, self.num_params = self.program.dim, self.program.num_params
        self.layout, self.hierarchical = self.program.layout, self.program.hierarchical

    @property
    def inputs(self) -> Any:
        """None are kept."""
        return [], []

    def kernel(self) -> NoReturn:
        """There is none.

        Raises:
            TautError: ``no-model``.
        """
        raise needs_model(next(iter(self.latents)), "the model's density")

    def constrain(self, points: np.ndarray, centredness: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Values of the latents in the model's own space; see `Problem`.

        Raises:
            TautError: ``no-model`` for a latent whose map depends on other latents.
        """
        points = np.atleast_2d(points)
        lam = self.centredness() if centredness is None else centredness
        found = mapped(self, self.program.supports, points, lam)
        for name in self.latents:
            if name not in found:
                raise needs_model(name, "a map from the real line that depends on other latents")
        return found


def mapped(
    problem: Problem, supports: Mapping[str, Any], points: np.ndarray, centredness: np.ndarray
) -> dict[str, np.ndarray]:
    """Values of the latents whose map from the real line follows from their support alone, in program order.

    Args:
        problem: or what a file keeps of it.
        supports: from `fixed_supports`.
        points: ``float[n, dim]``.
        centredness: the coordinates that they are in, ``float[dim]``.
    """
    found = {}
    with scope(problem.precision):
        for name, latent in problem.latents.items():
            part = problem.layout[name]
            if name in supports and not (latent.hierarchical and np.any(centredness[part] != 1)):
                u = points[:, part].reshape(len(points), *latent.coordinate_shape)
                found[name] = np.asarray(mapping(supports[name])(jnp.asarray(u, real_dtype())))
    return found


def mapping(support: Any) -> Any:
    """The map from the real line onto a support."""
    found = dist.unconstrainer(support)
    assert found is not None
    return found


def fixed_supports(problem: Problem) -> dict[str, Any]:
    """Supports of the latents whose map from the real line follows from them alone, whatever the model's code does."""
    if isinstance(problem, Skeleton):
        return dict(problem.program.supports)
    plain = {n: latent for n, latent in problem.latents.items() if latent.transform not in (DISCRETE, "direction")}
    candidates = {n: s for n, s in problem.program.supports.items() if n in plain and dist.unconstrainer(s) is not None}
    if not candidates:
        return {}
    points = np.random.default_rng(0).normal(0.0, 0.5, (2, problem.dim + problem.num_params))
    there = problem.constrain(points, np.ones(points.shape[1]))
    found = {}
    with scope(problem.precision):
        for name, support in candidates.items():
            latent = problem.latents[name]
            u = jnp.asarray(points[:, problem.layout[name]].reshape(2, *latent.coordinate_shape), real_dtype())
            value = np.asarray(mapping(support)(u))
            # Coordinates may be chosen by a handler: what counts is where they lead.
            if value.shape == there[name].shape and np.allclose(value, there[name], rtol=1e-5, atol=1e-6):
                found[name] = support
    return found


def plain_skeleton(problem: Problem, title: str) -> dict[str, Any]:
    """What a file keeps of a problem."""
    supports = {name: plain_support(support) for name, support in fixed_supports(problem).items()}
    return {
        "title": title,
        "precision": problem.precision,
        "latents": [asdict(latent) | {"source": ""} for latent in problem.latents.values()],
        "params": [asdict(param) | {"source": ""} for param in problem.params.values()],
        "supports": {name: plain for name, plain in supports.items() if plain is not None},
        "frames": {name: [list(frame) for frame in problem.program.sites[name].plates] for name in problem.latents},
    }


def skeleton_from(plain: Mapping[str, Any]) -> Skeleton:
    """The skeleton that `plain_skeleton` wrote."""

    def entry(kind: Any, values: Mapping[str, Any]) -> Any:
        known = {f.name for f in fields(kind)}
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known})

    return Skeleton(
        {v["name"]: entry(Latent, v) for v in plain["latents"]},
        {v["name"]: entry(Param, v) for v in plain["params"]},
        {name: support_from(support) for name, support in plain["supports"].items()},
        plain["frames"],
        plain["precision"],
        plain["title"],
    )


def needs_model(site: str, what: str) -> TautError:
    """The error for what a guide without its model cannot tell."""
    return TautError(
        "no-model",
        site=site,
        found=f"a loaded guide; this needs {what}",
        expected="the guide together with its problem",
        remedy="guide = taut.load_guide(path).on(taut.Problem(model, data))",
    )
