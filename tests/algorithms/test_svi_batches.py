"""SVI over batches: the posterior of the whole data, the same run however it is cut."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist, guides
from taut.algorithms import SVI, Run
from taut.data import Batches

N = 103
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 2))
Y = X @ np.array([1.0, -0.5]) + RNG.standard_normal(N)


def model(x: Any, y: Any) -> None:
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def posterior() -> tuple[np.ndarray, np.ndarray]:
    covariance = np.linalg.inv(np.eye(2) + X.T @ X)
    return covariance @ X.T @ Y, covariance


@pytest.mark.parametrize("size", [10, 40, 103])
def test_batches_lead_to_the_posterior_of_the_whole_data(size: int):
    problem = taut.Problem(model, Batches(dict(x=X, y=Y), size=size, plate="rows"))
    solution = Run()(SVI(steps=12_800), problem, guides.FullRank(), 0)
    mean, covariance = posterior()
    sd = np.sqrt(np.diag(covariance))
    # The average over a stage of 6,400 steps whose noise has the variance of a batch's gradient: about .02 sd.
    assert np.all(np.abs(solution.params["loc"] - mean) < 0.15 * sd)
    found = guides.FullRank.factor(solution.params)
    np.testing.assert_allclose(np.sqrt(np.diag(found @ found.T)), sd, rtol=0.1)


def test_a_run_is_the_same_however_it_is_cut_and_wherever_it_goes_on():
    def fresh() -> taut.Problem:
        return taut.Problem(model, Batches(dict(x=X, y=Y), size=10, plate="rows"))

    svi, guide, problem = SVI(steps=400), guides.MeanField(), fresh()
    states = [svi.init(problem, guide, 3)]
    while svi.terminate(problem, guide, states[-1]) is None:
        states.append(svi.step(problem, guide, states[-1])[0])
    whole = states[-1]
    for chunk in (7, 100):
        cut = Run()(SVI(steps=400, chunk=chunk), fresh(), guide, 3)
        np.testing.assert_array_equal(cut.state.learned.guide["loc"], whole.learned.guide["loc"])
    # From the middle, on a problem and batches made anew.
    again = Run()(svi, fresh(), guide, 3, states[17])
    assert states[17].step % 11 != 0
    for a, b in zip(jax.tree.leaves(again.state), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_run_compiles_nothing():
    batches = Batches(dict(x=X, y=Y), size=10, plate="rows")
    Run()(SVI(steps=400), taut.Problem(model, batches), guides.MeanField(), 0)
    other = Batches(dict(x=X + 1.0, y=Y), size=10, plate="rows")
    problem = taut.Problem(model, other)
    Run()(SVI(steps=400), problem, guides.MeanField(), 1)
    assert problem.kernel().compilations == 0


def test_latents_of_rows_by_an_encoder():
    """y_i ~ N(z_i, 1), z_i ~ N(0, 1): the posterior of a row is N(y / 2, 1 / 2), which this guide can say."""

    def rows(y: Any) -> None:
        with taut.plate("rows", len(y)):
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(y: Any) -> None:
        slope, shift = taut.param("slope", 0.0), taut.param("shift", 0.1)
        scale = taut.param("scale", 1.0, constraint=dist.constraints.positive)
        with taut.plate("rows", len(y)):
            taut.sample("z", dist.Normal(slope * y + shift, scale))

    problem = taut.Problem(rows, Batches(dict(y=Y), size=10, plate="rows"))
    solution = Run()(SVI(steps=6400), problem, guides.bind(guide, problem), 0)
    assert abs(float(solution.params["slope"]) - 0.5) < 0.01
    assert abs(float(solution.params["shift"])) < 0.01
    assert abs(float(jnp.exp(solution.params["scale"])) - np.sqrt(0.5)) < 0.01


def test_rows_gathered_on_the_device_are_those_that_come_in_stacks(monkeypatch: pytest.MonkeyPatch):
    def run() -> Any:
        problem = taut.Problem(model, Batches(dict(x=X, y=Y), size=10, plate="rows"))
        return Run()(SVI(steps=400), problem, guides.MeanField(), 3).params["loc"]

    gathered = run()
    monkeypatch.setattr("taut.data._batches._RESIDENT", 0)
    np.testing.assert_allclose(gathered, run(), rtol=1e-12)
