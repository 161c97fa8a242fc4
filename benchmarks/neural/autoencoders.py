"""Autoencoders as in Burda et al. (2016), on digits: one arm in this process.

``python -m benchmarks.neural.autoencoders NAME [--data PATH] [--epochs N] [--samples N] [--out FILE]``

One arm is trained with dynamic binarisation, and what the held-out images say of it is written as one JSON object.
Beside ``FILE`` lies the state of the run, from which the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import taut
from benchmarks.neural.images import Images, load
from taut import gradients, nn, objectives
from taut._files import atomic_write
from taut.algorithms import SVI

BATCH, RATE, LAST_RATE = 20, 1e-3, 1e-4
EPOCHS = 50
SAMPLES, JACKKNIFE = 5000, 32  # of the held-out log-likelihood, and of the jackknife
WIDTHS = {1: ((200, 200),), 2: ((200, 200), (100, 100))}
LATENTS = {1: (50,), 2: (100, 50)}
_TRAIN, _VALIDATE, _TEST, _EVALUATE = 0, 1, 2, 3  # streams of the seed


@dataclass(frozen=True)
class Arm:
    """What is trained.

    Attributes:
        layers: stochastic layers, 1 or 2.
        bound: ``"VAE"``, the mean of ``k`` log-weights, or ``"IWAE"``, the logarithm of their mean.
        k: particles.
        doubly: the doubly reparametrised gradient in place of the plain one.
    """

    layers: int
    bound: str
    k: int
    doubly: bool = False

    @property
    def name(self) -> str:
        """Such as ``2-IWAE-50-DReG``."""
        return f"{self.layers}-{self.bound}-{self.k}" + ("-DReG" if self.doubly else "")

    @property
    def objective(self) -> objectives.Objective:
        """What is maximised."""
        return objectives.ELBO(particles=self.k) if self.bound == "VAE" else objectives.IWAE(self.k)

    @property
    def gradient(self) -> gradients.GradientEstimator:
        """How it is differentiated."""
        return gradients.DoublyReparam() if self.doubly else gradients.Pathwise()


# With one particle both bounds are one.
ARMS = tuple(
    Arm(layers, bound, k, doubly)
    for k in (1, 5, 50)
    for layers in (1, 2)
    for bound, doubly in (("VAE", False), ("IWAE", False), ("IWAE", True))
    if k > 1 or bound == "VAE"
)
BY_NAME = {arm.name: arm for arm in ARMS}


def trained(arm: Arm, images: Images, epochs: int, seed: int = 0, state: Path | None = None) -> tuple[taut.Fit, float]:
    """A fitted autoencoder, and the seconds that training took.

    Args:
        arm: what is trained.
        images: only those for training are looked at.
        epochs: passes over them.
        seed: of the first weights and of everything drawn.
        state: a file that keeps the run's state, from which the same call goes on.
    """
    grey = _flat(images.train.images)
    width, sizes = WIDTHS[arm.layers], LATENTS[arm.layers]
    vae = nn.VAE.mlp(grey.shape[1], width, sizes, mean=grey.mean(axis=0) / 255, key=seed)
    data = taut.data.Batches(dict(x=grey), size=BATCH, plate="images", transform=taut.data.Binarise("x"))
    steps = epochs * len(data)
    rate = optax.cosine_decay_schedule(RATE, steps, LAST_RATE / RATE)
    svi = SVI(arm.objective, arm.gradient, optax.adam(rate, eps=1e-4), steps=steps, tolerance=0.0)
    began = time.perf_counter()
    fit = taut.fit(
        vae.model,
        data,
        guide=vae.guide,
        algorithm=svi,
        key=seed,
        precision="float32",
        verify=False,
        checkpoint=None if state is None else taut.Checkpoint(state, seconds=120),
    )
    return fit, time.perf_counter() - began


def measured(fit: taut.Fit, images: Images, samples: int = SAMPLES, seed: int = 0) -> dict[str, Any]:
    """What held-out images say, in nats for each image of one fixed binarisation: lists by name of the estimate."""
    parts = {"validation": (images.validation.images, _VALIDATE), "test": (images.test.images, _TEST)}
    found: dict[str, Any] = {"samples": samples, "particles": JACKKNIFE}
    for name, (rows, stream) in parts.items():
        white = taut.data.binarise(_flat(rows), 1000 * seed + stream)
        count = samples if name == "test" else samples // 10
        held = nn.held_out(fit, dict(x=white), samples=count, particles=JACKKNIFE, key=1000 * seed + _EVALUATE)
        found[name] = {measure: [round(float(v), 4) for v in values] for measure, values in held.by_row.items()}
        found[name]["effective"] = float(np.median(held.effective))
    return found


def run(
    arm: Arm, images: Images, epochs: int, samples: int = SAMPLES, seed: int = 0, state: Path | None = None
) -> dict[str, Any]:
    """Train and measure one arm."""
    fit, seconds = trained(arm, images, epochs, seed, state)
    began = time.perf_counter()
    found = measured(fit, images, samples, seed)
    return {
        "arm": arm.name,
        "layers": arm.layers,
        "bound": arm.bound,
        "k": arm.k,
        "gradient": "DReG" if arm.doubly else "plain",
        "epochs": epochs,
        "seed": seed,
        "images": list(images.sizes),
        "status": fit.status,
        "device": jax.devices()[0].device_kind,
        "seconds": seconds,
        "seconds_to_measure": time.perf_counter() - began,
        **found,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run one arm; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neural.autoencoders", description=__doc__)
    parser.add_argument("arm", choices=sorted(BY_NAME))
    parser.add_argument("--data", help="an .npz of digits, or the folder of MNIST's four files")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="draws for each held-out image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file for the result; standard output without")
    options = parser.parse_args(arguments)
    arm, state = BY_NAME[options.arm], None
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        state = options.out.with_suffix(".state")
    row = run(arm, load(options.data), options.epochs, options.samples, options.seed, state)
    text = json.dumps(row) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        atomic_write(options.out, text)
    return 0


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


if __name__ == "__main__":
    sys.exit(main())
