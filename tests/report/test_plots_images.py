"""Mosaics show the images that they are given, and pictures of an autoencoder what it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn
from taut.report import as_images, mosaic

RNG = np.random.default_rng(0)


def shown(figure: Any) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def pieces(figure: Any, height: int, width: int) -> list[list[np.ndarray]]:
    """The images of a mosaic, gaps of one pixel left out."""
    canvas = shown(figure)
    return [
        [canvas[i : i + height, j : j + width] for j in range(0, canvas.shape[1], width + 1)]
        for i in range(0, canvas.shape[0], height + 1)
    ]


def test_a_mosaic_holds_its_images_and_gaps():
    images = RNG.random((2, 3, 4, 5))
    figure = mosaic(images, between=(0.0, 2.0))
    assert shown(figure).shape == (2 * 4 + 1, 3 * 5 + 2)
    np.testing.assert_allclose(pieces(figure, 4, 5), images / 2)
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown(figure)))[4].all()
    colours = mosaic(RNG.random((1, 2, 4, 4, 3)))
    # The gap has no colour: it is seen through.
    assert shown(colours).shape == (4, 9, 4) and shown(colours)[0, 4, 3] == 0 and shown(colours)[0, 3, 3] == 1


def test_rows_as_images():
    rows = RNG.random((2, 12))
    assert as_images(rows, (3, 4)).shape == (2, 3, 4)
    assert as_images(RNG.random((2, 9))).shape == (2, 3, 3)
    assert as_images(RNG.random((2, 1, 3, 3))).shape == (2, 3, 3)
    assert as_images(RNG.random((2, 3, 5, 6))).shape == (2, 5, 6, 3)
    for values, shape in ((rows, None), (rows, (5, 5)), (RNG.random((2, 4, 5, 6)), None)):
        with pytest.raises(taut.TautError, match="shape"):
            as_images(values, shape)


def fit_of(vae: nn.VAE) -> Any:
    """What pictures read of a fit: its parameters, here the first ones, and its model."""
    params = {}
    for who, network in (("encoder", vae.encoders[0]), ("decoder", vae.decoders[0])):
        for part in ("weights", "biases"):
            for k, value in enumerate(getattr(network, part)):
                params[f"{who}${part}[{k}]"] = _Value(value)
    return SimpleNamespace(params=params, facts={}, problem=SimpleNamespace(model=vae.model), title="model")


class _Value(np.ndarray):
    def __new__(cls, value: Any) -> _Value:
        return np.asarray(value).view(cls)

    @property
    def value(self) -> np.ndarray:
        return self.view(np.ndarray)


VAE = nn.VAE.mlp(9, (5,), 12, key=1)
FIT = fit_of(VAE)


def test_reconstructions_stand_below_their_data():
    x = (RNG.random((5, 9)) < 0.5).astype(float)
    found = pieces(taut.plots.reconstructions(FIT, x, columns=3), 3, 3)
    again = VAE.reconstruct(FIT, x).reshape(5, 3, 3)
    assert len(found) == 4
    for k in range(5):
        np.testing.assert_allclose(found[2 * (k // 3)][k % 3], x[k].reshape(3, 3))
        np.testing.assert_allclose(found[2 * (k // 3) + 1][k % 3], again[k])
    assert np.isnan(np.ma.filled(found[2][2], np.nan)).all()


def test_whole_numbers_of_8_bits_are_intensities():
    x = (RNG.random((4, 9)) * 255).astype(np.uint8)
    found = pieces(taut.plots.reconstructions(FIT, x, columns=4), 3, 3)
    np.testing.assert_allclose(found[0], (x / 255).reshape(4, 3, 3), atol=1e-6)
    with pytest.raises(taut.TautError, match="x = x / 255"):
        taut.plots.reconstructions(FIT, x.astype(float))


def test_samples_are_those_of_the_key():
    found = pieces(taut.plots.samples(FIT, 5, columns=3, key=4), 3, 3)
    np.testing.assert_allclose(found[0], VAE.sample(FIT, 5, 4)[:3].reshape(3, 3, 3))
    drawn = shown(taut.plots.samples(FIT, 6, columns=3, drawn=True))
    assert set(np.unique(drawn[np.isfinite(drawn)])) <= {0.0, 1.0}


def test_a_line_of_a_traversal_moves_one_latent():
    x = (RNG.random(9) < 0.5).astype(float)
    figure: Any = taut.plots.traversal(FIT, x, units=[3, 0], steps=5, reach=2.0)
    centre = VAE.encode(FIT, x[None])[0]
    found = pieces(figure, 3, 3)
    for line, unit in enumerate((3, 0)):
        codes = np.tile(centre, (5, 1))
        codes[:, unit] = np.linspace(-2, 2, 5)
        np.testing.assert_allclose(found[line], VAE.decode(FIT, codes).reshape(5, 3, 3), atol=1e-6)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["z[3]", "z[0]"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["−2", "−1", "0", "1", "2"]
    whole: Any = taut.plots.traversal(FIT)
    assert len(pieces(whole, 3, 3)) == 10 and "10 of 12" in whole.get_supxlabel()
    # The first line is the latent whose values change the image most.
    spread = [VAE.decode(FIT, np.eye(12)[[k]] * np.linspace(-3, 3, 11)[:, None]).var(0).sum() for k in range(12)]
    assert whole.axes[0].get_yticklabels()[0].get_text() == f"z[{int(np.argmax(spread))}]"


def test_a_fit_of_another_model_has_no_such_pictures():
    other: Any = SimpleNamespace(problem=SimpleNamespace(model=lambda x: None), title="mine")
    with pytest.raises(taut.TautError, match="a fit of mine"):
        taut.plots.samples(other)
    with pytest.raises(taut.TautError, match="units"):
        taut.plots.traversal(FIT, units=[12])
