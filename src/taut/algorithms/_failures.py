"""What SVI refuses before it starts, and what it says of a run that broke."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._precision import scope
from taut.algorithms._rows import weights_of
from taut.gradients import GradientEstimator, Pathwise
from taut.guides import Flat, Guide, wide_dim, wide_layout, with_model
from taut.guides import Program as GuideProgram
from taut.objectives import Objective
from taut.problem import DISCRETE, Problem, fill, model_holes


def check_pair(problem: Problem, guide: Guide, gradient: GradientEstimator) -> None:
    """Refuse a guide that the estimator cannot move, or that cannot follow the model's rows.

    Raises:
        TautError: ``bad-combination``.
    """
    estimator = type(gradient).__name__
    still = guide.still
    if gradient.pathwise and still:
        name, family = next(iter(still.items()))
        raise TautError(
            "bad-combination",
            site=name,
            found=f"{family} with {estimator}: its draws do not follow its parameters, which would stay where they are",
            expected="an estimator that does not differentiate through draws, or draws that are smooth",
            remedy="gradient=taut.gradients.ScoreFunction(), objective=taut.objectives.ELBO(particles=16)",
        )
    if not guide.evaluable and not isinstance(gradient, Pathwise):
        raise TautError(
            "bad-combination",
            found=f"{type(guide).__name__} with {estimator}, which takes log q at draws apart from how they were made",
            expected="the gradient through the draws and their weights together",
            remedy="gradient=taut.gradients.Pathwise()",
        )
    discrete = [latent for latent in problem.latents.values() if latent.transform == DISCRETE]
    if discrete and not isinstance(guide, GuideProgram):
        raise TautError(
            "discrete-latent",
            site=discrete[0].name,
            source=discrete[0].source,
            found=f"{type(guide).__name__} for {discrete[0].family}, whose values are discrete",
            expected="a guide that draws it",
            remedy=f'a function: taut.sample("{discrete[0].name}", dist.Bernoulli(p)) with p = taut.param(...)',
        )
    subsampled = set(problem.program.outputs["rows"])
    local = [latent for latent in problem.latents.values() if subsampled & set(latent.plates)]
    if local and not guide.follows_rows:
        plate = next(name for name in local[0].plates if name in subsampled)
        raise TautError(
            "bad-combination",
            site=local[0].name,
            source=local[0].source,
            found=f"{type(guide).__name__} for a latent in plate {plate!r}, whose rows change from step to step: "
            "the family is written down for all rows together, and no batch of rows has a density of its own in it",
            expected="a guide that falls apart into the plate's rows",
            remedy=f'guide=taut.guides.MeanField(), or taut.guides.Amortised("{plate}", encoder); for all rows at '
            f'once: taut.plate("{plate}", ...) without subsample_size',
        )


def check_same_data(problem: Problem, fingerprint: Any) -> None:
    """Refuse data that change from step to step where no plate says how many rows there are in all.

    Args:
        problem: what the next step is to be on.
        fingerprint: of the data that the run began with; ``None`` is not compared.

    Raises:
        TautError: ``batch-total``.
    """
    if fingerprint is None or problem.program.outputs["rows"]:
        return
    if np.array_equal(np.asarray(fingerprint), problem.fingerprint):
        return
    sites = [site for site in problem.program.sites.values() if site.observed]
    plates = [plate for site in sites for plate in site.plates]
    name, rows = (plates[0].name, plates[0].length) if plates else ("rows", 100)
    raise TautError(
        "batch-total",
        site=sites[0].name if sites else None,
        source=sites[0].source if sites else None,
        found=f"other data than at the first step, {rows} rows that count as all there are",
        expected="the plate's full size, by which the rows of a batch are weighed",
        remedy=f'with taut.plate("{name}", 10_000, subsample_size={rows}) as rows: ... obs=y[rows], with all the data; '
        "for a new run on new data: svi.init(problem, guide, key)",
    )


def diagnose(
    problem: Problem,
    guide: Guide,
    objective: Objective,
    gradient: GradientEstimator,
    learned: Any,
    keys: tuple[Any, Any],
    step: int,
) -> str:
    """Which step, sites and parameters a run broke at: the step is taken again, slowly, from the last finite state."""
    draws, rows = keys
    leaves, consts = problem.inputs
    inputs = ([*leaves[:-1], rows], consts)

    def loss(learned: Any) -> Any:
        weights = weights_of(problem.program, guide, draws, inputs, objective)
        return gradient.surrogate(objective, weights, with_model(guide, learned.guide, learned.model), learned.model)

    value, slope = jax.jit(jax.value_and_grad(loss))(learned)
    broken = [
        f"{name} ({_range(at)})" for name, part, at in _parts(problem, slope, learned) if not np.all(np.isfinite(part))
    ]
    params = with_model(guide, learned.guide, learned.model)
    point, log_q = _point(problem, guide, params, jax.random.split(draws, objective.particles)[0], inputs)
    sites = [name for name, term in _terms(problem, point, learned.model, inputs).items() if not np.isfinite(term)]
    what = []
    if not np.isfinite(value):
        what.append(f"the objective is {float(value)}")
    if sites:
        what.append(f"log density of {', '.join(map(repr, sites))} at the draw is not finite")
    if not np.isfinite(log_q):
        what.append("log q at the draw is not finite")
    if isinstance(guide, GuideProgram):
        what += guide.broken(problem.program, learned.guide, draws, inputs)
    if broken:
        what.append("gradient is not finite in " + ", ".join(broken))
    return f"step {step}: {'; '.join(what) or 'not finite'}; the last finite state is returned"


def impossible_start(problem: Problem, guide: Guide, params: Any, model: Any, words: Any, starts: int) -> TautError:
    """The error for an objective that is not finite wherever it was started, naming the site."""
    params = with_model(guide, params, model)
    point, _ = _point(problem, guide, params, jax.random.wrap_key_data(words), problem.inputs)
    terms = _terms(problem, point, model, problem.inputs)
    bad = [name for name, term in terms.items() if not np.isfinite(term)]
    site = problem.program.sites[bad[0]] if bad else None
    return TautError(
        "impossible-start",
        site=bad[0] if bad else None,
        source=site.source if site else None,
        found=f"log density {terms[bad[0]]} of {bad[0]!r} at a draw from the guide, after {starts} starts: "
        + ", ".join(f"{n} = {v:.4g}" for n, v in _first_values(problem, point, model).items())
        if bad
        else f"an objective or a gradient that is not finite at each of {starts} starts",
        expected="a finite log density at draws from the first guide",
        remedy="check that the observed values can occur under the prior, or start the guide where they can",
    )


def _parts(problem: Problem, slope: Any, learned: Any) -> list[tuple[str, Any, Any]]:
    """Gradient and value of each parameter: by site where a parameter has one entry per coordinate."""
    parts: list[tuple[str, Any, Any]] = []
    for name, part in slope.guide.items():
        value = learned.guide[name]
        if name in ("loc", "log_scale", "log_diagonal") and part.shape == (wide_dim(problem.program),):
            sites = wide_layout(problem.program)
            parts += [(f"{name} of {site!r}", part[where], value[where]) for site, where in sites.items()]
        else:
            parts.append((f"param {name!r}", part, value))
    start = 0
    for param in problem.params.values():
        where = slice(start, start + param.size)
        parts.append((f"param {param.name!r}", slope.model[where], learned.model[where]))
        start += param.size
    return parts


def _point(problem: Problem, guide: Guide, params: Any, key: Any, inputs: Any) -> tuple[Any, Any]:
    return jax.jit(lambda p, k, i: guide.sample_and_log_prob(problem.program, p, k, i))(params, key, inputs)


def _terms(problem: Problem, point: Any, model: Any, inputs: Any) -> dict[str, float]:
    """The log density of each site at a guide's point, at the rows of those inputs."""
    with scope(problem.precision):
        if isinstance(point, Flat):
            whole = jnp.concatenate([point.coordinates, jnp.asarray(model)])
            lam = jnp.concatenate([point.centredness[: problem.dim], jnp.ones(problem.num_params)])
            found = problem.program.evaluate("density", fill(problem.program, whole, lam), *inputs)
        else:
            found = problem.program.evaluate("plain", model_holes(problem.program, model), *inputs, values=dict(point))
        return {name: float(term) for name, term in found.items()}


def _first_values(problem: Problem, point: Any, model: Any) -> dict[str, float]:
    """The first number of each latent at a guide's point, in the model's own space."""
    values: Any = point
    if isinstance(point, Flat):
        flat = np.concatenate([np.asarray(point.coordinates), np.asarray(model)])
        found = problem.constrain(flat[None], np.asarray(point.centredness))
        values = {name: found[name][0] for name in problem.latents}
    return {name: float(np.asarray(values[name]).ravel()[0]) for name in problem.latents}


def _range(values: Any) -> str:
    values = np.asarray(values)
    low, high = float(np.min(values)), float(np.max(values))
    return f"at {low:.4g}" if low == high else f"from {low:.4g} to {high:.4g}"
