"""Images of digits: an ``.npz`` of them, or MNIST's four IDX files, split once and for all."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

VARIABLE = "TAUT_DATA"
NAME = "mnist10k.npz"
DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SEED = 20_240_601  # of the split
_PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
_PLACES = ("", "raw", "MNIST/raw")  # of the four files in a folder: as they are, or as torchvision stores them
_BYTES = 8  # the code of unsigned bytes in a header
_SIDE = 28
_HELP = f"give an .npz with `images` and `labels`, or the folder with MNIST's four files; or set {VARIABLE}"

PathLike = str | os.PathLike[str]


class ImagesError(Exception):
    """No usable images where they were looked for; the text is one line."""


class Rows(NamedTuple):
    """Images and what they show.

    Attributes:
        images: ``uint8[n, 28, 28]``, 0 to 255.
        labels: ``uint8[n]``, 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray


class Images(NamedTuple):
    """A set of images in three parts that share no row; see `load`."""

    train: Rows
    validation: Rows
    test: Rows

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Rows for training, validation and test."""
        return len(self.train.labels), len(self.validation.labels), len(self.test.labels)


def load(path: PathLike | Iterable[PathLike] | None = None, seed: int = SEED) -> Images:
    """Images for training, validation and test; the same split on every machine.

    An ``.npz`` is split 8 to 1 to 1. Of the four files the smaller pair is the test set, and a sixth of the larger one
    is for validation: 50,000, 10,000 and 10,000.

    Args:
        path: an ``.npz`` with ``images`` (uint8, n x 28 x 28) and ``labels``; a folder with ``mnist10k.npz`` or with
            the four IDX files, gzipped or not; or these four files, in any order. By default the folder that
            ``TAUT_DATA`` names, or the one beside the project.
        seed: of the split.

    Raises:
        ImagesError: in one line that names the file, for anything else.
    """
    if path is not None and not isinstance(path, str | os.PathLike):
        return _of_files([Path(one).expanduser() for one in path], seed)
    found = Path(path or os.environ.get(VARIABLE) or DEFAULT).expanduser()
    if found.is_dir():
        if (found / NAME).is_file():
            return _of_bundle(found / NAME, seed)
        return _of_files(_in_folder(found), seed)
    if not found.is_file():
        raise ImagesError(f"nothing at {str(found)!r}: {_HELP}")
    if not zipfile.is_zipfile(found):
        raise ImagesError(f"{str(found)!r} is no .npz: {_HELP}")
    return _of_bundle(found, seed)


def read_idx(path: PathLike) -> np.ndarray:
    """One IDX file of unsigned bytes, gzipped or not, whatever its name says.

    The format: two zero bytes, the type of entries (8), the number of dimensions, each of these as four bytes with the
    highest first, the entries.

    Raises:
        ImagesError: for a file that is none, of other entries, cut short or too long.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise ImagesError(f"{str(path)!r} cannot be read: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0":
        raise ImagesError(f"{str(path)!r} is no IDX file: it begins with {raw[:4].hex(' ') or 'nothing'}, not 00 00")
    kind, rank = raw[2], raw[3]
    if kind != _BYTES:
        raise ImagesError(f"{str(path)!r} holds entries of type {kind:#04x}, where images and labels are bytes, 0x08")
    begin = 4 + 4 * rank
    shape = tuple(int(n) for n in np.frombuffer(raw[4 : min(begin, len(raw) // 4 * 4)], ">u4"))
    expected = begin + (int(np.prod(shape, dtype=object)) if len(shape) == rank else 0)
    if len(shape) != rank or len(raw) < expected:
        raise ImagesError(f"{str(path)!r} is cut short: {len(raw):,} bytes of {expected:,}")
    if len(raw) > expected:
        raise ImagesError(f"{str(path)!r} has {len(raw) - expected:,} bytes more than its header says, {shape}")
    return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape)


def _of_bundle(path: Path, seed: int) -> Images:
    try:
        with np.load(path, allow_pickle=False) as held:
            missing = [name for name in ("images", "labels") if name not in held]
            if missing:
                raise ImagesError(
                    f"{str(path)!r} holds {', '.join(held) or 'nothing'}, and no {' and no '.join(missing)}"
                )
            rows = _checked(held["images"], held["labels"], str(path))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ImagesError(f"{str(path)!r} cannot be read: {error}") from error
    order, tenth = _order(len(rows.labels), seed, str(path)), len(rows.labels) // 10
    return Images(
        *(_taken(rows, order[part]) for part in (slice(2 * tenth, None), slice(tenth), slice(tenth, 2 * tenth)))
    )


def _of_files(paths: list[Path], seed: int) -> Images:
    """Which file is which, from what is in them."""
    if len(paths) != len(_PARTS):
        raise ImagesError(f"{len(paths)} files, where MNIST has four: {', '.join(_PARTS)}")
    held = [(str(path), read_idx(path)) for path in paths]
    images = sorted((one for one in held if one[1].ndim == 3), key=lambda one: -len(one[1]))
    labels = sorted((one for one in held if one[1].ndim == 1), key=lambda one: -len(one[1]))
    if len(images) != 2 or len(labels) != 2:
        shapes = "; ".join(f"{name!r} is {values.shape}" for name, values in held)
        raise ImagesError(f"two files of images and two of labels are needed: {shapes}")
    if len(images[0][1]) == len(images[1][1]):
        raise ImagesError(f"{images[0][0]!r} and {images[1][0]!r} have as many images: which ones are for testing?")
    pairs = zip(images, labels, strict=True)
    whole, test = (_checked(x, y, f"{where}, {labelled}") for (where, x), (labelled, y) in pairs)
    order, sixth = _order(len(whole.labels), seed, images[0][0]), len(whole.labels) // 6
    return Images(_taken(whole, order[sixth:]), _taken(whole, order[:sixth]), test)


def _in_folder(folder: Path) -> list[Path]:
    for place in _PLACES:
        files = [_named(folder / place, part) for part in _PARTS]
        found = [file for file in files if file is not None]
        if len(found) == len(_PARTS):
            return found
        if found:
            missing = [part for part, file in zip(_PARTS, files, strict=True) if file is None]
            raise ImagesError(f"{str(folder / place)!r} has no {' and no '.join(missing)}")
    raise ImagesError(f"neither {NAME} nor MNIST's four files in {str(folder)!r}: {_HELP}")


def _named(folder: Path, part: str) -> Path | None:
    """A file by its usual names: ``train-images-idx3-ubyte``, with a dot for the second hyphen, with ``.gz``."""
    rank = 3 if part.endswith("images") else 1
    names = [f"{part}{mark}idx{rank}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _checked(images: np.ndarray, labels: np.ndarray, where: str) -> Rows:
    if images.ndim != 3 or images.shape[1:] != (_SIDE, _SIDE):
        raise ImagesError(f"{where}: images of shape {images.shape}, where n x {_SIDE} x {_SIDE} was expected")
    if images.dtype != np.uint8:
        raise ImagesError(f"{where}: pixels are {images.dtype}, where bytes from 0 to 255 were expected (uint8)")
    if labels.shape != images.shape[:1]:
        raise ImagesError(f"{where}: labels of shape {labels.shape} for {len(images):,} images")
    if labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() <= 9):
        raise ImagesError(f"{where}: labels are {labels.dtype}, and not the whole numbers from 0 to 9")
    return Rows(images, labels.astype(np.uint8))


def _order(n: int, seed: int, where: str) -> np.ndarray:
    if n < 10:
        raise ImagesError(f"{where}: {n} images are too few to split")
    return np.random.default_rng(seed).permutation(n)


def _taken(rows: Rows, which: np.ndarray) -> Rows:
    return Rows(rows.images[which], rows.labels[which])
