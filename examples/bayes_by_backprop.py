"""A network whose uncertainty grows where there are no data: the regression of Blundell et al. (2015), figure 5.

    python examples/bayes_by_backprop.py picture.png

Data lie between 0 and 0.5, y = x + 0.3 sin(2 pi (x + e)) + 0.3 sin(4 pi (x + e)) + e with e ~ N(0, 0.02^2).
"""

from __future__ import annotations

import sys
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax

import taut
from taut import dist, nn

STEPS = 4000
NETWORK: Any = eqx.nn.MLP(1, 1, 50, 1, activation=jax.nn.relu, key=jax.random.key(0))


def data(rows: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and outputs, both centred and scaled."""
    rng = np.random.default_rng(0)
    x, e = rng.uniform(0.0, 0.5, rows), 0.02 * rng.standard_normal(rows)
    y = x + 0.3 * np.sin(2 * np.pi * (x + e)) + 0.3 * np.sin(4 * np.pi * (x + e)) + e
    return scaled(x), (y - 0.42) / 0.25


def scaled(x: np.ndarray) -> np.ndarray:
    """Inputs as the network sees them, one column."""
    return ((x - 0.25) / 0.15)[:, None]


def model(x: Any, y: Any = None) -> None:
    """The prior is said here, once; batches and schedules have no part in it."""
    net = nn.bayesian("net", NETWORK, prior=nn.FanIn(gain=2.0, bias=2.0))
    f = taut.deterministic("f", jax.vmap(net)(x)[:, 0])
    noise = taut.sample("noise", dist.HalfNormal(0.5))
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Normal(f, noise), obs=y)


def fitted(steps: int = STEPS) -> taut.Fit:
    """The mean-field posterior, its noise drawn row by row (local reparametrisation)."""
    x, y = data()
    guide = nn.MeanFieldNet(start=nn.AtModule("net", NETWORK), scale=0.02)
    svi = taut.algorithms.SVI(
        objective=taut.objectives.ELBO(kl="analytic"),
        optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, steps)),
        steps=steps,
    )
    return taut.fit(model, dict(x=x, y=y), guide=guide, algorithm=svi, precision="float32", verify=False, draws=1000)


def draw(fit: taut.Fit, path: str) -> None:
    """Data, the median, and bands of half and 95 % of the networks."""
    import matplotlib.pyplot as plt

    grid = np.linspace(-0.5, 1.1, 200)
    f = fit.predict(dict(x=scaled(grid)), 1000)["f"]
    x, y = data()
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for low, high, shade in ((2.5, 97.5, 0.15), (25, 75, 0.35)):
        axis.fill_between(grid, *np.percentile(f, [low, high], axis=0), color="tab:blue", alpha=shade, linewidth=0)
    axis.plot(grid, np.median(f, axis=0), color="tab:blue", label="median; 50 % and 95 % of networks")
    axis.plot(0.25 + 0.15 * x[:, 0], y, "kx", markersize=3, label="data")
    axis.set(xlabel="x", ylabel="y, scaled", ylim=(-12, 10), title="Uncertainty grows away from the data")
    axis.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    found = fitted()
    print(found.verdict.headline)
    inside, outside = (found.predict(dict(x=scaled(np.array(x))), 1000)["f"].std(axis=0) for x in ([0.25], [-0.3, 0.8]))
    print(f"sd of the function at 0.25: {inside[0]:.2f}; at -0.3: {outside[0]:.2f}; at 0.8: {outside[1]:.2f}")
    if len(sys.argv) > 1:
        draw(found, sys.argv[1])
