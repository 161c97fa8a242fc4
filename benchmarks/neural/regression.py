"""The regression of `examples/bayes_by_backprop.py`: how much less sure a network is where it has seen no data."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import optax

import taut
from taut import nn

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "bayes_by_backprop.py"
GRID = np.round(np.arange(-0.5, 1.0001, 0.025), 3)
INSIDE = (0.0, 0.5)  # where the data lie
OUTSIDE = (-0.3, 0.8)
STEPS, FEWER, DRAWS = 4000, 1000, 1000
_NOTHING = 1e-6  # a spread that is rounding


def regression(reduced: bool = False) -> dict[str, dict[str, Any]]:
    """Standard deviations of the function by arm: ``inside``, the mean over the data's range, and ``outside`` of it.

    ``sd`` has them along ``GRID``; ``ratio`` is outside over inside, ``None`` for a point, which is sure of everything.
    """
    example = _example()
    steps = FEWER if reduced else STEPS
    x, y = example.data()
    start = nn.AtModule("net", example.NETWORK)
    svi = taut.algorithms.SVI(optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, steps)), steps=steps)
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, make: Any) -> Any:
        begun = time.perf_counter()
        predicts = make()
        seconds = time.perf_counter() - begun
        sd = predicts.predict(dict(x=example.scaled(GRID)), DRAWS)["f"].astype(float).std(axis=0)
        inside = float(sd[(INSIDE[0] <= GRID) & (INSIDE[1] >= GRID)].mean())
        outside = [float(np.interp(x, GRID, sd)) for x in OUTSIDE]
        ratio = [v / inside if inside > _NOTHING else None for v in outside]
        found[name] = {"inside": inside, "outside": outside, "ratio": ratio, "seconds": seconds}
        found[name]["sd"] = [round(float(v), 4) for v in sd]
        return predicts

    def fit(guide: Any) -> taut.Fit:
        made = dict(guide=guide, algorithm=svi, precision="float32", verify=False, draws=DRAWS)
        return taut.fit(example.model, dict(x=x, y=y), **made)

    add("bbb", lambda: example.fitted(steps))
    point = add("map", lambda: fit(taut.guides.Delta(start=start)))
    add("dropout", lambda: fit(nn.MCDropout(rate=0.1, start=start)))
    add("laplace", lambda: nn.last_layer_laplace(point, "net$layers[1]"))
    return found


def _example() -> Any:
    spec = importlib.util.spec_from_file_location("bayes_by_backprop", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
