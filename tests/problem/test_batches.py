"""A model on batches: the plate stands for all rows, and over any partition nothing is gained or lost."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import taut
from taut import dist, guides
from taut._errors import TautError
from taut._precision import scope
from taut.data import Batches
from taut.problem import leaves_of

N = 103
RNG = np.random.default_rng(0)
DATA = {"x": RNG.standard_normal((N, 3)), "y": RNG.standard_normal(N)}


def shared(x: Any, y: Any) -> None:
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def local(x: Any, y: Any) -> None:
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with taut.plate("rows", len(y)) as rows:
        z = taut.sample("z", dist.Normal(0.0, 1.0))
        taut.factor("row", 0.01 * rows)
        taut.sample("y", dist.Normal(x @ w + z, 1.0), obs=y)


def of_batch(problem: Any, chunk: Any, i: int = 0) -> Any:
    leaves, consts = problem.inputs
    leaves = list(leaves)
    for place, value in leaves_of(problem.arrays, {n: v[i] for n, v in chunk.columns.items()}, chunk.rows[i]).items():
        leaves[place] = jnp.asarray(value)
    return leaves, consts


@pytest.mark.parametrize("size", [1, 10, 40, 103])
def test_over_a_partition_the_objective_is_that_of_the_whole_data(size: int):
    values = {"w": np.array([0.1, -0.2, 0.3])}
    batches = Batches(DATA, size=size, plate="rows")
    problems = {len(batches.first(last).rows): taut.Problem(shared, batches, last=last) for last in (False, True)}
    total = 0.0
    with scope("float64"):
        for step in range(len(batches)):
            chunk = batches.take(0, step, 1)
            rows = chunk.rows.shape[1]
            problem = problems[rows]
            total += rows / N * float(problem.log_joint(values, inputs=of_batch(problem, chunk)))
    residuals = DATA["y"] - DATA["x"] @ values["w"]
    expected = stats.norm.logpdf(residuals).sum() + stats.norm.logpdf(values["w"]).sum()
    np.testing.assert_allclose(total, expected, rtol=1e-12)


def test_every_row_keeps_its_number_and_latents_of_rows_count_as_their_data_do():
    batches = Batches(DATA, size=10, plate="rows")
    problem = taut.Problem(local, batches)
    chunk = batches.take(0, 3, 1)
    values = {"w": np.zeros(3), "z": np.full(10, 0.4)}
    with scope("float64"):
        found = float(problem.log_joint(values, inputs=of_batch(problem, chunk)))
    y, rows = chunk.columns["y"][0], chunk.rows[0]
    terms = stats.norm.logpdf(0.4) * 10 + stats.norm.logpdf(y - 0.4).sum() + 0.01 * rows.sum()
    np.testing.assert_allclose(found, N / 10 * terms + 3 * stats.norm.logpdf(0.0), rtol=1e-12)


def test_a_guide_of_rows_stands_at_the_batch():
    batches = Batches(DATA, size=10, plate="rows")
    problem = taut.Problem(local, batches)

    def guide(y: Any) -> None:
        taut.sample("w", dist.Normal(taut.param("loc", jnp.zeros(3)), 0.1).to_event(1))
        slope = taut.param("slope", 0.5)
        with taut.plate("rows", len(y)):
            taut.sample("z", dist.Normal(slope * y, 0.7))

    bound = guides.bind(guide, problem)
    params = bound.init(problem, 0)
    y = batches.take(0, 5, 1).columns["y"][0]
    with scope("float64"):
        inputs = of_batch(problem, batches.take(0, 5, 1))
        point, log_q = bound.sample_and_log_prob(problem.program, params, jax.random.key(1), inputs)
    assert isinstance(point, dict)
    z, w = np.asarray(point["z"]), np.asarray(point["w"])
    expected = N / 10 * stats.norm.logpdf(z, 0.5 * y, 0.7).sum() + stats.norm.logpdf(w, 0.0, 0.1).sum()
    np.testing.assert_allclose(float(log_q), expected, rtol=1e-10)


def test_what_all_rows_share_is_no_column():
    def model(y: Any, scale: Any, degree: int) -> None:
        w = taut.sample("w", dist.Normal(0.0, scale).expand([degree]).to_event(1))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Normal(w.sum(), 1.0), obs=y)

    batches = Batches(dict(y=DATA["y"]), size=10, plate="rows", shared=dict(scale=2.0, degree=4))
    assert taut.Problem(model, batches).dim == 4


@pytest.mark.parametrize("plate, found", [("row", "'rows'"), ("other", "'rows'")])
def test_a_plate_that_the_model_does_not_open_is_refused(plate: str, found: str):
    with pytest.raises(TautError) as refused:
        taut.Problem(shared, Batches(DATA, size=10, plate=plate))
    assert refused.value.code == "plate-size" and found in str(refused.value) and 'plate="rows"' in str(refused.value)


def test_a_plate_of_another_length_is_refused():
    def model(x: Any, y: Any) -> None:
        w = taut.sample("w", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 50):
            taut.sample("y", dist.Normal(w, 1.0))

    with pytest.raises(TautError) as refused:
        taut.Problem(model, Batches(DATA, size=10, plate="rows"))
    assert refused.value.code == "plate-size" and "len(y)" in str(refused.value)
