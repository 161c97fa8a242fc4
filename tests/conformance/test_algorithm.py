"""Laws of every algorithm: right on exact problems, resumable to the bit, compiled once per shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from taut import algorithms, gradients, guides, objectives, testing
from taut.problem import Problem, compilations

MEMBERS: dict[str, Callable[[], algorithms.Algorithm]] = {
    "SVI": algorithms.SVI,
    "FixedDraws": algorithms.FixedDraws,
    "FixedNoise": algorithms.FixedNoise,
}
# These know one family only, and Pathfinder's covariance is a quasi-Newton guess: they keep the laws of a run.
FULL_RANK: dict[str, Callable[[], algorithms.Algorithm]] = {
    "Auto": algorithms.Auto,
    "Laplace": algorithms.Laplace,
    "BatchAndMatch": algorithms.BatchAndMatch,
}


def ivon() -> algorithms.Algorithm:
    # Mirrored pairs: the noise of one draw per step is larger than the tolerance of the exact problems.
    return algorithms.IVON(objective=objectives.ELBO(2, kl="analytic"), noise=gradients.Antithetic())


ALL = MEMBERS | FULL_RANK | {"Pathfinder": algorithms.Pathfinder, "MAP": algorithms.MAP, "IVON": ivon}
GAUSSIAN = [testing.conjugate_normal, testing.conjugate_regression, testing.correlated_gaussian]


def run(algorithm: Any, problem: Problem, guide: Any, key: int = 0) -> algorithms.Solution:
    return algorithms.Run()(algorithm, problem, guide, key)


def moments(problem: Problem, solution: algorithms.Solution) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Means and sds by site, and the ELBO, from 20,000 draws of the solution's guide."""
    point, log_q = solution.guide.draws(problem, solution.params, 20_000, np.random.default_rng(0))
    lam = np.asarray(point.centredness)
    log_p, _ = problem.kernel()(point.coordinates, lam)
    values = problem.constrain(point.coordinates, lam)
    return (
        {n: v.mean(axis=0) for n, v in values.items()},
        {n: v.std(axis=0) for n, v in values.items()},
        float(np.mean(log_p - log_q)),
    )


@pytest.mark.parametrize("member", [*MEMBERS.values(), *FULL_RANK.values()], ids=[*MEMBERS, *FULL_RANK])
@pytest.mark.parametrize("exact", GAUSSIAN, ids=lambda f: f.__name__)
def test_gaussian_posteriors_are_found(member: Any, exact: Any):
    known = exact()
    problem = known.problem()
    solution = run(member(), problem, guides.FullRank())
    mean, sd, elbo = moments(problem, solution)
    assert solution.status == "converged"
    # The known tolerance is larger than the noise of 20,000 mirrored draws (sd of a sd: 0.5 %).
    for name in known.mean:
        assert np.all(np.abs(mean[name] - known.mean[name]) < known.tolerance * known.sd[name])
        np.testing.assert_allclose(sd[name], known.sd[name], rtol=known.tolerance)
    np.testing.assert_allclose(elbo, known.log_evidence, atol=0.01)


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
@pytest.mark.parametrize("exact", [testing.correlated_gaussian, testing.neal_funnel], ids=lambda f: f.__name__)
def test_mean_field_reaches_its_optimum_and_no_more(member: Any, exact: Any):
    known = exact()
    problem = known.problem()
    solution = run(member(), problem, guides.MeanField())
    _, _, elbo = moments(problem, solution)
    # The funnel's log-weights have an sd of about 1 there, so 20,000 of them give the ELBO to 0.01.
    np.testing.assert_allclose(elbo, known.mean_field_elbo, atol=0.05)


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_eight_schools_in_non_centred_coordinates(member: Any):
    known = testing.eight_schools()
    problem = known.problem()
    solution = run(member(), problem, guides.FullRank(centredness=0.0))
    mean, _, elbo = moments(problem, solution)
    # -31.533 is the best a Gaussian can do here; 0.05 covers the noise of the weights.
    assert abs(elbo - -31.533) < 0.05
    for name in ("mu", "theta"):
        assert np.all(np.abs(mean[name] - known.mean[name]) < known.tolerance * known.sd[name])


@pytest.mark.parametrize("member", ALL.values(), ids=ALL)
def test_a_resumed_run_is_the_same_to_the_bit(member: Any):
    known = testing.conjugate_regression()
    algorithm, first = member(), known.problem()
    guide = algorithm.guide(first)
    whole = run(algorithm, known.problem(), guide)
    state, _ = algorithm.step(first, guide, algorithm.init(first, guide, 0))
    # What a file would keep: arrays and numbers, and a problem made anew.
    state = jax.tree.map(lambda leaf: np.array(leaf) if isinstance(leaf, jax.Array) else leaf, state)
    again = known.problem()
    while (status := algorithm.terminate(again, guide, state)) is None:
        state, _ = algorithm.step(again, guide, state)
    resumed = algorithm.finish(again, guide, state, status)
    assert resumed.status == whole.status
    for name in whole.params:
        assert np.array_equal(whole.params[name], resumed.params[name])


@pytest.mark.parametrize("member", ALL.values(), ids=ALL)
def test_new_data_of_the_same_shapes_compile_nothing(member: Any):
    first, second = testing.conjugate_regression(seed=3), testing.conjugate_regression(seed=4)
    algorithm, problem = member(), second.problem()
    guide = algorithm.guide(problem)
    run(algorithm, first.problem(), guide)
    before = compilations()
    solution = run(algorithm, problem, guide)
    assert compilations() == before
    # And the answer is the new data's.
    mean, _, _ = moments(problem, solution)
    assert np.all(np.abs(mean["theta"] - second.mean["theta"]) < second.tolerance * second.sd["theta"])


@pytest.mark.parametrize("member", ALL.values(), ids=ALL)
def test_an_interrupted_run_gives_a_solution(member: Any):
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    algorithm, problem = member(), testing.conjugate_regression().problem()
    solution = algorithms.Run(on_step=interrupt)(algorithm, problem, algorithm.guide(problem), 0)
    assert solution.status == "interrupted"
    assert all(np.all(np.isfinite(v)) for v in solution.params.values())
