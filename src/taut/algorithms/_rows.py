r"""Logarithms inside of a plate: an importance-weighted bound of independent rows is the sum of the rows' bounds.

With a latent per row and none beside them, $p(x, z) = \prod_i p(x_i, z_i)$ and $q(z) = \prod_i q(z_i)$, so that
$\sum_i \mathbb E \log \frac1K \sum_k w_{ik}$ is a bound, and far tighter than $\log \frac1K \sum_k \prod_i w_{ik}$.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._precision import real_dtype, scope
from taut.algorithms._log_weights import LogWeights
from taut.algorithms._priors import moved_point, rest_of
from taut.gradients import Fresh, Noise
from taut.guides import Flat, Guide, with_model
from taut.objectives import Bound, Objective
from taut.problem import Problem, Program, fill, model_holes

FRESH = Fresh()


@dataclass(frozen=True)
class Rows:
    """The plate whose rows are independent: its name, how many rows are seen, and how many each stands for."""

    plate: str
    length: int
    weight: float


@dataclass(frozen=True)
class ByRow(Objective):
    """An objective of every row, summed; its log-weights are ``float[particles, rows]``."""

    objective: Objective
    rows: Rows
    bound: ClassVar[Bound | None] = "lower"

    @property
    def particles(self) -> int:  # type: ignore[override]
        """See `Objective`."""
        return self.objective.particles

    def __str__(self) -> str:
        return f"{self.objective}; by row of plate {self.rows.plate!r}"

    @property
    def averaged_over(self) -> int:  # type: ignore[override]
        """See `Objective`."""
        return self.objective.averaged_over

    @property
    def falls(self) -> bool:
        """See `Objective`."""
        return self.objective.falls

    @property
    def own_gradient(self) -> bool:
        """See `Objective`."""
        return self.objective.own_gradient

    @property
    def yardstick(self) -> Objective:
        """See `Objective`."""
        return ByRow(self.objective.yardstick, self.rows)

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return jnp.sum(self.reduce_each(log_weights))

    def reduce_each(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return self.rows.weight * self.objective.reduce(log_weights)

    def score_weights(self, log_weights: Any) -> Any:
        """See `Objective`."""
        return self.rows.weight * self.objective.score_weights(log_weights)

    def kl_weight(self, step: Any = None) -> Any:
        """See `Objective`."""
        return self.objective.kl_weight(step)


@dataclass(frozen=True)
class RowWeights(LogWeights):
    """Log-weights of fresh draws, row by row."""

    rows: Rows | None = None

    def __call__(self, draw: Any, density: Any, model: Any) -> Any:
        r"""$\log p(x_i, z_{ik}) - \log q(z_{ik})$, ``float[particles, rows]``; arguments as for `LogWeights`."""
        rows = self.rows
        assert rows is not None

        def one(point: Any, _: Any) -> Any:
            return _row_weights(self.program, self.guide, density, model, point, self.inputs, rows)

        return self.each(draw, one)

    def still(self, draw: Any) -> Any:
        r"""$\log q$ of the draws at the sites that do not follow their parameters, ``float[particles, rows]``."""
        rows = self.rows
        assert rows is not None

        def one(point: Any, _: Any) -> Any:
            terms = self.guide.still_log_prob_by_site(self.program, draw, point, self.inputs)
            return sum(_to_rows(self.program, name, term, rows) for name, term in terms.items()) / rows.weight

        return self.each(draw, one)

    def through_priors(self, draw: Any, model: Any) -> tuple[Any, Any]:
        """See `LogWeights`; each ``float[particles, rows]``."""
        rows = self.rows
        assert rows is not None
        held = jax.lax.stop_gradient(model)

        def one(point: Any, _: Any) -> tuple[Any, Any]:
            moved = moved_point(self.program, point, model, self.inputs)
            rest = rest_of(self.program, moved, model, self.inputs, "_terms")
            by_row = sum(_to_rows(self.program, name, term, rows) for name, term in rest.items()) / rows.weight
            return by_row, _row_weights(self.program, self.guide, draw, held, moved, self.inputs, rows)

        return self.each(draw, one)


def weights_of(
    program: Program,
    guide: Guide,
    key: Any,
    inputs: Any,
    objective: Objective,
    noise: Noise = FRESH,
    step: Any = None,
) -> LogWeights:
    """The log-weights that an objective takes, at a step of its schedule."""
    given = (program, guide, key, inputs, objective.draws, objective.closed_form, noise, objective.kl_weight(step))
    return RowWeights(*given, rows=objective.rows) if isinstance(objective, ByRow) else LogWeights(*given)


def by_row(problem: Problem, guide: Guide, objective: Objective) -> Objective:
    """The objective, taken row by row where the model's and the guide's rows are independent.

    Args:
        problem: the problem.
        guide: a guide that is bound to it.
        objective: any; means of log-weights are the same either way and stay as they are.

    Raises:
        TautError: ``bad-combination`` for subsampled rows under a latent that they share: a batch's bound, raised to
            the size of the data inside of the logarithm, is none.
    """
    if objective.averages or objective.particles == 1:
        return objective
    known = _KNOWN.setdefault(problem, {})
    if guide not in known:
        known[guide] = _independent_rows(problem, guide)
    rows = known[guide]
    if rows is not None:
        return ByRow(objective, rows)
    subsampled = list(problem.program.outputs["rows"])
    if subsampled:
        shared = [n for n, latent in problem.latents.items() if subsampled[0] not in latent.plates]
        raise TautError(
            "bad-combination",
            site=shared[0] if shared else None,
            found=f"{type(objective).__name__}(particles={objective.particles}) over batches of plate "
            f"{subsampled[0]!r}, with {', '.join(shared) or 'rows that depend on one another'} outside of it",
            expected="the whole data, or the ELBO: a batch's weight raised to the size of the data, inside of a "
            "logarithm, gives no bound",
            remedy="objective=taut.objectives.ELBO()",
        )
    return objective


_KNOWN: weakref.WeakKeyDictionary[Problem, dict[Guide, Rows | None]] = weakref.WeakKeyDictionary()


def _independent_rows(problem: Problem, guide: Guide) -> Rows | None:
    """The plate that all sites stand in, if no row depends on another in the model or in the guide."""
    program = problem.program
    sites = [s for s in program.sites.values() if s.name in program.outputs["density"]]
    common = set.intersection(*({p.name for p in s.plates} for s in sites))
    if not common or any(latent.coordinate_shape == (0,) for latent in problem.latents.values()):
        return None
    # The outermost: it has the most rows to take logarithms of.
    frame = min((p for p in sites[0].plates if p.name in common), key=lambda p: p.dim)
    if set(program.outputs["rows"]) - {frame.name} or frame.length < 2:
        return None
    rows = Rows(frame.name, frame.length, frame.size / frame.length)
    return rows if _are_independent(problem, guide, rows) else None


def _are_independent(problem: Problem, guide: Guide, rows: Rows) -> bool:
    """Whether NaN in some rows leaves the others finite: for every two rows there is a split that parts them."""
    program, inputs = problem.program, problem.inputs
    with scope(problem.precision):
        params = {n: jnp.asarray(v, real_dtype()) for n, v in guide.init(problem, 0).items()}
        model = np.zeros(problem.num_params)
        if problem.num_params:
            (inits,) = problem.kernel().constants(("init",))
            model = np.concatenate([inits[name].ravel() for name in problem.params])
        params = with_model(guide, params, jnp.asarray(model, real_dtype()))
        if not guide.evaluable:
            return False

        # Weights and data are arguments: as constants they would be folded into what is compiled.
        @jax.jit
        def run(mask: Any, params: Any, model: Any, inputs: Any) -> Any:
            point, _ = guide.sample_and_log_prob(program, params, jax.random.key(0), inputs)
            if guide.log_prob_by_site(program, params, point, inputs) is None:
                raise _NoRows
            return _row_weights(program, guide, params, model, _spoilt(program, point, mask, rows), inputs, rows)

        given = params, jnp.asarray(model), inputs
        try:
            whole = np.asarray(run(jnp.zeros(rows.length, bool), *given))
        except _NoRows:
            return False
        if not np.isfinite(whole).all():
            return False
        index = np.arange(rows.length)
        for bit in range((rows.length - 1).bit_length()):
            for mask in ((index >> bit & 1).astype(bool), ~(index >> bit & 1).astype(bool)):
                if not np.isfinite(np.asarray(run(mask, *given))[~mask]).all():
                    return False
    return True


class _NoRows(Exception):
    """A term has no axis for the rows."""


def _row_weights(program: Program, guide: Guide, density: Any, model: Any, point: Any, inputs: Any, rows: Rows) -> Any:
    if isinstance(point, Flat):
        holes = fill(program, point.coordinates, point.centredness, model)
        terms = program.evaluate("density_terms", holes, *inputs)
    else:
        values = {name: jnp.asarray(value, real_dtype()) for name, value in point.items()}
        terms = program.evaluate("plain_terms", model_holes(program, model), *inputs, values=values)
    log_q = guide.log_prob_by_site(program, density, point, inputs)
    assert log_q is not None
    log_p = sum(_to_rows(program, name, term, rows) for name, term in terms.items()) / rows.weight
    return log_p - sum(_to_rows(program, name, term, rows) for name, term in log_q.items()) / rows.weight


def _to_rows(program: Program, name: str, term: Any, rows: Rows) -> Any:
    """A site's term summed over everything but the rows."""
    dim = next(p.dim for p in program.sites[name].plates if p.name == rows.plate)
    latent = program.latents.get(name)
    batch = len(latent.shape) - latent.event_dim if latent is not None else jnp.ndim(term)
    axis = batch + dim
    if axis < 0 or jnp.ndim(term) <= axis or jnp.shape(term)[axis] != rows.length:
        raise _NoRows
    return jnp.sum(term, axis=[a for a in range(jnp.ndim(term)) if a != axis])


def _spoilt(program: Program, point: Any, mask: Any, rows: Rows) -> Any:
    """The point with NaN in some rows."""

    def spoil(name: str, value: Any) -> Any:
        latent = program.latents[name]
        dim = next(p.dim for p in program.sites[name].plates if p.name == rows.plate)
        axis = len(latent.shape) - latent.event_dim + dim
        shape = [1] * jnp.ndim(value)
        shape[axis] = rows.length
        return jnp.where(jnp.reshape(mask, shape), jnp.nan, value)

    if not isinstance(point, Flat):
        return {name: spoil(name, value) for name, value in point.items()}
    parts = [
        spoil(name, point.coordinates[program.layout[name]].reshape(latent.coordinate_shape)).ravel()
        for name, latent in program.latents.items()
    ]
    return point._replace(coordinates=jnp.concatenate(parts))
