"""The loader of images, on small files made up here: IDX by its format, byte by byte."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks.neural.images import NAME, VARIABLE, ImagesError, Rows, load, read_idx

RNG = np.random.default_rng(0)


def made(n: int) -> Rows:
    """Every image tells its row in two pixels, so that it can be found again, and its label in a third."""
    images = RNG.integers(0, 256, (n, 28, 28), np.uint8)
    labels = RNG.integers(0, 10, n).astype(np.uint8)
    images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = np.arange(n) // 256, np.arange(n) % 256, labels
    return Rows(images, labels)


def rows_of(images: np.ndarray) -> np.ndarray:
    return images[:, 0, 0].astype(int) * 256 + images[:, 0, 1]


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def mnist(folder: Path, gz: bool = False, mark: str = "-") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for part, n in (("train", 600), ("t10k", 100)):
        for name, values in zip((f"images{mark}idx3", f"labels{mark}idx1"), made(n), strict=True):
            path = folder / f"{part}-{name}-ubyte{'.gz' if gz else ''}"
            path.write_bytes(gzip.compress(idx(values)) if gz else idx(values))
            paths.append(path)
    return paths


def bundle(path: Path, rows: Rows) -> Path:
    np.savez(path, images=rows.images, labels=rows.labels)
    return path


def test_a_bundle_is_split_8_1_1_and_no_row_is_in_two_parts(tmp_path: Path) -> None:
    found = load(bundle(tmp_path / "digits.npz", made(1000)))
    assert found.sizes == (800, 100, 100)
    assert sorted(np.concatenate([rows_of(part.images) for part in found])) == list(range(1000))
    for part in found:
        assert np.array_equal(part.images[:, 0, 2], part.labels)  # labels went along


def test_the_split_is_fixed_by_its_seed(tmp_path: Path) -> None:
    path = bundle(tmp_path / "digits.npz", made(1000))
    assert np.array_equal(load(path).test.images, load(path).test.images)
    assert not np.array_equal(load(path).test.images, load(path, seed=1).test.images)
    # What it is, so that figures of different years are of the same rows.
    assert rows_of(load(path).test.images)[:5].tolist() == [678, 385, 352, 856, 119]


@pytest.mark.parametrize(("gz", "mark", "place"), [(False, "-", ""), (True, ".", ""), (True, "-", "MNIST/raw")])
def test_the_four_files_of_a_folder(tmp_path: Path, gz: bool, mark: str, place: str) -> None:
    mnist(tmp_path / place, gz, mark)
    found = load(tmp_path)
    assert found.sizes == (500, 100, 100)
    assert rows_of(found.test.images).tolist() == list(range(100))  # the test set is left as it is
    assert sorted(np.concatenate([rows_of(part.images) for part in found[:2]])) == list(range(600))
    assert np.array_equal(found.train.images[:, 0, 2], found.train.labels)


def test_four_files_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    paths = mnist(tmp_path)
    renamed = [path.rename(tmp_path / str(i)) for i, path in enumerate(paths)]
    assert np.array_equal(load(renamed[::-1]).train.images, load(renamed).train.images)
    assert load(renamed[::-1]).sizes == (500, 100, 100)


def test_the_variable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(tmp_path / NAME, made(50))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert load().sizes == (40, 5, 5)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no IDX file: it begins with nothing"),
        (b"PK\x03\x04 is a zip archive", "begins with 50 4b 03 04"),
        (idx(np.zeros((2, 2), np.float32), 13), "entries of type 0x0d"),
        (idx(np.zeros((5, 28, 28), np.uint8))[:-1], "cut short: 3,935 bytes of 3,936"),
        (idx(np.zeros((5, 28, 28), np.uint8))[:9], "cut short"),
        (idx(np.zeros(5, np.uint8)) + b"12", "2 bytes more than its header says"),
        (gzip.compress(idx(np.zeros(500, np.uint8)))[:-9], "cannot be read"),
        (b"\x1f\x8b" + b"no gzip at all", "cannot be read"),
    ],
    ids=["nothing", "zip", "floats", "entries", "header", "long", "gzip", "no-gzip"],
)
def test_a_file_that_is_no_idx_file_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ImagesError, match=says) as caught:
        read_idx(path)
    assert "train-images-idx3-ubyte" in str(caught.value) and "\n" not in str(caught.value)


def test_other_bundles_are_refused(tmp_path: Path) -> None:
    good = made(50)
    for rows, says in (
        (Rows(good.images, good.labels[:-1]), r"labels of shape \(49,\) for 50 images"),
        (Rows(good.images / 255.0, good.labels), "pixels are float64, where bytes"),
        (Rows(good.images.reshape(50, -1), good.labels), r"shape \(50, 784\), where n x 28 x 28"),
        (Rows(good.images, good.labels + np.uint8(5)), "whole numbers from 0 to 9"),
        (Rows(good.images[:9], good.labels[:9]), "9 images are too few"),
    ):
        with pytest.raises(ImagesError, match=says):
            load(bundle(tmp_path / "digits.npz", rows))
    np.savez(tmp_path / "digits.npz", x=good.images, labels=good.labels)
    with pytest.raises(ImagesError, match="holds x, labels, and no images"):
        load(tmp_path / "digits.npz")
    (tmp_path / "digits.npz").write_bytes(b"text")
    with pytest.raises(ImagesError, match=r"is no \.npz"):
        load(tmp_path / "digits.npz")
    with pytest.raises(ImagesError, match="nothing at"):
        load(tmp_path / "nowhere.npz")


def test_other_folders_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match="neither mnist10k.npz nor MNIST's four files"):
        load(tmp_path)
    paths = mnist(tmp_path)
    with pytest.raises(ImagesError, match="3 files, where MNIST has four"):
        load(paths[:3])
    with pytest.raises(ImagesError, match="two files of images and two of labels"):
        load([paths[0], paths[0], paths[1], paths[2]])
    with pytest.raises(ImagesError, match="have as many images"):
        load([paths[0], paths[0], paths[1], paths[1]])
    with pytest.raises(ImagesError, match=r"labels of shape \(100,\) for 600 images"):
        paths[1].write_bytes(idx(np.zeros(99, np.uint8)))
        load(tmp_path)
    paths[3].unlink()
    with pytest.raises(ImagesError, match="has no t10k-labels"):
        load(tmp_path)
