"""The saved fit: exact bits back, nothing executed, every other file refused with the versions concerned."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from taut._errors import TautError
from taut.fitting._archive import read_archive, write_archive

HEADER = {"key": 0, "sites": [{"name": "τ", "shape": [2, 3]}], "khat": 0.1 + 0.2, "note": "naïve\ud800", "none": None}


def refusal(path) -> TautError:
    with pytest.raises(TautError) as caught:
        read_archive(path)
    return caught.value


def rewritten(path, **changes):
    """The file with some of its record changed, as another version of taut would have written it."""
    with safetensors.safe_open(path, "numpy") as file:
        record = json.loads(file.metadata()["taut"])
    tensors = safetensors.numpy.load(path.read_bytes())
    path.write_bytes(safetensors.numpy.save(tensors, {"taut": json.dumps(record | changes)}))
    return path


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "fit.taut"
    write_archive(path, HEADER, {"τ": np.arange(6.0).reshape(2, 3)})
    return path


def test_every_bit_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**63, 500, dtype=np.uint64)  # every kind of float64, payloads of NaN included
    arrays = {
        "words": words.view(np.float64),
        "signs": np.array([-0.0, 0.0, np.inf, -np.inf, np.nan, 5e-324]),
        "single": rng.standard_normal((2, 0, 3)).astype(np.float32),
        "scalar": np.array(7),
        "flags": np.array([True, False]),
        "half": np.array([1.5], np.float16),
        "complex": np.array([1 + 2j], np.complex64),
        "small": np.array([255], np.uint8),
        "transposed": np.arange(12).reshape(3, 4).T,
        "strided": np.arange(12.0)[::-3],
        "swapped": np.array([1.0, 2.0], ">f8"),
    }
    write_archive(tmp_path / "fit.taut", {}, arrays)
    _, back = read_archive(tmp_path / "fit.taut")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        want = array.astype(array.dtype.newbyteorder("="))
        assert (back[name].dtype, back[name].shape) == (want.dtype, want.shape), name
        assert back[name].tobytes() == want.tobytes(), name
        assert back[name].flags.writeable


def test_the_header_comes_back(tmp_path, saved):
    assert read_archive(saved)[0] == HEADER
    write_archive(saved, {"a": (1, np.float64(0.1)), "b": {"inf": math.inf}, "n": np.int64(3)}, {})
    assert read_archive(saved) == ({"a": [1, 0.1], "b": {"inf": math.inf}, "n": 3}, {})
    write_archive(saved, {"nan": math.nan}, {})
    assert math.isnan(read_archive(saved)[0]["nan"])
    assert os.listdir(tmp_path) == ["fit.taut"]


def test_names_of_any_unicode(tmp_path):
    names = [
        "τ",
        "θ[1]",
        "",
        " ",
        "__metadata__",
        'a"b\\c',
        "a/b",
        "array/x",
        "\0",
        "\u202e",
        "e\u0301",
        "é",
        "🏫",
        "名" * 200,
    ]
    write_archive(tmp_path / "f", {name: name for name in names}, {name: np.array(i) for i, name in enumerate(names)})
    header, arrays = read_archive(tmp_path / "f")
    assert header == {name: name for name in names}
    assert {name: int(array) for name, array in arrays.items()} == {name: i for i, name in enumerate(names)}


def test_another_process_writes_the_same_bytes(tmp_path, saved):
    code = (
        "import sys, numpy as np; from taut.fitting._archive import read_archive, write_archive;"
        "write_archive(sys.argv[2], *read_archive(sys.argv[1]))"
    )
    copy = tmp_path / "copy.taut"
    subprocess.run([sys.executable, "-c", code, str(saved), str(copy)], check=True, env=os.environ)
    assert copy.read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(
    ("header", "arrays", "site"),
    [
        ({}, {"x": np.array(["a"])}, "x"),
        ({}, {"x": np.array([None])}, "x"),
        ({}, {"x": np.array([1j])}, "x"),
        ({}, {"\ud800": np.array(1)}, "arrays"),
        ({"a": [{"b": object()}]}, {}, "header['a'][0]['b']"),
        ({"a": {1: 2}}, {}, "header['a']"),
        ({"a": np.arange(2)}, {}, "header['a']"),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused_before_writing(tmp_path, header, arrays, site):
    with pytest.raises(TautError) as caught:
        write_archive(tmp_path / "f", header, arrays)
    assert (caught.value.code, caught.value.site) == ("data-type", site)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"schema_version": 2}, "schema 'taut-fit' version 2, written by"),
        ({"schema": "taut-checkpoint"}, "schema 'taut-checkpoint' version 1, written by"),
    ],
)
def test_another_schema_names_both_sides(saved, metadata, found):
    versions = {"python": "3.15.0", "taut": "9.1", "jax": "1.2", "numpy": "4.0"}
    error = refusal(rewritten(saved, **metadata, versions=versions))
    assert error.code == "schema"
    assert error.found == f"{found} python 3.15.0, taut 9.1, jax 1.2, numpy 4.0"
    assert error.expected.startswith("schema 'taut-fit' version 1")


def test_every_truncation_is_refused(saved):
    blob = saved.read_bytes()
    for size in range(len(blob)):
        saved.write_bytes(blob[:size])
        error = refusal(saved)
        assert error.code == "file-format"
        if size > 40:
            assert "truncated" in error.found
    saved.write_bytes(blob[:-1])
    assert f"numpy {np.__version__}" in refusal(saved).found
    saved.write_bytes(blob + b"\0")
    assert "too long" in refusal(saved).found


def test_a_changed_byte_never_changes_what_is_read(saved):
    blob = saved.read_bytes()
    header, arrays = read_archive(saved)
    read = []
    for at in range(len(blob)):
        saved.write_bytes(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
        try:
            again, copies = read_archive(saved)
        except TautError as error:
            assert error.code in {"file-format", "schema"}
        else:
            assert again == header and copies["τ"].tobytes() == arrays["τ"].tobytes()
            read.append(blob[at - 17 : at + 1])
    assert read == [b".30000000000000004"]  # the last digit of 0.1 + 0.2, where 4 and 5 are one float64


def test_other_files_are_refused_by_kind(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    (tmp_path / "weights.safetensors").write_bytes(safetensors.numpy.save({"x": np.ones(2)}))
    (tmp_path / "other.safetensors").write_bytes(safetensors.numpy.save({"x": np.ones(2)}, {"schema": "not-ours"}))
    (tmp_path / "a.html").write_text("<!doctype html><p>a page</p>")
    (tmp_path / "a.json").write_text('{"schema": "taut-fit"}')
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": 1}))
    found = {path.name: refusal(path) for path in tmp_path.iterdir()}
    assert {error.code for error in found.values()} == {"file-format"}
    assert {name: error.found for name, error in found.items()} == {
        "a.npz": "a zip or npz file",
        "weights.safetensors": "bytes of another format",
        "other.safetensors": "bytes of another format",
        "a.html": "HTML",
        "a.json": "JSON",
        "empty": "an empty file",
        "a.pkl": "a pickle",
    }
    assert refusal(tmp_path / "none").code == "file-missing"
    assert refusal(tmp_path).code == "file-access"


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "trap.taut").write_bytes(pickle.dumps(Trap()))
    assert refusal(tmp_path / "trap.taut").code == "file-format"
    assert not (tmp_path / "sprung").exists()
