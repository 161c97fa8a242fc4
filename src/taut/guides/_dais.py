r"""Differentiable annealed importance sampling: a Gaussian carried towards the posterior by Langevin steps.

The steps have no accept-reject part, so that the end of a path is a smooth function of noise and parameters; what they
miss is in the path's weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._arguments import whole_number
from taut._draws import pool
from taut._errors import TautError
from taut._precision import scope
from taut.guides._gaussian import flat
from taut.guides._guide import Flat, NoiseGuide, model_in
from taut.guides._start import Start, first_loc
from taut.problem import Problem, Program, count_compilation, log_joint

_LOG_2PI = math.log(2 * math.pi)
_INITIAL_SCALE = 0.1
_FIRST_STEP = 0.5  # of a leapfrog step, in units of the base's scale


@dataclass(frozen=True)
class DAIS(NoiseGuide):
    r"""The end $z_K$ of K annealed Langevin steps from a mean-field normal, weighed by the whole path.

    In units of the base, $u = (z - m) / s$, with momentum $v \sim \mathcal N(0, I)$, temperatures
    $0 < \beta_1 < \dots < \beta_K = 1$ and $f_k = \nabla [(1 - \beta_k) \log \mathcal N(u) + \beta_k \log p(x, z)]$:

    $$u' = u_{k-1} + \tfrac h2 v_{k-1},\quad \hat v_k = v_{k-1} + h f_k(u'),\quad u_k = u' + \tfrac h2 \hat v_k,\quad
      v_k = \gamma \hat v_k + \sqrt{1 - \gamma^2}\, \epsilon_k$$

    and what is returned as $\log q$ is that of the path less that of its way back,

    $$\log q = \log \mathcal N(z_0; m, s^2) + \sum_k \big[\log \mathcal N(v_{k-1}) - \log \mathcal N(\hat v_k)\big]$$

    so that $w = p(x, z_K) / q$ has mean $Z$: its logarithm is a lower bound, and weighted draws have the posterior's
    moments. Every figure of a fit (ELBO, evidence, k-hat) is of these weights. The density of $z_K$ alone is an
    integral over paths: `log_prob` refuses, and the gradient is `taut.gradients.Pathwise`.

    Parameters: ``loc``, ``log_scale``, ``log_step`` ``float[D]``; ``temperatures`` ``float[K]`` and ``refresh`` scalar,
    both as logits.

    Args:
        steps: how many, $K$; each costs a gradient of the model.
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where the base begins; near the origin by default.

    Source: Geffner, Domke (2021), MCMC variational inference via uncorrected Hamiltonian annealing; Zhang, Hsu, Li,
    Finn, Grosse (2021), Differentiable annealed importance sampling and the perils of gradient noise.

    Example:
        >>> guide = taut.guides.DAIS(steps=4)
        >>> fit = taut.fit(model, data, guide=guide, algorithm=taut.algorithms.SVI())    # doctest: +SKIP
    """

    steps: int = 8
    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", whole_number("steps", self.steps, "taut.guides.DAIS(steps=8)"))

    @property
    def evaluable(self) -> bool:
        """See `Guide`: no, the density of an end is an integral over paths."""
        return False

    @property
    def reads_model(self) -> bool:
        """See `Guide`."""
        return True

    def bind(self, problem: Problem) -> DAIS:
        """The guide, on all rows of the data.

        Raises:
            TautError: ``bad-combination`` for subsampled plates.
        """
        chosen = list(problem.program.outputs["rows"])
        if chosen:
            raise TautError(
                "bad-combination",
                found=f"DAIS over batches of plate {chosen[0]!r}",
                expected="all rows at once: paths towards the posterior of a batch are weighed by a batch's evidence, "
                "whose expected logarithm is no bound",
                remedy=f'taut.plate("{chosen[0]}", ...) without subsample_size, or guide=taut.guides.MeanField()',
            )
        return self

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """A narrow normal where the start says, short steps, even temperatures."""
        loc = first_loc(self.start, problem, self.centredness, key)
        return self._first(loc, np.full(problem.dim, _INITIAL_SCALE))

    def from_gaussian(self, problem: Problem, loc: np.ndarray, factor: np.ndarray) -> dict[str, Any]:
        """See `NoiseGuide`: the base is the mean-field normal nearest to it."""
        if factor.ndim == 2:
            factor = 1 / np.linalg.norm(np.linalg.inv(factor), axis=0)
        return self._first(loc, factor)

    def _first(self, loc: np.ndarray, scale: np.ndarray) -> dict[str, Any]:
        return {
            "loc": loc,
            "log_scale": np.log(scale),
            "log_step": np.full(len(loc), math.log(_FIRST_STEP)),
            "temperatures": np.zeros(self.steps),
            "refresh": np.zeros(()),
        }

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`: the start, the first momentum, and a refreshment between every two steps."""
        return program.dim * (self.steps + 1)

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`; $\\log q$ is that of the path."""
        if inputs is None:
            raise TautError(
                "bad-argument",
                site="inputs",
                found="DAIS without the data",
                expected="the problem's inputs: its steps follow the model's gradient",
                remedy="guide.push(program, params, noise, inputs=problem.inputs)",
            )
        loc, scale, step = params["loc"], jnp.exp(params["log_scale"]), jnp.exp(params["log_step"])
        model = model_in(program, params, loc.dtype)
        keep = jax.nn.sigmoid(params["refresh"])
        betas = jnp.cumsum(jax.nn.softmax(params["temperatures"]))
        start, momentum, *fresh = noise.reshape(self.steps + 1, program.dim)
        fresh = jnp.stack([*fresh, jnp.zeros_like(start)])
        centredness = flat(program, self.centredness, loc).centredness

        def density(u: Any) -> Any:
            return log_joint(program, jnp.concatenate([loc + scale * u, model]), centredness, *inputs)

        def advance(carry: Any, at: Any) -> tuple[Any, None]:
            u, v, log_q = carry
            beta, noise = at
            u = u + 0.5 * step * v
            moved = v + step * (beta * jax.grad(density)(u) - (1.0 - beta) * u)
            u = u + 0.5 * step * moved
            log_q = log_q + _standard(v) - _standard(moved)
            return (u, keep * moved + jnp.sqrt(1.0 - keep**2) * noise, log_q), None

        opening = (start, momentum, _standard(start) - jnp.sum(params["log_scale"]))
        (end, _, log_q), _ = jax.lax.scan(advance, opening, (betas, fresh))
        return Flat(loc + scale * end, centredness), log_q

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """Refused: the density of an end is an integral over paths.

        Raises:
            TautError: ``bad-combination``.
        """
        raise TautError(
            "bad-combination",
            found="log q of DAIS at a point",
            expected="the draw that it came with: the density of a path's end is an integral over paths",
            remedy="point, log_q = guide.sample_and_log_prob(program, params, key, inputs)",
        )

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`; with the paths' weights, which are right for the evidence and for weighted moments."""
        noise = pool(rows, self.noise_size(problem.program), rng)
        with scope(problem.precision):
            found = _pushed(self.bind(problem), problem.program, dict(params), noise, problem.inputs)
        z, centredness, log_q = (np.asarray(v, float) for v in found)
        return Flat(z, centredness[0]), log_q

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`: of the base, where the paths begin."""
        loc, scale = np.asarray(params["loc"]), np.exp(np.asarray(params["log_scale"]))
        return {
            name: {
                "loc": loc[problem.layout[name]].reshape(latent.coordinate_shape),
                "scale": scale[problem.layout[name]].reshape(latent.coordinate_shape),
                "transform": latent.transform,
            }
            for name, latent in problem.latents.items()
        }


@partial(jax.jit, static_argnums=(0, 1))
def _pushed(guide: DAIS, program: Program, params: Any, noise: Any, inputs: Any) -> Any:
    count_compilation()
    real = jax.tree.map(jnp.asarray, params)

    def one(noise: Any) -> Any:
        point, log_q = guide.push(program, real, noise, inputs)
        return point.coordinates, point.centredness, log_q

    return jax.vmap(one)(jnp.asarray(noise, jnp.zeros(()).dtype))


def _standard(v: Any) -> Any:
    return -0.5 * jnp.sum(v**2) - 0.5 * v.size * _LOG_2PI
