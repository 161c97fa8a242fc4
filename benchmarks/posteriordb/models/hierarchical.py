"""Hierarchies: eight schools (non-centred), seeds and radon (both stated centred)."""

from __future__ import annotations

from typing import Any

import numpy as np

import taut
from taut import dist


def eight_schools_noncentered(sigma: Any, y: Any) -> None:
    """Effects of coaching in eight schools; the effect `theta` is computed from a standardised one."""
    mu = taut.sample("mu", dist.Normal(0, 5))
    tau = taut.sample("tau", dist.HalfCauchy(5))
    with taut.plate("school", len(y)):
        theta_trans = taut.sample("theta_trans", dist.Normal(0, 1))
        theta = taut.deterministic("theta", mu + tau * theta_trans)
        taut.sample("y", dist.Normal(theta, sigma), obs=y)


def seeds(total: Any, x1: Any, x2: Any, germinated: Any) -> None:
    """Germination of seeds on 21 plates: a logistic regression with a random effect per plate."""
    alpha0 = taut.sample("alpha0", dist.Normal(0, 1))
    alpha1 = taut.sample("alpha1", dist.Normal(0, 1))
    alpha2 = taut.sample("alpha2", dist.Normal(0, 1))
    alpha12 = taut.sample("alpha12", dist.Normal(0, 1))
    sigma = taut.sample("sigma", dist.HalfCauchy(1))
    with taut.plate("plate", len(germinated)):
        b = taut.sample("b", dist.Normal(0, sigma))
        logits = alpha0 + alpha1 * x1 + alpha2 * x2 + alpha12 * x1 * x2 + b
        taut.sample("n", dist.Binomial(total, logits=logits), obs=germinated)


def radon(counties: int, county: Any, log_uppm: Any, floor: Any, log_radon: Any) -> None:
    """Radon in 919 houses of 85 counties of Minnesota: an intercept per county."""
    sigma_alpha = taut.sample("sigma_alpha", dist.HalfNormal(1))
    sigma_y = taut.sample("sigma_y", dist.HalfNormal(1))
    mu_alpha = taut.sample("mu_alpha", dist.Normal(0, 10))
    beta = taut.sample("beta", dist.Normal(0, 10).expand([2]).to_event(1))
    with taut.plate("county", counties):
        alpha = taut.sample("alpha", dist.Normal(mu_alpha, sigma_alpha))
    with taut.plate("house", len(log_radon)):
        level = alpha[county] + log_uppm * beta[0] + floor * beta[1]
        taut.sample("log_radon", dist.Normal(level, sigma_y), obs=log_radon)


def eight_schools_data(raw: dict[str, Any]) -> dict[str, Any]:
    """Effects and standard errors of the eight schools."""
    return {"sigma": np.asarray(raw["sigma"], float), "y": np.asarray(raw["y"], float)}


def seeds_data(raw: dict[str, Any]) -> dict[str, Any]:
    """n seeds of N germinated; x1 is the seed type, x2 the root extract."""
    return {
        "total": np.asarray(raw["N"]),
        "x1": np.asarray(raw["x1"], float),
        "x2": np.asarray(raw["x2"], float),
        "germinated": np.asarray(raw["n"]),
    }


def radon_data(raw: dict[str, Any]) -> dict[str, Any]:
    """County numbers start at 1 in the file."""
    return {
        "counties": int(raw["J"]),
        "county": np.asarray(raw["county_idx"]) - 1,
        "log_uppm": np.asarray(raw["log_uppm"], float),
        "floor": np.asarray(raw["floor_measure"], float),
        "log_radon": np.asarray(raw["log_radon"], float),
    }
