r"""Held-out log-likelihoods of models with latents of rows: many weights of each row, in a memory that does not grow.

$$\log p(x_i) \approx \log \frac1S \sum_{s=1}^S w_{is}, \qquad w_{is} = \frac{p(x_i, z_s)}{q(z_s \mid x_i)}$$
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from taut._arguments import bad_argument, whole_number
from taut._errors import TautError
from taut._keys import jax_key
from taut._precision import real_dtype, scope
from taut.algorithms import Solution, by_row, weights_of
from taut.data import Batches
from taut.guides import Amortised, Guide, bind, with_model
from taut.guides import Program as GuideProgram
from taut.nn._fitted import Fitted, problem_of
from taut.objectives import IWAE, JVI, Objective
from taut.problem import Problem, Program, check_later, count_compilation, leaves_of


class Mean(NamedTuple):
    """A mean over rows in nats, and its standard error over rows."""

    value: float
    se: float


class Found(Fitted, Protocol):
    """A fit with what its algorithm found."""

    @property
    def solution(self) -> Solution | None:
        """The guide and its parameters, unless the fit was loaded."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOutRows:
    r"""What a model says of rows that it has not seen, in nats a row; ``print`` shows a table.

    ``log_likelihood`` is the `IWAE` of all S draws: in expectation it lies below the log-likelihood, by about half the
    relative variance of the weights over S. The others are means over groups of K of the same draws.

    Attributes:
        by_row: ``"log_likelihood"``, ``"elbo"``, ``"iwae"``, ``"jvi1"`` and ``"jvi2"``, each ``float64[rows]`` in the
            order of the data.
        effective: effective number of draws $(\sum w)^2 / \sum w^2$ of every row, ``float64[rows]``: where it is near
            one, a single draw decides, and the log-likelihood may be far too low.
        samples: draws S of every row.
        particles: draws K of a group.
    """

    by_row: dict[str, np.ndarray]
    effective: np.ndarray
    samples: int
    particles: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.effective)

    @property
    def log_likelihood(self) -> Mean:
        """The log of the mean of all S weights."""
        return self._mean("log_likelihood")

    @property
    def elbo(self) -> Mean:
        """The mean of log weights."""
        return self._mean("elbo")

    @property
    def iwae(self) -> Mean:
        """The log of the mean of K weights."""
        return self._mean("iwae")

    @property
    def jvi1(self) -> Mean:
        """The jackknife of order 1 over K weights; NaN for K < 2."""
        return self._mean("jvi1")

    @property
    def jvi2(self) -> Mean:
        """The jackknife of order 2 over K weights; NaN for K < 3."""
        return self._mean("jvi2")

    def __str__(self) -> str:
        k = self.particles
        lines = [
            (f"log p(x), {self.samples:,} draws", self.log_likelihood),
            ("ELBO", self.elbo),
            (f"IWAE, K = {k}", self.iwae),
            (f"JVI-1, K = {k}", self.jvi1),
            (f"JVI-2, K = {k}", self.jvi2),
        ]
        width = max(len(name) for name, _ in lines)
        text = [f"{name.ljust(width)}  {found.value:10.4f} ± {found.se:.2g}" for name, found in lines]
        few = int(np.sum(self.effective < 5))
        sure = f"; fewer than 5 in {few:,} rows, of which one draw decides" if few else ""
        return "\n".join(
            [f"nats a row, over {self.rows:,} rows", *text, f"effective draws {np.median(self.effective):,.0f}{sure}"]
        )

    __repr__ = __str__

    def _mean(self, name: str) -> Mean:
        x = self.by_row[name]
        se = float(np.std(x, ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")
        return Mean(float(np.mean(x)), se)


def held_out(
    fit: Found,
    data: Any,
    *,
    samples: int = 5000,
    particles: int = 32,
    size: int = 100,
    key: int | jax.Array = 0,
) -> HeldOutRows:
    """The log-likelihood of rows that a fit has not seen, by importance weights of its guide.

    Each row is weighed by itself: all latents must stand in the plate of the rows, and the guide must be a function of
    their data, as an encoder is. No more than ``size * particles`` log joints are held at a time, each with
    ``particles`` numbers for the jackknife, whatever ``samples`` and the number of rows are; what is kept is six
    numbers a row.

    Args:
        fit: of a `VAE`, or of any such model and guide.
        data: rows that it has not seen: a mapping of arrays, or whatever else `taut.data.Batches` takes; or batches.
        samples: draws S of each row.
        particles: draws K of a group, for the `IWAE` and the `JVI`.
        size: rows at a time; that of ``data`` where these are batches.
        key: an integer or a JAX key.

    Returns:
        `HeldOutRows`.

    Raises:
        TautError: ``no-model`` for a loaded fit; ``bad-combination`` for latents that rows share, rows that depend on
            one another, and guides that stand at the rows of the fit alone; ``bad-argument`` for other numbers.

    Source: Burda, Grosse, Salakhutdinov (2016), section 5, for 5,000 draws; Nowozin (2018) for the jackknife.

    Example:
        >>> positive = dist.constraints.positive
        >>> def model(x):
        ...     with taut.plate("rows", len(x)):
        ...         z = taut.sample("z", dist.Normal(0.0, 1.0))
        ...         taut.sample("x", dist.Normal(z, taut.param("s", 1.0, constraint=positive)), obs=x)
        >>> def guide(x):
        ...     with taut.plate("rows", len(x)):
        ...         scale = taut.param("c", 0.7, constraint=positive)
        ...         taut.sample("z", dist.Normal(taut.param("a", 0.5) * x, scale))
        >>> batches = taut.data.Batches(dict(x=np.linspace(-2.5, 2.5, 200)), 50, "rows")
        >>> svi = taut.algorithms.SVI(steps=100)
        >>> fit = taut.fit(model, batches, guide=guide, algorithm=svi, verify=False)
        >>> found = taut.nn.held_out(fit, dict(x=np.array([0.0, 1.0])), samples=1000)
        >>> exact = -0.5 * np.log(2 * np.pi * (1 + float(fit["s"].mean) ** 2))
        >>> bool(abs(found.by_row["log_likelihood"][0] - exact) < 0.05)
        True
    """
    for name, value, least in (("samples", samples, particles), ("particles", particles, 1), ("size", size, 1)):
        whole_number(name, value, "samples=5000, particles=32", least=least)
    problem, solution = problem_of(fit, "taut.nn.held_out(fit, data)"), fit.solution
    assert solution is not None
    plate = _plate(problem, solution)
    batches, count = _batches(data, size, plate)
    here = Problem(problem.model, batches, precision=problem.precision, discrete=problem.discrete)
    guide = bind(solution.guide, here)
    _check_guide(here, guide, solution)
    # Rows that it cannot tell apart are refused here.
    apart: Any = by_row(here, guide, IWAE(particles=max(2, particles)))
    by_k = _Estimates(particles)
    found = {name: np.empty(batches.rows) for name in (*_NAMES, "effective")}
    with scope(problem.precision):
        params = jax.tree.map(lambda v: jnp.asarray(v, real_dtype()), dict(solution.params))
        model = jnp.asarray(solution.model_params, real_dtype())
        static = (here.program, guide, dataclasses.replace(apart, objective=by_k.objective), by_k)
        for step, (numbers, leaves) in enumerate(_pass(here, batches, key)):
            words = jax.random.key_data(jax.random.fold_in(jax_key(key), step))
            part = weighed(*static, params, model, words, np.int32(samples), here.inputs, leaves)
            for name, value in part.items():
                found[name][numbers] = np.asarray(value, float)[: len(numbers)]
    found = {name: value[:count] for name, value in found.items()}
    return HeldOutRows({name: found[name] for name in _NAMES}, found["effective"], int(samples), int(particles))


_NAMES = ("log_likelihood", "elbo", "iwae", "jvi1", "jvi2")


@dataclass(frozen=True)
class _Estimates:
    """What is taken of each group of K log weights."""

    particles: int

    @property
    def objective(self) -> Objective:
        return IWAE(particles=self.particles)

    def of(self, log_weights: Any) -> dict[str, Any]:
        """From ``float[K, rows]``, each ``float[rows]``."""
        k, none = self.particles, jnp.full(log_weights.shape[1], jnp.nan, log_weights.dtype)
        found = {"iwae": IWAE(particles=k).reduce(log_weights)}
        for order in (1, 2):
            found[f"jvi{order}"] = JVI(particles=k, order=order).reduce(log_weights) if k > order else none
        return found


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def weighed(
    program: Program,
    guide: Guide,
    objective: Any,
    estimates: _Estimates,
    params: Any,
    model: Any,
    words: Any,
    samples: Any,
    inputs: Any,
    leaves: Any,
) -> dict[str, Any]:
    """All estimates of the rows of one batch, ``float[rows]`` each: K draws at a time, as often as is needed."""
    count_compilation()
    known, consts = inputs
    given = [leaves.get(place, leaf) for place, leaf in enumerate(known)], consts
    there = with_model(guide, params, model)
    key, k = jax.random.wrap_key_data(words), estimates.particles
    rows, kind = objective.rows.length, real_dtype()

    def group(step: Any, so_far: Any) -> Any:
        top, total, squares, means = so_far
        weights = weights_of(program, guide, jax.random.fold_in(key, step), given, objective)
        log_w = weights(there, there, model)
        # A last group that is not whole counts where single draws do.
        left = samples - step * k
        counts = (jnp.arange(k) < left)[:, None]
        held = jnp.where(counts, log_w, -jnp.inf)
        higher = jnp.maximum(top, jnp.max(held, axis=0))
        safe = jnp.where(jnp.isfinite(higher), higher, 0.0)
        shrunk, w = jnp.exp(jnp.where(jnp.isfinite(top), top - safe, -jnp.inf)), jnp.exp(held - safe)
        whole = (left >= k).astype(kind)
        done = jnp.asarray(step, kind)
        each = {"elbo": jnp.mean(log_w, axis=0), **estimates.of(log_w)}
        single = jnp.sum(jnp.where(counts, log_w, 0.0), axis=0)
        share = jnp.minimum(left, k) / jnp.minimum(samples, (step + 1) * k).astype(kind)
        moved = {n: means[n] + whole * (each[n] - means[n]) / (done + 1.0) for n in means}
        moved["elbo"] = means["elbo"] + share * (single / jnp.minimum(left, k) - means["elbo"])
        return higher, total * shrunk + jnp.sum(w, axis=0), squares * shrunk**2 + jnp.sum(w**2, axis=0), moved

    zero = jnp.zeros(rows, kind)
    opening = jnp.full(rows, -jnp.inf, kind), zero, zero, dict.fromkeys(_NAMES[1:], zero)
    top, total, squares, means = jax.lax.fori_loop(0, -(-samples // k), group, opening)
    return {
        "log_likelihood": top + jnp.log(total) - jnp.log(samples.astype(kind)),
        "effective": total**2 / squares,
        **means,
    }


def _pass(problem: Problem, batches: Batches, key: int | jax.Array) -> Iterator[tuple[np.ndarray, dict[int, Any]]]:
    """All rows once: their numbers, and the leaves of a batch of one size, the last one filled up with repetitions."""
    for step in range(len(batches)):
        taken = batches.take(key, step, 1)
        numbers = taken.rows[0]
        wanted = np.arange(batches.size) % len(numbers)
        columns = {name: value[:, wanted] for name, value in taken.columns.items()}
        stacked = leaves_of(problem.arrays, columns, taken.rows[:, wanted])
        check_later(problem, stacked)
        yield numbers, {place: value[0] for place, value in stacked.items()}


def _plate(problem: Problem, solution: Solution) -> str:
    """The plate of the rows.

    Raises:
        TautError: ``bad-combination`` where there is none in which everything stands.
    """
    if problem.batches is not None:
        return problem.batches.plate
    apart: Any = by_row(problem, bind(solution.guide, problem), IWAE(particles=2))
    if not hasattr(apart, "rows"):
        shared = [name for name, latent in problem.latents.items() if not latent.plates]
        raise TautError(
            "bad-combination",
            site=shared[0] if shared else None,
            found=f"{', '.join(shared) or 'latents'}, which rows share"
            if shared
            else "rows that depend on one another, or a guide without a density by site",
            expected="latents that all stand in one plate, each row's on its own",
            remedy="fit.predict(data) and taut.nn.log_predictive, for models whose latents all rows share",
        )
    return apart.rows.plate


def _batches(data: Any, size: int, plate: str) -> tuple[Batches, int]:
    """Batches of the rows, and how many there are."""
    if isinstance(data, Batches):
        if data.plate != plate:
            raise bad_argument(
                "plate", f"batches of plate {data.plate!r}", f"plate {plate!r}, as in the fit", f'plate="{plate}"'
            )
        return data, data.rows
    one = Batches(data, 1, plate)
    if one.rows == 1 and one.whole is not None:
        # A plate of one row has no axis that tells rows: there are two of it.
        return Batches({name: np.repeat(value, 2, axis=0) for name, value in one.whole.items()}, 2, plate), 1
    return Batches(data, min(size, one.rows), plate), one.rows


def _check_guide(problem: Problem, guide: Guide, solution: Solution) -> None:
    """Refuse guides that hold parameters of the fit's own rows: they say nothing about others."""
    if isinstance(guide, Amortised | GuideProgram):
        fresh = {name: np.shape(value) for name, value in guide.init(problem, 0).items()}
        given = {name: np.shape(value) for name, value in solution.params.items() if name in fresh}
        odd = [name for name in fresh if given.get(name) != fresh[name]]
        if not odd:
            return
        found = f"{odd[0]!r} of shape {given.get(odd[0])}, and {fresh[odd[0]]} for these rows"
    else:
        found = f"{type(guide).__name__}, whose parameters are those of the fit's own rows"
    raise TautError(
        "bad-combination",
        site="guide",
        found=found,
        expected="a guide whose latents are functions of their row's data",
        remedy=f'guide=taut.guides.Amortised("{next(iter(problem.latents.values())).plates[0]}", encoder), or a '
        "function with a network in it",
    )
