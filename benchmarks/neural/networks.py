"""Bayes by Backprop beside points, dropout, IVON and Laplace's method, on images of digits.

``python -m benchmarks.neural.networks [NAME ...] [--reduced] [--data PATH] [--epochs N] [--out FILE]`` trains the arms
one after the other and writes what the test images say of each; a file that is there already keeps its other arms.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import taut
from benchmarks.neural.arms import ARMS, SIZE, UNITS, Arm, classifier, network
from benchmarks.neural.images import Images, Rows, load
from benchmarks.neural.regression import regression
from benchmarks.neural.scoring import scores, wrong
from benchmarks.peers.machine import machine
from benchmarks.posteriordb.run import versions
from taut import nn
from taut._files import atomic_write

OUT = Path(__file__).resolve().parents[1] / "results" / "neural" / "networks.json"
DRAWS = 32  # of the network, in a predictive distribution
REMOVED = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98)  # shares of the weights
EPOCHS, FEWER = 50, 10
REDUCED = ("map", "dropout", "bbb", "bbb-mixture", "ivon")
LAPLACE = "laplace"  # what is made of the MAP arm afterwards
INK = 126.0  # pixels are divided by this, as in the paper


def columns(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``float32[n, 784]`` and labels ``int32[n]``."""
    return (rows.images.reshape(len(rows.images), -1) / INK).astype(np.float32), rows.labels.astype(np.int32)


def train(arm: Arm, images: Images, epochs: int, seed: int = 0) -> tuple[taut.Fit, float]:
    """The fit, and the seconds it took with its compilation."""
    x, y = columns(images.train)
    module = network(seed)
    batches = taut.data.Batches(dict(x=x, y=y), size=SIZE, plate="rows")
    begun = time.perf_counter()
    fit = taut.fit(
        classifier(module, arm.prior),
        batches,
        guide=arm.guide(nn.AtModule("net", module)),
        algorithm=arm.algorithm(epochs * len(batches)),
        key=seed,
        draws=DRAWS,
        precision="float32",
        verify=False,
    )
    return fit, time.perf_counter() - begun


def judged(found: Any, images: Images, draws: int) -> dict[str, Any]:
    """Figures of the test and validation images, of whatever predicts."""
    row: dict[str, Any] = {}
    for name, part in (("test", images.test), ("validation", images.validation)):
        x, y = columns(part)
        logits = found.predict(dict(x=x), draws)["logits"]
        row[name] = scores(logits, y)
        row[name]["wrong"] = wrong(logits, y)
    return row


def pruned(fit: taut.Fit, images: Images) -> list[dict[str, float]]:
    """The test error as weights are removed, those of least signal to noise first."""
    x, y = columns(images.test)
    curve = []
    for share in REMOVED:
        found = scores(nn.prune(fit, share).predict(dict(x=x), DRAWS)["logits"], y)
        kept = ("error", "error_se", "log_likelihood", "log_likelihood_se", "ece")
        curve.append({"removed": share} | {name: found[name] for name in kept})
    return curve


def ratios(fit: taut.Fit) -> list[float]:
    """Percentiles 0, 5 ... 100 of the signal-to-noise ratio over all weights, in decibels."""
    values = np.concatenate([ratio.ravel() for ratio in nn.signal_to_noise(fit).values()])
    return [round(float(v), 3) for v in 10 * np.log10(np.percentile(np.maximum(values, 1e-12), range(0, 101, 5)))]


def measure(name: str, images: Images, epochs: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """One arm, and what is made of it."""
    arm = ARMS[name]
    fit, seconds = train(arm, images, epochs, seed)
    draws = DRAWS if arm.draws else 1
    row = {"label": arm.label, "seconds": seconds, "epochs": epochs, "steps": fit.gradients, "status": fit.status}
    row |= judged(fit, images, draws)
    if arm.bayes:
        row["elbo"] = fit.elbo / len(images.train.labels)
        row["pruning"], row["ratios"] = pruned(fit, images), ratios(fit)
    found = {name: row}
    if name == "map":
        begun = time.perf_counter()
        last = nn.last_layer_laplace(fit)
        seconds += time.perf_counter() - begun
        row = {"label": "last-layer Laplace of the MAP network", "seconds": seconds, "epochs": epochs}
        found[LAPLACE] = row | judged(last, images, DRAWS)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run arms; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neural.networks", description=__doc__)
    parser.add_argument("arms", nargs="*", metavar="NAME", help=f"of {', '.join(ARMS)}, regression")
    parser.add_argument("--reduced", action="store_true", help=f"{FEWER} epochs of {', '.join(REDUCED)}")
    parser.add_argument("--data", help="an .npz of digits, or the folder of MNIST's four files")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    names = options.arms or [*(REDUCED if options.reduced else ARMS), "regression"]
    unknown = [name for name in names if name not in (*ARMS, "regression")]
    if unknown:
        parser.error(f"no arm {', '.join(unknown)}: there are {', '.join(ARMS)}, regression")
    epochs = options.epochs or (FEWER if options.reduced else EPOCHS)
    images = load(options.data)
    told: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {"arms": {}}
    told["settings"] = {
        "rows": images.sizes, "size": SIZE, "units": UNITS, "draws": DRAWS, "seed": options.seed,
        "reduced": options.reduced, "machine": machine(), "versions": versions(),
    }  # fmt: skip
    for name in names:
        if name == "regression":
            told["regression"] = regression(options.reduced)
        else:
            told["arms"] |= measure(name, images, epochs, options.seed)
            sys.stderr.write(line(name, told["arms"][name]) + "\n")
        gc.collect()
        options.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(options.out, json.dumps(told, indent=1) + "\n")
    return 0


def line(name: str, row: dict[str, Any]) -> str:
    """What an arm came to, for those who wait."""
    test, validation = row["test"], row["validation"]
    return (
        f"{name:12} {row['seconds']:6.0f} s  error {test['error']:.1f} % (validation {validation['error']:.1f} %)  "
        f"{test['log_likelihood']:.3f} nats ({validation['log_likelihood']:.3f})  ECE {test['ece']:.3f}  "
        f"ELBO {row.get('elbo', float('nan')):.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
