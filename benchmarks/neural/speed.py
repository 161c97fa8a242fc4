"""``python -m benchmarks.neural.speed``: training with taut against a loop written by hand, in one run."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
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
from taut.algorithms import SVI
from taut.gradients import Pathwise
from taut.problem import Problem

ROWS, HIDDEN, LATENT = 9600, 200, 50
LAYERS = (784, 400, 400, 10)


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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args(arguments)
    for name, (title, make) in cases().items():
        if options.only and name not in options.only:
            continue
        mine, theirs = make()
        for loop in (mine, theirs, mine, theirs):
            loop.run(options.steps)
        pairs = []
        for i in range(options.pairs):
            took = {}
            for loop in (mine, theirs) if i % 2 else (theirs, mine):
                began = time.perf_counter()
                loop.run(options.steps)
                took[loop] = time.perf_counter() - began
            pairs.append((took[mine] / options.steps * 1e3, took[theirs] / options.steps * 1e3))
        ratios = sorted(a / b for a, b in pairs)
        q = len(ratios) // 4
        print(
            f"{title}: taut {median(a for a, _ in pairs):.3f} ms (min {min(a for a, _ in pairs):.3f}), bare "
            f"{median(b for _, b in pairs):.3f} (min {min(b for _, b in pairs):.3f}), ratio {median(ratios):.3f} "
            f"({ratios[q]:.3f} to {ratios[-1 - q]:.3f})",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
