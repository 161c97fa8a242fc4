r"""A semi-amortised guide: what an encoder says of a row is refined by a few steps on that row's own bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._arguments import whole_number
from taut.guides._amortised import Amortised, of_globals
from taut.guides._encoded import frame_of
from taut.guides._gaussian import MeanField
from taut.guides._guide import Flat, NoiseGuide, model_in
from taut.guides._part import part_of_program
from taut.problem import Problem, Program, log_joint

_FIRST_RATE = 0.5
_LOG_RATE = "log_rate"


@dataclass(frozen=True, eq=False, init=False)
class SemiAmortised(Amortised):
    r"""An encoder's output, refined row by row by gradient steps on the row's own ELBO.

    With $z = m + s \epsilon$ at a few fixed $\epsilon$ (of mean 0 and covariance 1), other latents at their centres and
    $g = \nabla_z \log p(x_i, z)$, each step is a bounded natural-gradient step,

    $$m \leftarrow m + s \tanh(\rho_k s\, \overline{g}), \qquad
      \log s \leftarrow \log s + \tanh\big(\tfrac12 \rho_k (1 + s\, \overline{g \epsilon})\big)$$

    so that it needs no units and stays finite; the rates $\rho_k$ are learnt. The result is a normal for each row like
    any other: $\log q$ is exact. Rows of a batch are refined by their own data alone.

    Args:
        of, encoder, takes, init, globals: see `Amortised`.
        steps: refinements of each row.
        draws: fixed $\epsilon$ per step.
        through: differentiate through the steps, so that encoder and rates learn where refinement leads well; without
            it the encoder learns as if the steps were constants (straight through), and the rates stay as they are.

    Raises:
        TautError: see `Amortised`.

    Source: Kim, Wiseman, Miller, Sontag, Rush (2018), Semi-amortized variational autoencoders; bounded natural-gradient
    steps are ours.

    Example:
        >>> def model(y):
        ...     with taut.plate("rows", len(y)):
        ...         z = taut.sample("z", dist.Normal(0.0, 1.0))
        ...         taut.sample("y", dist.Normal(z, 1.0), obs=y)
        >>> guide = taut.guides.SemiAmortised("rows", lambda p, y: (p["m"], p["s"]), init=dict(m=0.0, s=0.0), steps=9)
        >>> problem = taut.Problem(model, dict(y=np.array([0.0, 2.0])))
        >>> guide.named(problem, guide.init(problem, 0))["z"]["loc"].round(2)    # the exact means are y / 2
        array([0., 1.])
    """

    steps: int
    draws_per_step: int
    through: bool

    def __init__(
        self,
        of: str | Sequence[str],
        encoder: Callable[..., Any],
        *,
        takes: str | Sequence[str] | None = None,
        init: Any = None,
        globals: NoiseGuide = MeanField(),  # noqa: B008
        steps: int = 3,
        draws: int = 8,
        through: bool = True,
    ):
        super().__init__(of, encoder, takes=takes, init=init, globals=globals)
        usual = f"taut.guides.SemiAmortised({of!r}, encoder, steps=3, draws=8)"
        steps, draws = whole_number("steps", steps, usual), whole_number("draws", draws, usual, least=2)
        self._set(steps=steps, draws_per_step=draws, through=bool(through))

    @property
    def reads_model(self) -> bool:
        """See `Guide`."""
        return True

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """See `Amortised`; and the rates."""
        return super().init(problem, key) | {_LOG_RATE: np.full(self.steps, math.log(_FIRST_RATE))}

    def local(self, program: Program, params: Mapping[str, Any], inputs: Any) -> tuple[Any, Any]:
        """See `Amortised`: after the steps."""
        loc, log_scale = first = super().local(program, params, inputs)
        slope = self._slope(program, params, inputs, loc.dtype)
        noise = jnp.asarray(self.row_noise(program, self.draws_per_step, np.random.default_rng(0)), loc.dtype)
        for rate in jnp.exp(jnp.asarray(params[_LOG_RATE], loc.dtype)):
            scale = jnp.exp(log_scale)
            g = slope(loc + scale * noise)
            loc = loc + scale * jnp.tanh(rate * scale * jnp.mean(g, axis=0))
            log_scale = log_scale + jnp.tanh(0.5 * rate * (1.0 + scale * jnp.mean(g * noise, axis=0)))
        if self.through:
            return loc, log_scale
        return tuple(a + jax.lax.stop_gradient(b - a) for a, b in zip(first, (loc, log_scale), strict=True))

    def _slope(self, program: Program, params: Mapping[str, Any], inputs: Any, dtype: Any) -> Callable[[Any], Any]:
        """From draws of the encoded coordinates to the gradients of each row's own log joint there."""
        frame = frame_of(program, self._bound().sites[0], self._bound().plate)
        others, mine = self.others(program), self.local_index(program)
        point = Flat(jnp.zeros(program.dim, dtype), jnp.ones(program.dim + program.num_params, dtype))
        if others:
            part = part_of_program(program, others)
            centre, _ = self.globals.push(part, of_globals(params), jnp.zeros(self.globals.noise_size(part)), inputs)
            assert isinstance(centre, Flat)
            point = self._merged(program, jnp.zeros(len(mine), dtype), centre)
        model = model_in(program, params, dtype)

        def density(z: Any) -> Any:
            flat = jnp.concatenate([point.coordinates.at[mine].set(z), model])
            return log_joint(program, flat, point.centredness, *inputs)

        return lambda draws: jax.vmap(jax.grad(density))(draws) * (frame.length / frame.size)

    def _facts(self) -> tuple[Any, ...]:
        return (*super()._facts(), self.steps, self.draws_per_step, self.through)
