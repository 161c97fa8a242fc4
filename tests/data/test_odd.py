"""What people hand over as data: taken where it is plain what is meant, refused by name where it is not."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from taut._errors import TautError
from taut.data import Batches

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402


def file(path: Path, table: Any, **options: Any) -> Path:
    pq.write_table(pa.table(table), path, **options)
    return path


def refused(data: Any, **options: Any) -> TautError:
    with pytest.raises(TautError) as caught:
        list(Batches(data, **{"size": 2, "plate": "rows", **options}))
    return caught.value


def test_images_as_nested_lists_keep_their_shape(tmp_path: Path):
    images = np.arange(7 * 4 * 3, dtype=np.float32).reshape(7, 4, 3)
    batches = Batches(file(tmp_path / "a.parquet", {"x": images.tolist()}), size=3, plate="rows")
    for batch, rows in ((b["x"], b["y"]) for b in Batches(dict(x=images, y=np.arange(7)), size=3, plate="rows")):
        np.testing.assert_array_equal(batch, images[rows])
    found = np.concatenate([b["x"] for b in batches])
    assert found.shape == (7, 4, 3)
    np.testing.assert_array_equal(found[np.argsort(found[:, 0, 0])], images)


def test_several_columns_make_one_array(tmp_path: Path):
    table = {"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "y": [True, False, True]}
    path = file(tmp_path / "a.parquet", table)
    batches = Batches(path, size=3, plate="rows", columns={"x": ["b", "a"], "label": "y"})
    (batch,) = list(batches)
    order = np.argsort(batch["x"][:, 1])
    np.testing.assert_array_equal(batch["x"][order], [[0.5, 1.0], [1.5, 2.0], [2.5, 3.0]])
    assert batch["label"][order].tolist() == [True, False, True] and set(batch) == {"x", "label"}
    assert refused(path, columns={"x": ["a", "c"]}).code == "data-type"
    assert "columns=" in str(refused(dict(y=np.ones(3)), columns=["y"]))


def test_files_of_other_types_meet_in_the_wider_one(tmp_path: Path):
    paths = [
        file(tmp_path / "a.parquet", {"y": pa.array([1, 2], pa.int32())}),
        file(tmp_path / "b.parquet", {"y": pa.array([2**40, 3], pa.int64())}),
        file(tmp_path / "c.parquet", {"y": pa.array([], pa.int64())}),
    ]
    found = np.concatenate([b["y"] for b in Batches(paths, size=3, plate="rows")])
    assert found.dtype == np.int64 and sorted(found) == [1, 2, 3, 2**40]
    found = np.concatenate([b["y"] for b in Batches([*paths, file(tmp_path / "d.parquet", {"y": [0.5]})], 2, "rows")])
    assert found.dtype == np.float64 and sorted(found) == [0.5, 1, 2, 3, 2**40]


def test_a_stream_may_not_change_its_type_or_its_shape():
    whole, fractions = dict(y=np.arange(3)), dict(y=np.arange(3) + 0.5)
    error = refused([whole, fractions])
    assert error.site == "y" and "float64" in str(error) and 'astype("float64")' in str(error)
    assert [len(b["y"]) for b in Batches([fractions, whole], size=4, plate="rows")] == [4, 2]
    assert refused([whole, dict(z=np.arange(3))]).code == "data-type"


def test_one_row_and_one_batch(tmp_path: Path):
    for data in (dict(y=[1.0]), [dict(y=np.ones(1))], file(tmp_path / "a.parquet", {"y": [1.0]})):
        batches = Batches(data, size=1, plate="rows")
        assert len(batches) == 1 and next(iter(batches))["y"].tolist() == [1.0]
        assert "size=1" in str(refused(data, size=2))


@pytest.mark.parametrize(
    "column, what",
    [
        (np.array(["a", "b"]), "pandas.factorize"),
        (pd.Series(["a", "b"], dtype="category"), "pandas.factorize"),
        (np.array(["2026-01-01", "2026-01-02"], "datetime64[D]"), "numpy.timedelta64"),
        (pd.Series([datetime.datetime(2026, 1, 1)] * 2), "numpy.timedelta64"),
        (np.array([1j, 2j]), "real"),
        (np.array([None, 1.0]), "a column of object"),
    ],
)
def test_what_is_no_number_is_refused_with_what_makes_one_of_it(column: Any, what: str):
    error = refused(dict(y=column))
    assert error.code == "data-type" and error.site == "y" and what in str(error)


def test_no_rows(tmp_path: Path):
    empty = file(tmp_path / "a.parquet", {"y": pa.array([], pa.float64())})
    for data in (empty, [], [dict(y=np.ones(0))], dict(y=np.ones(0)), pa.table({"y": pa.array([], pa.float64())})):
        error = refused(data, size=1)
        assert error.code in ("data-type", "bad-argument"), error
    assert "without a row" in str(refused(empty, size=1))


def test_data_frames(tmp_path: Path):
    frame = pd.DataFrame({"x": [0.5, 1.5, 2.5], "y": [1, 2, 3]}, index=[7, 3, 5])

    class Other:
        """A frame of another library: columns, and one by name."""

        columns = ("x", "y")

        def __getitem__(self, name: str) -> Any:
            return frame[name].to_numpy()

    for data in (frame, Other(), dict(frame), pa.table({"x": frame["x"].tolist(), "y": frame["y"].tolist()})):
        found = list(Batches(data, size=2, plate="rows"))
        assert sorted(np.concatenate([b["y"] for b in found])) == [1, 2, 3]
        for batch in found:
            np.testing.assert_array_equal(batch["x"], batch["y"] - 0.5)


def test_strided_and_foreign_arrays(tmp_path: Path):
    base = np.arange(60.0).reshape(20, 3)
    np.save(tmp_path / "images.npy", np.arange(40, dtype=np.uint8).reshape(20, 2))
    given = dict(
        f=np.asfortranarray(base),
        r=base[::-1],
        e=base.astype(">f8"),
        m=np.load(tmp_path / "images.npy", mmap_mode="r"),
        y=np.arange(20),
    )
    for batch in Batches(given, size=7, plate="rows"):
        for name in ("f", "e"):
            np.testing.assert_array_equal(batch[name], base[batch["y"]])
        np.testing.assert_array_equal(batch["r"], base[::-1][batch["y"]])
        np.testing.assert_array_equal(batch["m"][:, 0], 2 * batch["y"])
        assert batch["m"].dtype == np.uint8


def test_a_wide_row_makes_a_small_window(tmp_path: Path):
    path = file(tmp_path / "a.parquet", {"x": np.zeros((300, 2**10)).tolist(), "y": np.arange(300).tolist()})
    batches = Batches(path, size=100, plate="rows")
    assert batches.source.window * 2**10 * 8 <= 2**26  # pyright: ignore[reportAttributeAccessIssue]
    assert sorted(np.concatenate([b["y"] for b in batches])) == list(range(300))
