"""`taut.fit`: a model and data in, a posterior and a verdict out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from taut import diagnostics
from taut._precision import Precision
from taut._threads import one_blas_thread
from taut.algorithms import (
    SVI,
    Algorithm,
    Auto,
    FixedDraws,
    FixedNoise,
    FlowSVI,
    LowRankDraws,
    Progress,
    Run,
    Solution,
    warm,
    widened,
)
from taut.data import Batches
from taut.fitting._amortisation import amortisation_notes
from taut.fitting._by_hand import as_family
from taut.fitting._checkpoint import Checkpoint, Keeper
from taut.fitting._discrete import all_discrete, problem_for, weigh_all_discrete, with_discrete
from taut.fitting._guide_view import FittedGuide, view_of
from taut.fitting._held_out import HeldOut, Watch, told
from taut.fitting._interrupts import Patience
from taut.fitting._line import progress_line
from taut.fitting._loss import observations
from taut.fitting._on_batches import (
    choose_for_batches,
    in_single,
    numbers_of_batches,
    to_be_weighed,
    unweighed,
    weigh_any,
)
from taut.fitting._params import params_of
from taut.fitting._relabelling import orders
from taut.fitting._remarks import has_no_mean, remarks
from taut.fitting._result import Fit
from taut.fitting._resume import state_from, state_leaves
from taut.fitting._verify import Verified, verify_solution, worth_verifying
from taut.fitting._verify_large import verify_large
from taut.fitting._weigh import Weighed, kept_note, one_row
from taut.guides import Delta, Flow, FullRank, Guide, LowRank, MeanField, Program, bind
from taut.problem import REPARAM_BASE, Problem, sum_notes

DRAWS = 16_000
SURE_KL = 0.005  # nats: a q closer than this tells the evidence better than particles do


@contextmanager
def _quietly() -> Iterator[None]:
    """Without NumPy's warnings and threads: what overflows along an improper direction is said in the verdict."""
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        yield


@_quietly()
def fit(
    model: Callable[..., Any],
    data: Mapping[str, Any] | Batches | None = None,
    *,
    guide: Guide | FittedGuide | Callable[..., Any] | None = None,
    algorithm: Algorithm | None = None,
    key: int | jax.Array = 0,
    draws: int = DRAWS,
    verify: bool = True,
    precision: Precision | None = None,
    progress: bool | None = None,
    allow: Mapping[str, str | Iterable[str]] | None = None,
    resume: Fit | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    held_out: HeldOut | Mapping[str, Any] | Any = None,
) -> Fit:
    r"""Fit a posterior and judge it.

    With no further argument the guide, the algorithm and the stopping are chosen: a full-rank Gaussian on the real
    line (a mixture when modes differ) maximising the ELBO

    $$\mathcal L(q) = E_q[\log p(x, z) - \log q(z)] \le \log p(x)$$

    over fixed orthogonal draws from the best of several starts. Fresh draws are then weighed,
    $\log w = \log p - \log q$, particles are carried from q to the posterior and moved there until they rest, and the
    verdict is made of what both say. Where q is not good enough and the particles are, they are the result.

    Args:
        model: a function written with taut's primitives.
        data: values by argument name; arrays, numbers, sequences. Or `taut.data.Batches`, which SVI visits a few rows
            at a time.
        guide: a family of `taut.guides`, a guide written as a function with the primitives, or a fitted guide
            (``fit.guide``, `taut.load_guide`), from which the fit then begins.
        algorithm: one of `taut.algorithms`.
        key: an integer or a JAX key; the same key gives the same fit.
        draws: draws kept, and weighed for the verdict.
        verify: carry particles to the posterior; without it the verdict is ``"unverified"`` at best.
        precision: ``"float64"``, or ``"float32"``, which is the default on an accelerator, and on batches where more
            than 20,000 numbers are learned.
        progress: show a progress line; by default only in a terminal, for algorithms that take a while.
        allow: by data entry, codes of checks that it is exempt from: ``{"labels": "unused-argument"}``.
        resume: a fit of the same model, guide and `SVI` that was interrupted or used up its steps; an interrupted run
            goes on as if it had not been, bit for bit.
        checkpoint: a file for the state of a long run, or a `taut.Checkpoint`; the same call goes on from it.
        held_out: rows that the fit does not learn from, as `taut.data.Batches` or what they are made of, or a
            `taut.HeldOut`: their objective is looked at along the run and kept in ``fit.held_out``.

    Returns:
        A `Fit`.

    Raises:
        TautError: before the first step, for everything that can be known then.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> fit = taut.fit(model, dict(y=10.0))
        >>> fit.verdict.level, round(float(fit["mu"].mean), 2), round(fit.log_evidence, 4)
        ('trusted', 8.0, -41.0305)
    """
    began = time.perf_counter()
    # A guide written by hand may draw discrete latents; where it does not, they are summed out.
    asked = guide.family if isinstance(guide, FittedGuide) else guide
    by_hand = asked is not None and (isinstance(asked, Program) or not isinstance(asked, Guide))

    def make(left: Any) -> Problem:
        return Problem(model, data, precision=precision, discrete=left, allow=allow)

    problem = problem_for(asked, make) if by_hand else make(False)
    begin = guide.on(problem) if isinstance(guide, FittedGuide) else None
    if begin is not None and algorithm is None:
        algorithm = FixedDraws() if isinstance(begin.ready, FullRank | MeanField | Delta) else SVI()
    algorithm, family = _choose(problem, asked if begin is None else begin.ready, algorithm)
    single: tuple[str, ...] = ()
    if precision is None and (many := in_single(problem, algorithm, family)):
        problem, single = Problem(model, data, precision="float32", discrete=problem.discrete, allow=allow), many
    working = _working(problem, model, data, algorithm)
    run = Run()
    watch = None if held_out is None else Watch(held_out, working, algorithm, family, key)
    with progress_line(algorithm, working, family, run, watch, progress):
        state = None if resume is None else state_from(resume.state, algorithm, working, family, key)
        looks = np.zeros((0, 3))
        if resume is not None:
            looks = resume.held_out
            run.history.extend(Progress("svi", int(g), e, s) for g, e, s in resume.history.tolist())
        if checkpoint is not None and state is None:
            keeper = Keeper(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint), watch)
            state, before, looks = keeper.begin(run, algorithm, working, family, key)
            run.history.extend(before)
        if watch is not None:
            watch.attach(run, looks, state)
        if begin is not None and state is None:
            state = warm(algorithm, working, family, key, begin.params, begin.model_params)
        solution = run(algorithm, working, family, key, state) if problem.latents else all_discrete(problem, key)
    gradients = working.kernel().gradients
    if problem.batches is not None:
        problem = to_be_weighed(problem)
    kernel = problem.kernel()
    # On data that can only be visited in batches particles would take hours.
    whole = problem.batches is None and (working is problem or working.batches is not None)
    probing = verify and whole and bool(problem.latents) and worth_verifying(solution)
    before = kernel.gradients
    if probing:
        solution = widened(problem, solution, key, cover=isinstance(algorithm, Auto))
    probes = kernel.gradients - before
    patience, found = Patience(), solution
    weighed = patience(
        "weighing draws of q",
        lambda: weigh_any(problem, found, draws, key) if problem.latents else weigh_all_discrete(problem, draws),
        lambda: unweighed(problem, found, draws, key),
    )
    weighing = None if weighed.log_weights is None else diagnostics.weigh(weighed.log_weights)
    verifier = verify_large if isinstance(solution.guide, LowRank) else verify_solution
    probing = probing and not patience.skipped
    verified, notes = patience(
        "moving particles to the posterior",
        lambda: verifier(problem, found, weighed, weighing, key) if probing else (None, ()),
        lambda: (None, ()),
    )
    skipped = not verify or bool(patience.skipped)
    notes += remarks(problem, solution, weighed, weighing, None if verified is None else verified.values)
    notes += patience("the amortisation gap", lambda: amortisation_notes(problem, found, key), lambda: ())
    if not patience.skipped:
        streamed, why = patience(
            "the ELBO over all rows", lambda: numbers_of_batches(problem, found, weighed, key), lambda: ({}, ())
        )
        notes += why
    else:
        streamed = {}
    history = solution.history or tuple(run.history)
    if watch is not None:
        seen, why = patience("held-out rows", lambda: told(watch, found, history), lambda: ({}, ()))
        streamed, notes = seen | streamed, notes + why
    notes += patience.notes + single + (() if patience.skipped else kept_note(weighed, draws))
    verdict = _judge(problem, solution, weighed, weighing, verified, notes, skipped=skipped)
    values, log_weights = weighed.values, None if weighed.log_weights is None else weighed.log_weights.ravel()
    guide_draws, guide_log_weights = {}, None
    if verified is not None and verdict.level == diagnostics.CORRECTED:
        guide_draws = {name: values[name] for name in problem.latents}
        guide_log_weights = log_weights
        values, log_weights = verified.values, None
    values = with_discrete(problem, values, draws, key)
    kinds, supports = _kinds(problem, values)
    numbers = streamed | _numbers(weighing, verified, probes, gradients, kernel.compilations, began)
    if weighing is not None and weighed.log_weights is not None and has_no_mean(weighed.log_weights, weighing):
        del numbers["ELBO"], numbers["KL"]
    return Fit(
        title=getattr(model, "__name__", "model"),
        verdict=verdict,
        status=solution.status,
        values=one_row(values, problem.params),
        log_weights=log_weights,
        kinds=kinds,
        supports=supports,
        guide=view_of(problem, solution),
        params=params_of(problem, solution),
        numbers=numbers,
        history=np.array([[p.gradients, p.elbo, p.se] for p in history], float).reshape(-1, 3),
        held_out=np.zeros((0, 3)) if watch is None else watch.looks,
        facts=_facts(problem, algorithm, solution, key),
        guide_draws=guide_draws,
        guide_log_weights=guide_log_weights,
        state=state_leaves(algorithm, solution),
        problem=problem,
        solution=solution,
    )


def _choose(
    problem: Problem, guide: Guide | Callable[..., Any] | None, algorithm: Algorithm | None
) -> tuple[Algorithm, Guide]:
    if problem.batches is not None:
        return choose_for_batches(problem, guide, algorithm)
    if guide is None and algorithm is None:
        auto = Auto()
        return auto, auto.guide(problem)
    if guide is None:
        assert algorithm is not None
        return algorithm, algorithm.guide(problem)
    family = as_family(guide)
    if algorithm is not None:
        return algorithm, family
    if isinstance(family, LowRank):
        return LowRankDraws(), family
    if isinstance(family, Flow):
        return FlowSVI(), family
    if isinstance(family, FullRank | MeanField | Delta):
        return FixedDraws(), family
    return (FixedNoise() if FixedNoise.suits(problem, family) else SVI()), family


def _working(
    problem: Problem, model: Callable[..., Any], data: Mapping[str, Any] | Batches | None, algorithm: Algorithm
) -> Problem:
    """The problem that an algorithm works on: with subsampled plates left so, for one that is made for noise."""
    if not isinstance(algorithm, SVI) or problem.batches is not None:
        return problem
    subsampled = Problem(model, data, precision=problem.precision, subsample=True, discrete=problem.discrete)
    return subsampled if subsampled.program.outputs["rows"] else problem


def _judge(
    problem: Problem,
    solution: Solution,
    weighed: Weighed,
    weighing: diagnostics.Weighing | None,
    verified: Verified | None,
    notes: tuple[str, ...],
    *,
    skipped: bool,
) -> diagnostics.Verdict:
    moments = None
    if weighed.log_weights is not None and np.isfinite(weighed.log_weights).any():
        # Without a continuous latent there is no moment to be wrong about.
        coordinates = weighed.coordinates or {"nothing": np.zeros(weighed.log_weights.size)}
        moments = diagnostics.compare(coordinates, weighed.log_weights)
    drawn = weighed.values if verified is None else verified.values
    known = not skipped and problem.batches is None and bool(problem.latents)
    evidence = diagnostics.Evidence(
        status=solution.status,
        weighing=weighing,
        fit_minus_fresh=solution.gap,
        moments=moments,
        modes=None if solution.modes is None else diagnostics.Modes(*solution.modes),
        flat=solution.flat,
        notes=(*problem.notes, *solution.notes, *notes),
        verification=None if verified is None else verified.facts,
        skipped=skipped and bool(problem.latents),
        orders=orders(problem, drawn, solution.model_params) if known else None,
    )
    return diagnostics.judge(evidence)


def _kinds(problem: Problem, values: Mapping[str, np.ndarray]) -> tuple[dict[str, str], dict[str, str]]:
    kinds, supports = {}, {}
    for name in values:
        latent = problem.latents.get(name, problem.summed.get(name))
        if latent is not None:
            base = REPARAM_BASE in problem.program.sites[name].infer
            kinds[name], supports[name] = "base" if base else "latent", latent.support
        elif name in problem.params:
            kinds[name], supports[name] = "param", problem.params[name].support
        else:
            kinds[name], supports[name] = "deterministic", ""
    return kinds, supports


def _numbers(
    weighing: diagnostics.Weighing | None,
    verified: Verified | None,
    probes: int,
    gradients: int,
    compilations: int,
    began: float,
) -> dict[str, tuple[float, float | None, str]]:
    numbers: dict[str, tuple[float, float | None, str]] = {}
    if weighing is not None:
        found = verified.facts if verified is not None and weighing.kl > SURE_KL else weighing
        numbers["log evidence"] = (found.log_evidence, found.log_evidence_se, "nats")
        numbers["ELBO"] = (weighing.elbo, weighing.elbo_se, "nats")
        numbers["KL"] = (weighing.kl, weighing.kl_se, "nats")
        numbers["k-hat"] = (weighing.khat, None, "")
    numbers["gradients"] = (gradients, None, "")
    if verified is not None:
        numbers["gradients of SMC"] = (verified.facts.gradients + probes, None, "")
    numbers["compilations"] = (compilations, None, "")
    numbers["seconds"] = (time.perf_counter() - began, None, "s")
    return numbers


def _facts(problem: Problem, algorithm: Algorithm, solution: Solution, key: int | jax.Array) -> dict[str, str]:
    plates = {p.name: p.size for site in problem.program.sites.values() for p in site.plates}
    chosen: dict[str, str] = {}
    if isinstance(algorithm, SVI):
        objective, estimator = algorithm.pair(problem, bind(solution.guide, problem))
        chosen = {"objective": str(objective), "gradient": type(estimator).__name__}
    return {
        "guide": type(solution.guide).__name__,
        "algorithm": type(algorithm).__name__,
        **chosen,
        "key": str(key) if isinstance(key, int) else "a JAX key",
        "precision": problem.precision,
        "latents": str(problem.dim),
        **({"discrete": "; ".join(sum_notes(problem.program))} if sum_notes(problem.program) else {}),
        "observations": str(observations(problem)),
        "plates": ", ".join(f"{name} ({size})" for name, size in plates.items()) or "none",
        "versions": f"jax {jax.__version__}, numpy {np.__version__}",
    }
