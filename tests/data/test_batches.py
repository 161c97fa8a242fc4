"""Batches: every row once an epoch, the same rows for the same key, and refusals of what cannot be right."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import taut
from taut import dist
from taut._errors import TautError
from taut.algorithms import at_step, feed
from taut.data import Batches

N = 103


class Tables:
    """A source that begins anew each time, in tables of uneven sizes."""

    def __init__(self, columns: dict[str, np.ndarray], cuts: tuple[int, ...] = (10, 50, 51)):
        self.columns, self.cuts = columns, cuts

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        n = len(next(iter(self.columns.values())))
        edges = [0, *self.cuts, n]
        for a, b in itertools.pairwise(edges):
            yield {name: value[a:b] for name, value in self.columns.items()}


def columns(n: int = N) -> dict[str, np.ndarray]:
    return {"x": np.arange(3.0 * n).reshape(n, 3), "y": np.arange(n)}


def parquet(tmp_path: Any, data: dict[str, np.ndarray], group: int) -> Any:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    table = arrow.table({name: value.tolist() for name, value in data.items()})
    pyarrow.parquet.write_table(table, path, row_group_size=group)
    return path


def memory_map(tmp_path: Any, data: dict[str, np.ndarray]) -> dict[str, Any]:
    for name, value in data.items():
        np.save(tmp_path / f"{name}.npy", value)
    return {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in data}


def dataset(tmp_path: Any, data: dict[str, np.ndarray]) -> Any:
    pytest.importorskip("pyarrow")
    import pyarrow.dataset

    return pyarrow.dataset.dataset(parquet(tmp_path, data, 30))


SOURCES = {
    "arrays": lambda path: columns(),
    "memory map": lambda path: memory_map(path, columns()),
    "parquet": lambda path: parquet(path, columns(), 40),
    "pyarrow data set": lambda path: dataset(path, columns()),
    "tables": lambda path: Tables(columns()),
}


def walk(batches: Batches, key: Any, begin: int, end: int, limit: int = 3) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Batches from one step to another, one by one."""
    found, step = [], begin
    while step < end:
        count = batches.run(step, min(limit, end - step))
        chunk = batches.take(key, step, count)
        found += [(chunk.rows[i], {n: v[i] for n, v in chunk.columns.items()}) for i in range(count)]
        step += count
    return found


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_an_epoch_has_every_row_once_with_its_own_values(make: Any, tmp_path: Any):
    batches = Batches(make(tmp_path), size=10, plate="rows")
    assert batches.rows == N and len(batches) == 11 and not batches.even
    for epoch in range(3):
        found = walk(batches, 5, epoch * 11, (epoch + 1) * 11)
        assert [len(rows) for rows, _ in found] == [10] * 10 + [3]
        assert sorted(np.concatenate([rows for rows, _ in found])) == list(range(N))
        for rows, part in found:
            np.testing.assert_array_equal(part["y"], rows)
            np.testing.assert_array_equal(part["x"], columns()["x"][rows])


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_the_same_key_and_step_give_the_same_batches_wherever_one_begins(make: Any, tmp_path: Any):
    data = make(tmp_path)
    whole = walk(Batches(data, size=10, plate="rows"), 3, 0, 30)
    for begin in (0, 1, 7, 10, 11, 17, 25):
        for limit in (1, 4, 100):
            again = walk(Batches(data, size=10, plate="rows"), 3, begin, 30, limit)
            for (rows, _), (expected, _) in zip(again, whole[begin:], strict=True):
                np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("name", ["arrays", "memory map", "parquet"])
def test_epochs_and_keys_differ_in_their_order(name: str, tmp_path: Any):
    batches = Batches(SOURCES[name](tmp_path), size=10, plate="rows")
    first, second = (np.concatenate([r for r, _ in walk(batches, 0, e * 11, e * 11 + 11)]) for e in (0, 1))
    other = np.concatenate([r for r, _ in walk(batches, 1, 0, 11)])
    assert not np.array_equal(first, second) and not np.array_equal(first, other)


def test_reading_ahead_changes_nothing():
    batches = Batches(columns(), size=10, plate="rows")
    expected = walk(Batches(columns(), size=10, plate="rows"), 0, 0, 22, limit=1)
    for (rows, _), (again, _) in zip(walk(batches, 0, 0, 22, limit=5), expected, strict=True):
        np.testing.assert_array_equal(rows, again)
    # From the middle of what was read ahead, and back.
    for step in (4, 2, 3, 4, 15, 0):
        np.testing.assert_array_equal(batches.take(0, step, 1).rows[0], expected[step][0])


def test_a_sum_over_any_partition_is_the_whole_sum():
    y = np.random.default_rng(0).standard_normal(N)
    for size in (1, 7, 40, 103):
        batches = Batches(dict(y=y), size=size, plate="rows")
        parts = walk(batches, 0, 0, len(batches))
        # N / |b| per row, and |b| / N per batch: exact up to rounding.
        total = sum(len(r) / N * (N / len(r)) * part["y"].sum() for r, part in parts)
        np.testing.assert_allclose(total, y.sum(), rtol=1e-12)


def test_generators_are_refused():
    for data in ((dict(y=np.ones(3)) for _ in range(2)), iter([dict(y=np.ones(3))])):
        with pytest.raises(TautError) as refused:
            Batches(data, size=1, plate="rows")
        assert refused.value.code == "data-iterator" and "again" in str(refused.value)
    with pytest.raises(TautError) as refused:
        Batches(dict(y=(i for i in range(3))), size=1, plate="rows")
    assert refused.value.code == "data-iterator" and refused.value.site == "y"


def test_ragged_columns_are_refused_by_name(tmp_path: Any):
    with pytest.raises(TautError) as refused:
        Batches(dict(x=np.ones((5, 2)), y=np.ones(4)), size=2, plate="rows")
    assert refused.value.site == "y" and "x has 5, y has 4" in str(refused.value)
    with pytest.raises(TautError) as refused:
        Batches([dict(x=np.ones(5), y=np.ones(5)), dict(x=np.ones(5), y=np.ones(4))], size=2, plate="rows")
    assert "table 1" in str(refused.value)
    with pytest.raises(TautError) as refused:
        list(Batches([dict(x=np.ones((5, 2))), dict(x=np.ones((5, 3)))], size=10, plate="rows"))
    assert refused.value.site == "x" and "(3,)" in str(refused.value)
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(arrow.table({"x": [[1.0, 2.0], [3.0]]}), tmp_path / "ragged.parquet")
    with pytest.raises(TautError) as refused:
        list(Batches(tmp_path / "ragged.parquet", size=1, plate="rows"))
    assert refused.value.site == "x" and "1 to 2" in str(refused.value)
    pyarrow.parquet.write_table(arrow.table({"x": [1.0, None]}), tmp_path / "gaps.parquet")
    with pytest.raises(TautError) as refused:
        list(Batches(tmp_path / "gaps.parquet", size=1, plate="rows"))
    assert refused.value.site == "x" and "missing" in str(refused.value)


@pytest.mark.parametrize("total", [100, 110])
def test_a_wrong_total_is_refused(total: int):
    with pytest.raises(TautError) as refused:
        list(Batches(Tables(columns()), size=10, plate="rows", total=total))
    assert refused.value.code == "batch-total" and str(total) in str(refused.value)
    with pytest.raises(TautError) as refused:
        Batches(columns(), size=10, plate="rows", total=total)
    assert refused.value.code == "batch-total"


@pytest.mark.parametrize(
    "arguments",
    [dict(size=0), dict(size=2.0), dict(size=True), dict(size=104), dict(plate=""), dict(plate=3), dict(total=-1)],
)
def test_arguments_are_checked(arguments: dict[str, Any]):
    with pytest.raises(TautError) as refused:
        Batches(columns(), **{"size": 10, "plate": "rows", **arguments})
    assert refused.value.code == "bad-argument"


def test_words_and_empty_data_are_refused():
    for data in (dict(y=np.array(["a", "b"])), [dict(y=np.array(["a", "b"]))], [dict(y=np.float64(1.0))], [3], []):
        with pytest.raises(TautError) as refused:
            Batches(data, size=1, plate="rows")
        assert refused.value.code == "data-type"
    for data in ({}, 3, None):
        with pytest.raises(TautError) as refused:
            Batches(data, size=1, plate="rows")
        assert refused.value.code == "bad-argument"


def shared(x: Any, y: Any) -> None:
    a = taut.sample("a", dist.Normal(0.0, 1.0))
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(a + x @ w / 100.0, 2.0), obs=y / 50.0)


def of_rows(x: Any, y: Any) -> None:
    a = taut.sample("a", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        z = taut.sample("z", dist.Normal(a, 1.0))
        taut.sample("y", dist.Normal(z + x[:, 0] / 100.0, 2.0), obs=y / 50.0)


POINT = {"a": np.float64(0.3), "w": np.array([0.1, -0.2, 0.3])}
Z = np.random.default_rng(0).standard_normal(N)


def parts(batches: Batches, model: Any) -> list[tuple[np.ndarray, float]]:
    """Row numbers and the objective of each batch of an epoch, at one point."""
    problem = taut.Problem(model, batches)
    words, step, found = np.asarray(jax.random.key_data(jax.random.key(3))), 0, []
    while step < len(batches):
        with jax.enable_x64(True):
            fed = feed(problem, words, step, len(batches), 4)
            for index in range(fed.steps):
                inputs = at_step((fed.problem.inputs, fed.leaves), index, np.zeros(2, np.uint32))
                rows = next(v for v in fed.leaves.values() if v.ndim == 2 and v.dtype.kind == "i" and is_rows(v))[index]
                point = {"a": POINT["a"], "z": Z[rows]} if model is of_rows else POINT
                found.append((rows, float(fed.problem.log_joint(point, inputs=inputs))))
        step += fed.steps
    return found


def is_rows(leaf: np.ndarray) -> bool:
    return bool(np.all(leaf < N)) and leaf.dtype == np.int64


@pytest.mark.parametrize("model", [shared, of_rows])
@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_the_objective_is_that_of_the_whole_data(make: Any, model: Any, tmp_path: Any):
    point = {"a": POINT["a"], "z": Z} if model is of_rows else POINT
    expected = float(taut.Problem(model, columns()).log_joint(point))
    for size in (10, N):
        found = parts(Batches(make(tmp_path), size=size, plate="rows"), model)
        assert sorted(np.concatenate([rows for rows, _ in found])) == list(range(N))
        total = sum(len(rows) / N * value for rows, value in found)
        assert abs(total - expected) < 1e-6 * abs(expected)


@pytest.mark.parametrize("rows", [20, 23])
def test_numbers_of_rows_are_those_of_the_batches(rows: int):
    batches = Batches(dict(x=np.arange(rows, dtype=float)), size=5, plate="rows")
    step = 0
    while step < 3 * len(batches):
        count = batches.run(step, 7)
        assert np.array_equal(batches.numbers(3, step, count), batches.take(3, step, count).rows)
        step += count
    assert batches.resident
