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
INSIDE = np.linspace(0.05, 0.45, 17)  # the data lie between 0 and 0.5
OUTSIDE = (-0.3, 0.8)
STEPS, FEWER, DRAWS = 4000, 1000, 1000


def regression(reduced: bool = False) -> dict[str, dict[str, Any]]:
    """Standard deviations of the function by arm: ``inside``, the mean over the data's range, and ``outside`` of it."""
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
        f = predicts.predict(dict(x=example.scaled(np.array([*INSIDE, *OUTSIDE]))), DRAWS)["f"]
        sd = f.std(axis=0)
        inside = float(sd[: len(INSIDE)].mean())
        outside = [float(v) for v in sd[len(INSIDE) :]]
        found[name] = {"inside": inside, "outside": outside, "seconds": seconds}
        found[name]["ratio"] = [v / inside if inside > 0 else None for v in outside]
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
