"""Models whose log evidence is known, by quadrature or by long annealing, with their data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import taut
from benchmarks.evidence.cox import best_elbo
from taut import dist

DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CELLS = 40  # of each side of the grid


class Anchor(NamedTuple):
    """A model, how its data are made from a folder, its log evidence, how exactly that is known, and how; and, where it
    has a closed form, the best ELBO of any Gaussian: a function of the data, and what it must be."""

    model: Callable[..., None]
    data: Callable[[Path], dict[str, Any]]
    log_evidence: float
    known_to: float
    source: str
    best_elbo: Callable[[dict[str, Any]], float] | None = None
    best_elbo_known: float = float("nan")


def folder(given: str | None = None) -> Path:
    """Where the data lie: as given, ``TAUT_DATA``, or beside the project."""
    return Path(given or os.environ.get("TAUT_DATA") or DEFAULT)


def logistic(X: Any, y: Any) -> None:
    """Logistic regression with standard normal weights, the intercept among them."""
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Bernoulli(logits=X @ w), obs=y)


def classification(name: str) -> Callable[[Path], dict[str, Any]]:
    """A UCI set: standardised columns (one of sd 0 stays 0) after a column of ones."""

    def read(data: Path) -> dict[str, Any]:
        with np.load(data / f"{name}.npz") as held:
            x, y = held["X"].astype(float), held["y"]
        sd = x.std(axis=0)
        x = (x - x.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
        return {"X": np.column_stack([np.ones(len(x)), x]), "y": y.astype(int)}

    return read


def seeds(total: Any, x1: Any, x2: Any, germinated: Any) -> None:
    """Germination on 21 plates with a random effect each; the precision of these has a vague gamma prior."""
    a = taut.sample("a", dist.Normal(0.0, 10.0).expand([4]).to_event(1))
    tau = taut.sample("tau", dist.Gamma(0.01, 0.01))
    with taut.plate("plate", len(germinated)):
        b = taut.sample("b", dist.Normal(0.0, tau**-0.5))
        logits = a[0] + a[1] * x1 + a[2] * x2 + a[3] * x1 * x2 + b
        taut.sample("germinated", dist.Binomial(total, logits=logits), obs=germinated)


def seeds_data(data: Path) -> dict[str, Any]:
    """Crowder (1978): of two kinds of seed and two root extracts."""
    germinated = [10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3]
    total = [39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7]
    second = np.repeat([0.0, 1.0, 0.0, 1.0], [5, 6, 5, 5])
    first = np.repeat([0.0, 1.0], [11, 10])
    return {"total": np.array(total), "x1": first, "x2": second, "germinated": np.array(germinated)}


def cox(counts: Any, factor: Any, level: Any) -> None:
    """A log-Gaussian Cox process: 1,600 cells, whitened by the factor of the prior covariance."""
    noise = taut.sample("noise", dist.Normal(0.0, 1.0).expand([factor.shape[0]]).to_event(1))
    f = taut.deterministic("f", level + factor @ noise)
    taut.factor("points", jnp.sum(counts * f - jnp.exp(f) / factor.shape[0]))


def pines(data: Path) -> dict[str, Any]:
    """Counts of 126 saplings on the grid, with exp(-distance / 33 of a side) correlation and variance 1.91."""
    places = np.genfromtxt(data / "pines.csv", delimiter=",", skip_header=1)[:, -2:]
    cell = np.clip(np.floor(CELLS * places).astype(int), 0, CELLS - 1)
    counts = np.zeros((CELLS, CELLS))
    np.add.at(counts, (cell[:, 0], cell[:, 1]), 1.0)
    grid = np.stack(np.meshgrid(np.arange(CELLS), np.arange(CELLS), indexing="ij"), axis=-1).reshape(-1, 2)
    distance = np.linalg.norm(grid[:, None] - grid[None], axis=-1)
    factor = np.linalg.cholesky(1.91 * np.exp(-distance * 33 / CELLS))
    return {"counts": counts.ravel(), "factor": factor, "level": np.log(len(places)) - 1.91 / 2}


def pines_best_elbo(data: dict[str, Any]) -> float:
    """Of all Gaussians on the 1,600 cells."""
    return best_elbo(data["counts"], data["factor"] @ data["factor"].T, float(data["level"]), 1.0 / CELLS**2)


def schools(sigma: Any, y: Any) -> None:
    """Eight schools as written in the books: centred, a half-Cauchy scale."""
    mu = taut.sample("mu", dist.Normal(0.0, 5.0))
    tau = taut.sample("tau", dist.HalfCauchy(5.0))
    with taut.plate("school", len(y)):
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta, sigma), obs=y)


def schools_data(data: Path) -> dict[str, Any]:
    """Rubin (1981)."""
    y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    return {"sigma": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]), "y": y}


ANCHORS = {
    "eight schools": Anchor(schools, schools_data, -31.311347, 1e-6, "quadrature"),
    "ionosphere": Anchor(logistic, classification("ionosphere"), -111.611, 0.002, "bridge"),
    "sonar": Anchor(logistic, classification("sonar"), -108.386, 0.003, "bridge"),
    "seeds": Anchor(seeds, seeds_data, -73.38, 0.02, "annealing"),
    "lgcp": Anchor(cox, pines, 501.82, 0.04, "annealing", pines_best_elbo, 498.8034),
}
