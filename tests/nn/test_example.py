"""The example's network is sure where there are data and less and less so away from them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np


def test_uncertainty_grows_away_from_the_data(tmp_path: Path):
    path = Path(__file__).resolve().parents[2] / "examples" / "bayes_by_backprop.py"
    spec: Any = importlib.util.spec_from_file_location("bayes_by_backprop", path)
    example: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    fit = example.fitted(steps=800)
    where = np.array([-0.4, -0.2, 0.1, 0.25, 0.4, 0.7, 0.9])
    f = fit.predict(dict(x=example.scaled(where)), 1000)["f"]
    sd = f.std(axis=0)
    # Sds of 1,000 networks are known to 2 %.
    assert sd[0] > sd[1] > 3 * sd[3] and sd[6] > sd[5] > 3 * sd[3]
    # Where there are data the mean is the curve that made them, to the noise that the sine makes of e.
    x = where[2:5]
    curve = (x + 0.3 * np.sin(2 * np.pi * x) + 0.3 * np.sin(4 * np.pi * x) - 0.42) / 0.25
    assert np.all(np.abs(f.mean(axis=0)[2:5] - curve) < 0.35)
    example.draw(fit, str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").stat().st_size > 10_000
