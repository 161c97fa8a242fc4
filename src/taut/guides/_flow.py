r"""A normalising flow on the real line: a Gaussian whose noise is bent first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._arguments import bad_argument, whole_number
from taut._draws import pool
from taut._precision import real_dtype, scope
from taut.guides._flow_layers import Kind, Layers, Shape, Transformer, layers_of
from taut.guides._gaussian import FullRank, flat
from taut.guides._guide import Flat, NoiseGuide
from taut.guides._start import Start
from taut.problem import Problem, Program, count_compilation

_SUMMARY = 4000  # draws that `named` is made of


@dataclass(frozen=True)
class Flow(NoiseGuide):
    r"""A Gaussian bent by a flow: $z = m + C f(\epsilon)$ with $f$ invertible, and the identity at first.

    $$\log q(z) = \log \mathcal N(\epsilon; 0, I) - \log\lvert\det f'(\epsilon)\rvert - \log\lvert C \rvert$$

    $f$ first bends every coordinate by itself, by a spline, then in layers whose maps depend on other coordinates
    through small networks; all of it has an inverse in closed form. In one dimension there are splines alone. The
    last linear map of every network begins at zero, so that a fresh flow is exactly $\mathcal N(m, C C^\top)$. It needs
    the extra ``taut[flows]``.

    Parameters: those of `FullRank`, and the weights of $f$ by name, ``"flow.2.layers.0.weight"``.

    Args:
        kind: ``"coupling"``: half of the coordinates depend on the others, cheap in both directions;
            ``"autoregressive"``: each depends on those before it, more flexible, and D times slower to invert.
        layers: layers that join coordinates.
        transformer: what the networks move: ``"affine"`` maps, or ``"spline"``, rational-quadratic and affine, which
            bends more and takes longer to compile.
        width: hidden units of a network.
        depth: hidden layers of a network.
        knots: inner knots of a spline.
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where the Gaussian's fit begins; near the origin by default.

    Raises:
        TautError: ``bad-argument``; ``missing-extra`` without flowjax.

    Source: Dinh, Sohl-Dickstein, Bengio (2017), Density estimation using Real NVP; Durkan et al. (2019), Neural spline
    flows; Kingma et al. (2016), Improved variational inference with inverse autoregressive flow.

    Example:
        >>> taut.fit(model, data, guide=taut.guides.Flow())             # doctest: +SKIP
        >>> taut.fit(model, data, guide=taut.guides.Flow("autoregressive", layers=2))   # doctest: +SKIP
    """

    kind: Kind = "coupling"
    layers: int = 4
    transformer: Transformer = "affine"
    width: int = 32
    depth: int = 1
    knots: int = 8
    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, known in (("kind", ("coupling", "autoregressive")), ("transformer", ("affine", "spline"))):
            if getattr(self, name) not in known:
                found, usual = f"Flow({name}={getattr(self, name)!r})", f"taut.guides.Flow({name}={known[0]!r})"
                raise bad_argument(name, found, " or ".join(map(repr, known)), usual)
        for name in ("layers", "width", "depth", "knots"):
            usual = f"taut.guides.Flow({name}={type(self).__dataclass_fields__[name].default})"
            object.__setattr__(self, name, whole_number(name, getattr(self, name), usual, shown="Flow({})"))

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """The narrow Gaussian that `FullRank` begins with."""
        return self._around(problem, FullRank(self.centredness, self.start).init(problem, key))

    def from_gaussian(self, problem: Problem, loc: np.ndarray, factor: np.ndarray) -> dict[str, Any]:
        """See `NoiseGuide`: exactly that Gaussian."""
        return self._around(problem, FullRank.from_moments(loc, factor if np.ndim(factor) == 2 else np.diag(factor)))

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`."""
        return program.dim

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`."""
        bent, log_det = self._layers(program.dim).bijection(params).transform_and_log_det(noise)
        point, log_q = FullRank(self.centredness).push(program, params, bent, inputs)
        return point, log_q + 0.5 * (jnp.sum(bent**2) - jnp.sum(noise**2)) - log_det

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`; by the inverse of the flow."""
        difference = jnp.asarray(point.coordinates, real_dtype()) - params["loc"]
        factor = jnp.tril(params["lower"], -1) + jnp.diag(jnp.exp(params["log_diagonal"]))
        bent = jax.scipy.linalg.solve_triangular(factor, difference, lower=True)
        noise, log_det = self._layers(program.dim).bijection(params).inverse_and_log_det(bent)
        return FullRank(self.centredness).push(program, params, noise, inputs)[1] + log_det

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        with scope(problem.precision):
            self._layers(problem.dim)
            z, log_q = _pushed(self, problem.program, dict(params), pool(rows, problem.dim, rng))
        return flat(problem.program, self.centredness, np.asarray(z, float), np), np.asarray(log_q, float)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`: mean and sd of q, of draws."""
        z = self.draws(problem, params, _SUMMARY, np.random.default_rng(0))[0].coordinates
        loc, scale = z.mean(axis=0), z.std(axis=0)
        found = {}
        for name, latent in problem.latents.items():
            part, shape = problem.layout[name], latent.coordinate_shape
            found[name] = {
                "loc": loc[part].reshape(shape),
                "scale": scale[part].reshape(shape),
                "transform": latent.transform,
            }
        return found

    def _around(self, problem: Problem, gaussian: Mapping[str, Any]) -> dict[str, Any]:
        with scope(problem.precision):
            return {**gaussian, **self._layers(problem.dim).start}

    def _layers(self, dim: int) -> Layers:
        return layers_of(Shape(self.kind, self.layers, self.transformer, self.width, self.depth, self.knots), dim)


@partial(jax.jit, static_argnums=(0, 1))
def _pushed(guide: Flow, program: Program, params: Any, noise: Any) -> Any:
    count_compilation()

    def one(noise: Any) -> Any:
        point, log_q = guide.push(program, params, noise)
        return point.coordinates, log_q

    return jax.vmap(one)(noise)
