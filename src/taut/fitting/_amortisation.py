"""What an encoder costs, and what it is for: the amortisation gap, and latents of rows that the fit has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from taut._draws import paired_standard_error, pool
from taut._errors import TautError
from taut._keys import generator
from taut._precision import scope
from taut.algorithms import Solution
from taut.guides import Amortised, SemiAmortised, bind
from taut.problem import (
    Problem,
    Program,
    count_compilation,
    few_rows,
    fill,
    log_joint,
    predictive,
    split,
    trace_program,
)

_DRAWS = 64  # fixed draws that rows are fitted to
_FRESH = 512  # fresh draws that the gain is measured on
_STEPS = 200
_BLOCK = 32  # draws at once
# Past this many latents a fit does not measure the gap unasked.
_MOST_LATENTS = 5000


@dataclass(frozen=True, eq=False)
class AmortisationGap:
    """What every row would gain by a location and a scale of its own.

    Attributes:
        gap: ELBO with each row's own normal, fitted from where the encoder put it, less the encoder's ELBO; in nats,
            all rows together. Never far below 0: a fit of a row may end before its optimum, so that the true gap is
            this or larger.
        se: its standard error.
        rows: how many rows.
        plate: whose rows.
    """

    gap: float
    se: float
    rows: int
    plate: str

    @property
    def per_row(self) -> float:
        """Nats per row."""
        return self.gap / self.rows

    def __str__(self) -> str:
        return (
            f"amortisation gap {self.gap:.4g} +- {self.se:.1g} nats, {self.per_row:.3g} for each of {self.rows} rows "
            f"of plate {self.plate!r}: what rows with normals of their own gain over the encoder"
        )


def amortisation_gap(
    problem: Problem, solution: Solution, key: int | jax.Array = 0, *, steps: int = _STEPS
) -> AmortisationGap:
    r"""How far an encoder is from the best normal for every row.

    $$\sum_i \max_{m_i, s_i} \mathcal L_i(m_i, s_i) - \mathcal L_i(\phi)$$

    Everything else stays: the latents outside of the plate keep their q, the model its parameters.

    Args:
        problem: the problem on its full data.
        solution: of an `Amortised` guide.
        key: of the draws.
        steps: most steps of the rows' fit, by L-BFGS over fixed draws.

    Raises:
        TautError: ``bad-combination`` for other guides.

    Source: Cremer, Li, Duvenaud (2018), Inference suboptimality in variational autoencoders.
    """
    guide = encoder_of(problem, solution)
    program, size = problem.program, guide.noise_size(problem.program)
    given = _Given(program, guide, dict(solution.params), np.asarray(solution.model_params), problem.inputs)
    with scope(problem.precision):
        draws = -(-max(_DRAWS, 4 * _row_size(guide, program)) // _BLOCK) * _BLOCK
        first = guide.row_noise(program, draws, generator(key, 4000))
        rest = pool(len(first), size - first.shape[1], generator(key, 4001)) if size > first.shape[1] else first[:, :0]
        noise = np.concatenate([first, rest], axis=1)

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            values, slopes = zip(*(_elbo(*given.parts, x, block) for block in _blocks(noise)), strict=True)
            total = float(np.sum([np.asarray(v, float) for v in values])) / len(noise)
            slope = np.sum([np.asarray(s, float) for s in slopes], axis=0) / len(noise)
            return (-total, -slope) if np.isfinite(total) else (np.inf, np.zeros_like(slope))

        start = np.zeros(2 * first.shape[1])
        best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps, "ftol": 1e-12}).x
        fresh = pool(_FRESH, size, generator(key, 4002))
        gains = [np.asarray(_gains(*given.parts, best, block), float) for block in _blocks(fresh)]
    gain = np.concatenate(gains)
    standing = guide.standing
    assert standing is not None
    rows = next(p.size for p in program.sites[standing.sites[0]].plates if p.name == standing.plate)
    return AmortisationGap(float(gain.mean()), paired_standard_error(gain), rows, standing.plate)


def amortisation_notes(problem: Problem, solution: Solution, key: int | jax.Array) -> tuple[str, ...]:
    """What the result says of what an encoder costs."""
    if not isinstance(solution.guide, Amortised):
        return ()
    if problem.dim > _MOST_LATENTS or solution.status == "nonfinite":
        return ("the amortisation gap was not measured: fit.amortisation_gap() does",)
    found = str(amortisation_gap(problem, solution, key))
    return (f"{found}; from the rows of one batch" if problem.batches is not None else found,)


def encode(
    problem: Problem,
    solution: Solution,
    draws: Mapping[str, np.ndarray],
    data: Mapping[str, Any] | None,
    key: int | jax.Array,
) -> dict[str, np.ndarray]:
    """Draws of a plate's latents for rows that an encoder is given.

    Args:
        problem: the problem that was fitted.
        solution: of an `Amortised` guide.
        draws: values of the other latents and of parameters, ``(n, *shape)``, which supports may depend on.
        data: the model's arguments with the new rows; the problem's own by default.
        key: of the draws.

    Returns:
        The encoded latents by name, ``(n, *shape)`` with the new number of rows.

    Raises:
        TautError: ``bad-combination`` for other guides, ``data-missing`` for data that the encoder takes.
    """
    guide = encoder_of(problem, solution)
    data = problem.data if data is None else data
    arrays, constants = split(problem.model, data)
    assert guide.standing is not None
    origin, sites = guide.standing.origin, guide.standing.sites
    with scope(problem.precision):
        program, leaves = trace_program(few_rows(problem.model), arrays, constants)
        inputs = ([*leaves, np.zeros(2, np.uint32)], list(program.closed.consts))
        unseen = [name for name in program.latents if name not in problem.latents]
        if unseen and isinstance(guide, SemiAmortised):
            raise TautError(
                "data-missing",
                site=unseen[0],
                found=f"new rows without {unseen[0]!r}",
                expected="observed rows: they are refined by their own density",
                remedy=f"fit.predict(dict({unseen[0]}=...), new_rows='encode')",
            )
        there = origin.stand(program, arrays, constants, inputs, guide.standing.takes)
        loc, log_scale = (
            np.asarray(v, float) for v in jax.jit(partial(there.local, program))(dict(solution.params), inputs)
        )
        count = len(next(iter(draws.values())))
        z = loc + np.exp(log_scale) * generator(key, 4003).standard_normal((count, len(loc)))
        others = {n: np.asarray(v) for n, v in draws.items() if n in problem.layout and n not in sites}
        index = there.local_index(program)

        def values(z: Any, others: Any) -> dict[str, Any]:
            flat = jnp.zeros(program.dim + program.num_params).at[index].set(z)
            holes = fill(program, flat, jnp.ones(flat.size))
            return program.evaluate("value", holes, *inputs, values=others, names=sites)

        found = jax.jit(jax.vmap(values))(jnp.asarray(z), others)
        return {name: np.asarray(value) for name, value in found.items()}


def predict_encoded(
    problem: Problem,
    solution: Solution,
    draws: Mapping[str, np.ndarray],
    data: Mapping[str, Any] | None,
    key: int | jax.Array,
) -> dict[str, np.ndarray]:
    """Predictive draws for other rows, whose latents the encoder gives; observed sites are drawn anew."""
    known = {name: value for name, value in draws.items() if name in problem.layout}
    known |= encode(problem, solution, draws, data, key)
    return predictive(
        problem.model,
        problem.data if data is None else data,
        known,
        size=len(next(iter(known.values()))),
        key=key,
        precision=problem.precision,
        forget=True,
    )


def encoder_of(problem: Problem, solution: Solution) -> Amortised:
    """The amortised guide of a solution, bound to the problem.

    Raises:
        TautError: ``bad-combination`` for other guides.
    """
    if not isinstance(solution.guide, Amortised):
        raise TautError(
            "bad-combination",
            found=f"{type(solution.guide).__name__}, which has no encoder",
            expected="a fit with taut.guides.Amortised or SemiAmortised",
            remedy='taut.fit(model, data, guide=taut.guides.Amortised("rows", encoder)); for new rows without one: '
            'fit.predict(data, new_rows="prior")',
        )
    guide = bind(solution.guide, problem)
    assert isinstance(guide, Amortised)
    return guide


@dataclass(frozen=True)
class _Given:
    """What stays while rows are fitted."""

    program: Program
    guide: Amortised
    params: dict[str, Any]
    model: np.ndarray
    inputs: Any

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.program, self.guide, self.params, self.model, self.inputs


@partial(jax.jit, static_argnums=(0, 1))
def _elbo(program: Program, guide: Amortised, params: Any, model: Any, inputs: Any, x: Any, noise: Any) -> Any:
    """The sum of log weights at given noise, and its gradient in the rows' own parameters."""
    count_compilation()
    loc, log_scale = guide.local(program, params, inputs)

    def total(x: Any) -> Any:
        moved, widened = jnp.split(jnp.asarray(x, loc.dtype), 2)
        here = (loc + jnp.exp(log_scale) * moved, log_scale + widened)
        return jnp.sum(_log_weights(program, guide, params, model, inputs, *here, noise))

    return jax.value_and_grad(total)(jnp.asarray(x, loc.dtype))


@partial(jax.jit, static_argnums=(0, 1))
def _gains(program: Program, guide: Amortised, params: Any, model: Any, inputs: Any, x: Any, noise: Any) -> Any:
    """Log weights with the rows' own parameters less those with the encoder's, at the same noise."""
    count_compilation()
    loc, log_scale = guide.local(program, params, inputs)
    moved, widened = jnp.split(jnp.asarray(x, loc.dtype), 2)
    own = _log_weights(
        program, guide, params, model, inputs, loc + jnp.exp(log_scale) * moved, log_scale + widened, noise
    )
    return own - _log_weights(program, guide, params, model, inputs, loc, log_scale, noise)


def _log_weights(
    program: Program, guide: Amortised, params: Any, model: Any, inputs: Any, loc: Any, log_scale: Any, noise: Any
) -> Any:
    def one(noise: Any) -> Any:
        point, log_q = guide.push_at(program, params, loc, log_scale, noise, inputs)
        whole = jnp.concatenate([point.coordinates, jnp.asarray(model, loc.dtype)])
        return log_joint(program, whole, point.centredness, *inputs) - log_q

    return jax.vmap(one)(jnp.asarray(noise, loc.dtype))


def _blocks(noise: np.ndarray) -> list[np.ndarray]:
    return [noise[start : start + _BLOCK] for start in range(0, len(noise), _BLOCK)]


def _row_size(guide: Amortised, program: Program) -> int:
    assert guide.standing is not None
    first = guide.standing.sites[0]
    rows = next(p.length for p in program.sites[first].plates if p.name == guide.standing.plate)
    return len(guide.local_index(program)) // rows
