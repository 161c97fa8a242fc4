"""``python -m benchmarks.loop [--runs N]``: what stopping the compiled loop of SVI to look at it costs.

The same 10,000 steps of a logistic regression, in chunks of 100 steps and in one chunk, in turn. The exit
status is 1 if the median ratio is above 1.02.
"""

from __future__ import annotations

import argparse
import sys
import time
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import taut
from taut import dist, guides
from taut.algorithms import SVI
from taut.problem import Problem

ROWS, COLUMNS, STEPS = 2000, 20, 10_000
LIMIT = 1.02


def problem() -> Problem:
    """A logistic regression with made data."""
    rng = np.random.default_rng(0)
    x, theta = rng.standard_normal((ROWS, COLUMNS)), rng.standard_normal(COLUMNS)
    y = (rng.uniform(size=ROWS) < 1 / (1 + np.exp(-x @ theta))).astype(int)

    def model(x: Any, y: Any) -> None:
        w = taut.sample("w", dist.Normal(jnp.zeros(COLUMNS), 1.0).to_event(1))
        with taut.plate("rows", ROWS):
            taut.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    return Problem(model, {"x": x, "y": y})


def seconds(target: Problem, chunk: int) -> float:
    """Wall time of the steps, without compilation if the chunk has been run before."""
    svi, guide = SVI(steps=STEPS, chunk=chunk), guides.MeanField()
    state = svi.init(target, guide, 0)
    began = time.perf_counter()
    while state.step < STEPS:
        state, _ = svi.step(target, guide, state)
    jax.block_until_ready(state.learned)
    return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> int:
    """Time both in turn; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="pairs")
    options = parser.parse_args(arguments)
    target = problem()
    chunks = (100, STEPS)
    for chunk in chunks:
        seconds(target, chunk)
    pairs = [tuple(seconds(target, chunk) for chunk in chunks) for _ in range(options.runs)]
    ratios = [often / once for often, once in pairs]
    often, once = (median(column) for column in zip(*pairs, strict=True))
    print(f"{STEPS} steps: in chunks of 100 {often:.3f} s, in one {once:.3f} s")
    print(f"ratio {median(ratios):.3f} (pairs {min(ratios):.3f} to {max(ratios):.3f}), wanted at most {LIMIT}")
    return int(median(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
