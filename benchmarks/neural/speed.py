"""``python -m benchmarks.neural.speed``: training with taut against a loop written by hand, in one run.

For each model the two loops take turns, a chunk of steps at a time, on the same data and with the same networks,
objective, estimator, optimiser and precision (float32). What is told is the median ratio of the pairs with its
quartiles, the time per step of both, and what a whole run of 1,600 steps costs with its comparisons of stages; the exit
status is 1 if a median ratio is above 1.05. Where PyTorch is found (``--torch``), its usual loop is timed on the same
processor, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import taut
from benchmarks.neural import bare
from taut import dist, nn
from taut.algorithms import SVI, Run
from taut.gradients import Pathwise
from taut.problem import Problem

ROWS, HIDDEN, LATENT = 9600, 200, 50
LAYERS = (784, 400, 400, 10)
LIMIT = 1.05


def images() -> tuple[np.ndarray, np.ndarray]:
    """Digits of 8 x 8, drawn with replacement and blown up to 28 x 28, and their labels."""
    digits = load_digits()
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(digits.target), size=ROWS)
    place = np.arange(28) * 8 // 28
    grey = digits.images[chosen][:, place][:, :, place].reshape(ROWS, -1) / 16.0
    return grey.astype(np.float32), digits.target[chosen].astype(np.int32)


class Taut:
    """`SVI` as its users run it, a chunk at a time."""

    def __init__(self, model: Any, guide: Any, data: dict[str, Any], size: int, **options: Any):
        batches = taut.data.Batches(data, size=size, plate="rows")
        self.problem = Problem(model, batches, precision="float32")
        self.guide, self.options = guide, options
        self.state: Any = None

    def run(self, steps: int) -> None:
        """Take steps within one stage."""
        svi = SVI(gradient=Pathwise(), optimizer=optax.adam(1e-3), steps=10**9, chunk=steps, **self.options)
        if self.state is None:
            self.state = svi.init(self.problem, self.guide, 0)._replace(step=START)
        target = self.state.step + steps
        while self.state.step < target:
            self.state, _ = svi.step(self.problem, self.guide, self.state)


# The first step that is timed: the stage from here on is longer than what is timed, and its second half is averaged.
START = 400 * 2**8


def autoencoder(x: np.ndarray, size: int, particles: int) -> tuple[Any, Any]:
    """taut's VAE or IWAE, and the bare one."""
    into, out = jax.random.split(jax.random.key(1))
    encoder = bare.dense(into, (784, HIDDEN, HIDDEN, 2 * LATENT))
    decoder = bare.dense(out, (LATENT, HIDDEN, HIDDEN, 784))

    def model(x: Any) -> None:
        net = nn.bayesian("decoder", decoder, prior=None)
        with taut.plate("rows", len(x)):
            z = taut.sample("z", dist.Normal(0.0, 1.0).expand([LATENT]).to_event(1))
            taut.sample("x", dist.Bernoulli(logits=bare.apply(net, z, jnp.tanh)).to_event(1), obs=x)

    def encode(params: Any, x: Any) -> Any:
        return bare.apply(params, x, jnp.tanh)

    objective = taut.objectives.IWAE(particles) if particles > 1 else taut.objectives.ELBO()
    mine = Taut(model, taut.guides.Amortised("rows", encode, init=encoder), {"x": x}, size, objective=objective)
    return mine, bare.autoencoder(x, size, particles, HIDDEN, LATENT)


def by_backprop(x: np.ndarray, y: np.ndarray, size: int, local: bool) -> tuple[Any, Any]:
    """taut's Bayes by Backprop, and the bare one."""
    net = bare.dense(jax.random.key(1), LAYERS)

    def model(x: Any, y: Any) -> None:
        drawn = nn.bayesian("net", net, prior=nn.ScaleMixture(0.5, 1.0, math.exp(-6)))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Categorical(logits=bare.apply(drawn, x, jax.nn.relu)), obs=y)

    start = nn.AtModule("net", net)
    guide = nn.MeanFieldNet(start=start, scale=0.02) if local else taut.guides.MeanField(start=start, scale=0.02)
    mine = Taut(model, guide, {"x": x, "y": y}, size)
    return mine, bare.by_backprop(x, y, size, LAYERS, local)


def cases() -> dict[str, tuple[str, Callable[[], tuple[Any, Any]]]]:
    """By name: a description, and what makes both loops."""
    grey, labels = images()
    x = (np.random.default_rng(1).uniform(size=grey.shape) < grey).astype(np.float32)
    return {
        "vae": ("VAE, 784-200-200-50, batch 100", lambda: autoencoder(x, 100, 1)),
        "iwae": ("IWAE of 50, 784-200-200-50, batch 20", lambda: autoencoder(x, 20, 50)),
        "bnn": ("Bayes by Backprop, 784-400-400-10, batch 128", lambda: by_backprop(grey, labels, 128, False)),
        "local": ("the same by local reparametrisation", lambda: by_backprop(grey, labels, 128, True)),
    }


def pairs_of(mine: Any, theirs: Any, steps: int, pairs: int) -> list[tuple[float, float]]:
    """Milliseconds per step of both, pair by pair; each is compiled first, and who begins alternates."""
    for loop in (mine, theirs, mine, theirs):
        loop.run(steps)
    found = []
    for i in range(pairs):
        took = {}
        for loop in (mine, theirs) if i % 2 else (theirs, mine):
            began = time.perf_counter()
            loop.run(steps)
            took[loop] = (time.perf_counter() - began) / steps * 1e3
        found.append((took[mine], took[theirs]))
    return found


def whole(mine: Taut, theirs: Any, steps: int = 1600) -> float:
    """Seconds of a whole run with its stages, over those of as many steps of the bare loop."""
    svi = SVI(gradient=Pathwise(), optimizer=optax.adam(1e-3), steps=steps, tolerance=0.0, **mine.options)
    took = []
    for _ in range(2):  # the first compiles
        began = time.perf_counter()
        Run()(svi, mine.problem, mine.guide, 0)
        middle = time.perf_counter()
        theirs.run(steps)
        took.append((middle - began) / (time.perf_counter() - middle))
    return took[-1]


def torch_times(python: str, names: list[str], steps: int) -> dict[str, Any] | str:
    """Milliseconds per step in PyTorch by name; a sentence where it cannot be had."""
    script = Path(__file__).with_name("torch_loops.py")
    if not Path(python).exists():
        return f"PyTorch was not timed: there is no {python}; see {script.name}."
    done = subprocess.run([python, str(script), ",".join(names), str(steps), "7"], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return f"PyTorch was not timed: {last}; see {script.name}."
    return json.loads(done.stdout)


def main(arguments: list[str] | None = None) -> int:
    """Time every pair; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neural.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=list(cases()), help="which models")
    parser.add_argument("--pairs", type=int, default=11, help="of each model")
    parser.add_argument("--steps", type=int, default=SVI.chunk, help="of each loop in a pair; by default SVI's chunk")
    parser.add_argument("--torch", default=".venv-bench/bin/python", help="a Python that has PyTorch")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for name, (title, make) in cases().items():
        if options.only and name not in options.only:
            continue
        mine, theirs = make()
        pairs = pairs_of(mine, theirs, options.steps, options.pairs)
        ratios = sorted(a / b for a, b in pairs)
        ours, bare_ones = (median(column) for column in zip(*pairs, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        found[name] = {"ms": ours, "bare": bare_ones, "ratio": median(ratios), "quartiles": [low, high]}
        line = f"{title}: taut {ours:.2f} ms a step, bare {bare_ones:.2f}; ratio {median(ratios):.3f} ({low:.3f} to "
        line += f"{high:.3f}), wanted at most {LIMIT}"
        if name == "vae":
            found[name]["whole"] = whole(mine, theirs)
            line += f"; 1,600 steps with their stages {found[name]['whole']:.2f} times as many bare ones"
        print(line, flush=True)
    there = torch_times(options.torch, [n for n in found if n != "local"], options.steps)
    if isinstance(there, str):
        print(there)
    else:
        for name, ms in there["ms"].items():
            found[name]["torch"] = ms
            print(f"{name}: PyTorch {there['version']} {ms:.2f} ms a step, taut {found[name]['ms'] / ms:.2f} of it")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(entry["ratio"] > LIMIT for entry in found.values()))


if __name__ == "__main__":
    sys.exit(main())
