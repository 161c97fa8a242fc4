"""The same training loops in PyTorch, as its users write them: for a ratio, in a process and an environment of its own.

Run by `benchmarks.neural.speed` where PyTorch is installed: ``make bench-peers`` makes ``.venv-bench``, and
``.venv-bench/bin/python -m pip install -r benchmarks/neural/requirements.txt`` adds it. The mathematics is that of
`benchmarks.neural.bare`: sums over rows, one KL term for all of them, stable logarithms.
"""

from __future__ import annotations

import json
import math
import sys
import time
from itertools import pairwise
from statistics import median
from typing import Any

import torch  # type: ignore[import-not-found]
from torch import nn  # type: ignore[import-not-found]
from torch.nn import functional as F  # type: ignore[import-not-found]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
ROWS = 9600


def network(*sizes: int, activation: Any) -> Any:
    """A network of linear layers."""
    layers: list[Any] = []
    for into, out in pairwise(sizes):
        layers += [nn.Linear(into, out), activation()]
    return nn.Sequential(*layers[:-1])


class Autoencoder(nn.Module):
    """784-200-200-50 and back, with Bernoulli pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = network(784, 200, 200, 100, activation=nn.Tanh)
        self.decoder = network(50, 200, 200, 784, activation=nn.Tanh)

    def loss(self, x: Any, particles: int) -> Any:
        """The negative bound of all rows; one particle is the ELBO."""
        loc, log_scale = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn(particles, *loc.shape)
        z = loc + log_scale.exp() * noise
        logits = self.decoder(z)
        log_x = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        log_prior = (-0.5 * z**2 - _HALF_LOG_2PI).sum(-1)
        log_q = (-0.5 * noise**2 - _HALF_LOG_2PI - log_scale).sum(-1)
        bound = torch.logsumexp(log_x + log_prior - log_q, dim=0) - math.log(particles)
        return -ROWS / len(x) * bound.sum()


class Drawn(nn.Module):
    """A linear layer of normal weights under a mixture of two normals, w = 0.5, scales 1 and e^-6."""

    def __init__(self, into: int, out: int):
        super().__init__()
        first = nn.Linear(into, out)
        self.loc = nn.ParameterList([first.weight.detach().clone(), torch.zeros(out)])
        self.log_scale = nn.ParameterList([torch.full_like(p, math.log(0.02)) for p in self.loc])

    def forward(self, x: Any) -> tuple[Any, Any]:
        """The rows' products, and this draw's log q - log p."""
        drawn, kl = [], 0.0
        for loc, log_scale in zip(self.loc, self.log_scale, strict=True):
            noise = torch.randn_like(loc)
            w = loc + log_scale.exp() * noise
            parts = [math.log(0.5) - 0.5 * (w / s) ** 2 - math.log(s) - _HALF_LOG_2PI for s in (1.0, math.exp(-6))]
            kl = kl + (-0.5 * noise**2 - _HALF_LOG_2PI - log_scale - torch.logaddexp(*parts)).sum()
            drawn.append(w)
        return F.linear(x, *drawn), kl


class Backprop(nn.Module):
    """784-400-400-10 by Bayes by Backprop."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Drawn(784, 400), Drawn(400, 400), Drawn(400, 10)])

    def loss(self, x: Any, y: Any) -> Any:
        """The negative ELBO of all rows."""
        total = 0.0
        for i, layer in enumerate(self.layers):
            x, kl = layer(x)
            x, total = (F.relu(x) if i < 2 else x), total + kl
        return total + ROWS / len(x) * F.cross_entropy(x, y, reduction="sum")


def milliseconds(model: Any, loss: Any, size: int, steps: int, blocks: int) -> list[float]:
    """Time per step of each block of steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    taken = []
    for _ in range(blocks + 1):
        order = torch.randint(ROWS, (steps, size))
        began = time.perf_counter()
        for rows in order:
            optimizer.zero_grad(set_to_none=True)
            loss(rows).backward()
            optimizer.step()
        taken.append((time.perf_counter() - began) / steps * 1e3)
    return taken[1:]


def main() -> int:
    """Print a JSON line of medians by name; arguments are names, steps and blocks."""
    names, steps, blocks = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3])
    torch.manual_seed(0)
    x = (torch.rand(ROWS, 784) < 0.3).float()
    y = torch.randint(10, (ROWS,))
    found = {}
    for name in names:
        if name in ("vae", "iwae"):
            model: Any = Autoencoder()
            size, particles = (100, 1) if name == "vae" else (20, 50)
            taken = milliseconds(model, lambda r, m=model, k=particles: m.loss(x[r], k), size, steps, blocks)
        elif name == "bnn":
            model = Backprop()
            taken = milliseconds(model, lambda r, m=model: m.loss(x[r], y[r]), 128, steps, blocks)
        else:
            continue
        found[name] = median(taken)
    print(json.dumps({"version": torch.__version__, "threads": torch.get_num_threads(), "ms": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
