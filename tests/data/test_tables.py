"""Tables: what a file holds is what the model gets, in four formats, and every bad file is refused by name."""

from __future__ import annotations

import builtins
import gzip
import json
import os
import stat
import threading

import numpy as np
import pytest

from taut._errors import TautError
from taut._files import atomic_write
from taut.data import read_table


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path) -> TautError:
    with pytest.raises(TautError) as caught:
        read_table(path)
    return caught.value


# -- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_json_keeps_integers_static_and_lists_become_arrays(tmp_path, zipped):
    text = (
        '{"N": 3, "scale": 2.0, "flag": true, "y": [1, 2, 3], "x": [[1, 2.5], [3, 4]], "m": [true, false], "τ": [-0.5]}'
    )
    text = "\ufeff" + text  # as Windows programs write it
    blob = gzip.compress(text.encode()) if zipped else text.encode()
    table = read_table(write(tmp_path, "d.json.gz" if zipped else "d.JSON", blob))
    assert list(table) == ["N", "scale", "flag", "y", "x", "m", "τ"]
    assert table["N"] == 3 and type(table["N"]) is int
    assert table["scale"] == 2.0 and type(table["scale"]) is float
    assert table["flag"] is True
    expected = {
        "y": np.array([1, 2, 3], np.int64),
        "x": np.array([[1, 2.5], [3, 4]], np.float64),
        "m": np.array([True, False]),
        "τ": np.array([-0.5], np.float64),
    }
    for key, array in expected.items():
        np.testing.assert_array_equal(table[key], array, strict=True)


def test_json_floats_keep_every_bit(tmp_path):
    values = np.random.default_rng(0).standard_normal(200) * 10.0 ** np.arange(-100, 100)
    table = read_table(write(tmp_path, "d.json", json.dumps({"x": values.tolist()})))
    assert table["x"].tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("text", "code", "site", "found"),
    [
        ('{"y": [[1, 2], [3]]}', "data-type", "y", "ragged lists: shape (2,) at y[0], shape (1,) at y[1]"),
        ('{"y": [1, [2]]}', "data-type", "y", "ragged lists: shape () at y[0], shape (1,) at y[1]"),
        ('{"y": [[1], [null]]}', "data-type", "y", "null at y[1][0]"),
        ('{"y": "high"}', "data-type", "y", "the text 'high'"),
        ('{"y": {"a": 1}}', "data-type", "y", "an object"),
        ('{"y": [true, 1]}', "data-type", "y", "booleans beside numbers"),
        ('{"y": [9223372036854775808]}', "data-type", "y", "a whole number beyond 64 bits"),
        ('{"N": 9223372036854775808}', "data-type", "N", "a whole number beyond 64 bits"),
        ('{"y": [1], "y": [2]}', "file-format", None, "the name 'y' 2 times"),
        ("[1, 2]", "file-format", None, "a list"),
        ('{"y": [1,', "file-format", None, "line 1 column 10"),
        ("[" * 100_000, "file-format", None, "text that is not JSON"),
        (b'{"y\xff": 1}', "file-format", None, "0xff"),
        ('{"y": ' + "1" * 5000 + "}", "file-format", None, "text that is not JSON"),
    ],
)
def test_bad_json_is_refused(tmp_path, text, code, site, found):
    path = write(tmp_path, "d.json", text)
    error = refusal(path)
    assert (error.code, error.site) == (code, site or str(path))
    assert found in error.found


def test_truncated_gzip_is_refused(tmp_path):
    assert refusal(write(tmp_path, "d.json.gz", gzip.compress(b'{"y": 1}')[:-4])).code == "file-format"


# -- CSV -------------------------------------------------------------------------------------------------------------


def test_csv_columns_get_the_narrowest_type(tmp_path):
    text = 'n, x ,flag,big,"a,b"\r\n1,1,true,1e3,-7\r\n-2, .5,FALSE,inf,+8\r\n\r\n'
    table = read_table(write(tmp_path, "d.csv", text))
    assert list(table) == ["n", "x", "flag", "big", "a,b"]
    expected = [
        np.array([1, -2], np.int64),
        np.array([1, 0.5]),
        np.array([True, False]),
        np.array([1e3, np.inf]),
        np.array([-7, 8], np.int64),
    ]
    for array, want in zip(table.values(), expected, strict=True):
        np.testing.assert_array_equal(array, want, strict=True)


@pytest.mark.parametrize(
    ("text", "code", "site", "found"),
    [
        ("x,name\n1,2\n2,Bob\n", "data-type", "name", "'Bob' in row 2 (line 3)"),
        ("x,y\n1,2\n,3\n", "data-type", "x", "a missing cell ('') in row 2 (line 3)"),
        ("x,y\n1,2\n1,NA\n", "data-type", "y", "a missing cell ('NA') in row 2 (line 3)"),
        ("x\n1\n\n2\n", "data-type", "x", "a missing cell ('') in row 2 (line 3)"),
        ("x,y\n1,2\n,\n", "data-type", "x", "a missing cell ('') in row 2 (line 3)"),
        ("x\n1_000\n", "data-type", "x", "'1_000'"),
        ("x\n٣\n", "data-type", "x", "'٣'"),
        ("x\n99999999999999999999\n", "data-type", "x", "beyond 64 bits"),
        ("x,y\n1\n", "file-format", None, "1 cells in row 1 (line 2)"),
        (",x\n0,1\n", "file-format", None, "no name for column 1"),
        ("x,x\n0,1\n", "file-format", None, "the name 'x' 2 times"),
        ("x;y\n0,5;1\n", "file-format", None, "divided by ';'"),
        ("x,y\n", "file-format", None, "1 line(s)"),
        ("", "file-format", None, "0 line(s)"),
        ('x\n"1', "file-format", None, "not CSV"),
        (b"x\n\xff\n", "file-format", None, "not CSV"),
    ],
)
def test_bad_csv_is_refused(tmp_path, text, code, site, found):
    path = write(tmp_path, "d.csv", text)
    error = refusal(path)
    assert (error.code, error.site) == (code, site or str(path))
    assert found in error.found


# -- npz -------------------------------------------------------------------------------------------------------------


def test_npz_arrays_come_back_signed_and_scalars_static(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, N=np.int32(4), y=np.array([[1, 255]], np.uint8), x=np.array([0.1], np.float32), b=np.array([True]))
    table = read_table(path)
    assert table["N"] == 4 and type(table["N"]) is int
    np.testing.assert_array_equal(table["y"], np.array([[1, 255]], np.int64), strict=True)
    np.testing.assert_array_equal(table["x"], np.array([np.float64(np.float32(0.1))]), strict=True)
    np.testing.assert_array_equal(table["b"], np.array([True]), strict=True)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array(["a"]), "dtype <U1"),
        (np.array([1j]), "dtype complex128"),
        (np.array(["2020-01-01"], "M8[D]"), "dtype datetime64[D]"),
        (np.array([2**63], np.uint64), "beyond 64 bits"),
    ],
)
def test_bad_npz_entries_are_refused(tmp_path, array, found):
    np.savez(tmp_path / "d.npz", y=array)
    error = refusal(tmp_path / "d.npz")
    assert (error.code, error.site) == ("data-type", "y")
    assert found in error.found


def test_a_pickle_inside_npz_never_runs(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    array = np.empty(1, object)
    array[0] = Trap()
    np.savez(tmp_path / "d.npz", y=array)
    error = refusal(tmp_path / "d.npz")
    assert (error.code, error.site) == ("data-type", "y")
    assert not (tmp_path / "sprung").exists()


def test_broken_npz_is_refused(tmp_path):
    np.savez(tmp_path / "whole.npz", y=np.arange(100))
    blob = (tmp_path / "whole.npz").read_bytes()
    flipped = bytearray(blob)
    flipped[300] ^= 1
    for name, content in {"cut.npz": blob[:-30], "flipped.npz": bytes(flipped), "text.npz": b"y=1"}.items():
        assert refusal(write(tmp_path, name, content)).code == "file-format"


# -- Parquet ---------------------------------------------------------------------------------------------------------


def test_parquet_numbers_and_lists(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "n": arrow.array([1, 2], arrow.int16()),
        "x": arrow.array([0.5, 1.5], arrow.float32()),
        "b": arrow.array([True, False]),
        "v": arrow.array([[1.0, 2.0], [3.0, 4.0]]),
    }
    parquet.write_table(arrow.table(columns), tmp_path / "d.parquet")
    table = read_table(tmp_path / "d.parquet")
    expected = [np.array([1, 2], np.int64), np.array([0.5, 1.5]), np.array([True, False]), np.array([[1.0, 2], [3, 4]])]
    for array, want in zip(table.values(), expected, strict=True):
        np.testing.assert_array_equal(array, want, strict=True)


def test_bad_parquet_is_refused(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for column, found in [
        (arrow.array([1, None]), "a missing value in row 2"),
        (arrow.array(["a", "b"]), "a column of string"),
        (arrow.array([[1], [2, 3]]), "ragged"),
    ]:
        parquet.write_table(arrow.table({"x": column}), tmp_path / "d.parquet")
        error = refusal(tmp_path / "d.parquet")
        assert (error.code, error.site) == ("data-type", "x")
        assert found in error.found
    blob = (tmp_path / "d.parquet").read_bytes()
    assert refusal(write(tmp_path, "cut.parquet", blob[:-20])).code == "file-format"


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    path = write(tmp_path, "d.parquet", b"PAR1")
    monkeypatch.setattr(builtins, "__import__", without)
    error = refusal(path)
    assert (error.code, error.remedy) == ("missing-extra", "pip install 'taut[data]'")


# -- the path --------------------------------------------------------------------------------------------------------


def test_wrong_paths_are_refused(tmp_path):
    write(tmp_path, "eight_schools.json", "{}")
    missing = refusal(tmp_path / "eigth_schools.json")
    assert missing.code == "file-missing" and str(tmp_path / "eight_schools.json") in missing.remedy
    assert refusal(tmp_path / "no" / "d.csv").found.startswith("no folder")
    assert refusal(write(tmp_path, "d.xlsx", b"PK")).found == "the ending '.xlsx'"
    (tmp_path / "folder.csv").mkdir()
    assert refusal(tmp_path / "folder.csv").found == "a folder"


# -- atomic writes ---------------------------------------------------------------------------------------------------


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "out.html"
    assert atomic_write(path, "a\n\r\nτ") == path
    assert path.read_bytes() == "a\n\r\nτ".encode()
    os.chmod(path, 0o640)
    atomic_write(str(path), b"\x00\r\n")
    assert path.read_bytes() == b"\x00\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out.html"]


def test_atomic_write_follows_a_link_and_the_umask(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a" / "real")
    old = os.umask(0o027)
    try:
        atomic_write(tmp_path / "link", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "a" / "real").stat().st_mode) == 0o640


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch, stop):
    path = write(tmp_path, "out", "old")

    def fails(_):
        raise stop

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(KeyboardInterrupt if isinstance(stop, KeyboardInterrupt) else TautError):
        atomic_write(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["out"]


def test_atomic_write_refuses_what_is_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, code in [
        (tmp_path, "file-access"),
        (tmp_path / "pipe", "file-access"),
        (tmp_path / "no" / "x", "file-missing"),
    ]:
        with pytest.raises(TautError) as caught:
            atomic_write(path, "x")
        assert caught.value.code == code
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, sizes, done = tmp_path / "out", set(), threading.Event()
    contents = [b"a" * 300_000, b"b" * 100_000]
    atomic_write(path, contents[0])

    def read():
        while not done.is_set():
            blob = path.read_bytes()
            sizes.add((len(blob), blob[:1], blob[-1:]))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(40):
        atomic_write(path, contents[turn % 2])
    done.set()
    reader.join()
    assert sizes <= {(300_000, b"a", b"a"), (100_000, b"b", b"b")}
