"""The autoencoders' page: differences are taken image by image, and what was expected is held against them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.neural import autoencoders
from benchmarks.neural.autoencoders_page import apart, mean_of, section

NOISE = np.random.default_rng(0).normal(0, 20, 400)


def row(name: str, level: float, jackknife: tuple[float, float] = (0.8, 0.3)) -> dict[str, Any]:
    """An arm whose images differ from one another by far more than the arms do."""
    arm = autoencoders.BY_NAME[name]
    own = np.random.default_rng(int(-level * 1000)).normal(0, 1, 400)
    log_p = level + NOISE + own - own.mean() - NOISE.mean()
    iwae = log_p - 2.0
    test = {"log_likelihood": log_p, "elbo": log_p - 5, "iwae": iwae}
    test |= {"jvi1": iwae + jackknife[0], "jvi2": iwae + sum(jackknife), "effective": 100.0}
    return {
        "arm": name,
        "layers": arm.layers,
        "bound": arm.bound,
        "k": arm.k,
        "gradient": "DReG" if arm.doubly else "plain",
        "epochs": 50,
        "images": [8000, 1000, 1000],
        "samples": 5000,
        "particles": 32,
        "seconds": 60.0,
        "test": test,
        "validation": test,
    }


def test_differences_are_of_the_same_images():
    better, worse = row("1-IWAE-5", -98.0), row("1-VAE-1", -99.0)
    found = apart(better, worse)
    assert found.mean == pytest.approx(1.0)
    # Two standard normal noises, and none of the spread over images that both share: 20 nats.
    assert found.se == pytest.approx(np.sqrt(2 / 400), rel=0.15)
    assert mean_of(better, "log_likelihood").se == pytest.approx(1.0, rel=0.1)


def test_expectations_are_held_against_the_figures():
    text = section([row("1-VAE-1", -99.0), row("1-IWAE-5", -98.0), row("1-IWAE-50", -98.5, (2.0, 0.3))])
    assert "a sixth of the papers' data" in text
    assert "| IWAE, one layer: k = 5 above k = 1 | +1.00 ± 0.0" in text and "| yes |" in text
    assert "| IWAE, one layer: k = 50 above k = 5 | -0.50 ± 0.0" in text and "| **no** |" in text
    assert "the first outside 0.4-1.3" in text and "| as expected |" in text
    assert "-86.76" in text and "-84.78" in text


def test_arms_are_those_of_the_papers():
    assert len(autoencoders.ARMS) == 14 and len(autoencoders.BY_NAME) == 14
    assert {arm.k for arm in autoencoders.ARMS} == {1, 5, 50} and {arm.layers for arm in autoencoders.ARMS} == {1, 2}
    assert str(autoencoders.BY_NAME["2-IWAE-50-DReG"].gradient) == "DoublyReparam()"


def test_the_page_says_what_the_correction_goes_with():
    rows = [row(name, -98.0, (0.1 * i, 0.3)) for i, name in enumerate(list(autoencoders.BY_NAME)[:5], 1)]
    for i, each in enumerate(rows):
        each["test"]["elbo"] = each["test"]["log_likelihood"] - (5 + i)
    text = section(rows)
    worst = rows[-1]["arm"].replace("-", " ")
    assert "over these arms is 1.00" in text and f"Furthest is {worst}, with 9.0 nats and +0.50." in text
    assert "rank correlation" not in section(rows[:4])
