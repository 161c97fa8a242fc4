"""Black and white drawn from grey: with the right mean, afresh at every step, and the same however a run is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import taut
from taut.data import Batches, Binarise, binarise

GREY = np.random.default_rng(0).random((50, 16))


def batches(x: Any = GREY, size: int = 8, **given: Any) -> Batches:
    return Batches(dict(x=x), size, "images", transform=Binarise("x"), **given)


def steps(source: Batches, cuts: list[int]) -> list[np.ndarray]:
    """The first batches, taken in pieces of these lengths."""
    found, step = [], 0
    for count in cuts:
        while count:
            some = source.run(step, count)
            found += list(source.take(3, step, some).columns["x"])
            step, count = step + some, count - some
    return found


def test_the_same_draws_however_a_run_is_cut_or_taken_up():
    whole = steps(batches(), [20])
    for cuts in ([1] * 20, [7, 13], [3, 3, 14]):
        assert all(np.array_equal(a, b) for a, b in zip(whole, steps(batches(), cuts), strict=True))
    # Taken up in the third epoch, of seven batches each.
    assert np.array_equal(batches().take(3, 15, 1).columns["x"][0], whole[15])
    assert not np.array_equal(batches().take(4, 15, 1).columns["x"][0], whole[15])


def test_every_epoch_sees_other_images_of_the_same_rows():
    source = batches(size=50)
    chunk = source.take(0, 0, 3)
    by_row = [x[np.argsort(rows)] for rows, x in zip(chunk.rows, chunk.columns["x"], strict=True)]
    assert set(np.unique(chunk.columns["x"])) == {0.0, 1.0}
    # 800 pixels; two independent draws of g agree with probability g^2 + (1 - g)^2, 2/3 on average.
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.mean(by_row[a] == by_row[b]) == pytest.approx(2 / 3, abs=5 * 0.5 / np.sqrt(800))


@pytest.mark.parametrize("grey", [GREY, GREY.astype(np.float32), (GREY * 255).astype(np.uint8)])
def test_pixels_are_white_as_often_as_they_are_bright(grey: np.ndarray):
    intensity = grey / 255 if grey.dtype == np.uint8 else grey
    many = 2000
    x = batches(grey, 50).take(1, 0, many)
    total = np.zeros_like(GREY)
    for rows, values in zip(x.rows, x.columns["x"], strict=True):
        total[rows] += values
    sd = np.sqrt(np.maximum(intensity * (1 - intensity), 1e-12) / many)
    # 800 pixels: the largest of so many errors is within five.
    assert np.all(np.abs(total / many - intensity) < 5 * sd + 1e-6)


def test_black_stays_black_and_white_white():
    for grey in (np.array([[0, 255]] * 4000, np.uint8), np.array([[0.0, 1.0]] * 4000), np.array([[0, 1]] * 4000)):
        np.testing.assert_array_equal(binarise(grey), np.array([[0, 1]] * 4000))


def test_a_fixed_version_is_that_of_its_key():
    assert np.array_equal(binarise(GREY, 5), binarise(GREY, 5))
    assert not np.array_equal(binarise(GREY, 5), binarise(GREY, 6))


def test_other_columns_and_streams_pass():
    data = dict(x=GREY, y=np.arange(50))
    chunk = Batches(data, 10, "images", transform=Binarise("x")).take(0, 0, 2)
    np.testing.assert_array_equal(chunk.columns["y"], chunk.rows)
    parts = [dict(x=GREY[:20]), dict(x=GREY[20:])]
    stream = Batches(parts, 8, "images", transform=Binarise("x"))
    assert set(np.unique(stream.take(0, 0, 3).columns["x"])) == {0.0, 1.0}
    assert batches().whole is None
    assert all(set(np.unique(batch["x"])) <= {0.0, 1.0} for batch in batches())


def test_what_is_no_intensity_is_refused():
    for x, words in ((GREY * 255, "x=x / 255"), (GREY - 0.5, "from -"), (GREY * np.nan, "nan")):
        with pytest.raises(taut.TautError, match="data-support") as caught:
            batches(x).take(0, 0, 1)
        assert words in str(caught.value)
    with pytest.raises(taut.TautError, match="Binarise.'z'"):
        Batches(dict(x=GREY), 8, "images", transform=Binarise("z")).take(0, 0, 1)
    with pytest.raises(taut.TautError, match="bad-argument"):
        Binarise()
    with pytest.raises(taut.TautError, match="transform"):
        Batches(dict(x=GREY), 8, "images", transform="binarise")  # type: ignore[arg-type]
