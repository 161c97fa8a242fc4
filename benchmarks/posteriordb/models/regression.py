"""Regressions: linear with flat priors, logistic, Poisson, and one with nearly collinear columns."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import taut
from taut import dist

flat = dist.ImproperUniform
real, positive = dist.constraints.real, dist.constraints.positive


def linear(x: Any, y: Any) -> None:
    """y ~ Normal(x beta, sigma), flat on beta and on sigma itself (not on log sigma)."""
    beta = taut.sample("beta", flat(real, (), (x.shape[1],)))
    sigma = taut.sample("sigma", flat(positive, (), ()))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def diamonds(x: Any, y: Any) -> None:
    """Log price of diamonds on 24 centred, nearly collinear columns."""
    b = taut.sample("b", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
    intercept = taut.sample("Intercept", dist.StudentT(3, 8, 10))
    sigma = taut.sample("sigma", dist.FoldedDistribution(dist.StudentT(3, 0, 10)))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Normal(intercept + x @ b, sigma), obs=y)


def wells_dist(distance: Any, switched: Any) -> None:
    """Switching wells by distance in metres: two slopes whose scales differ sixtyfold."""
    beta = taut.sample("beta", flat(real, (), (2,)))
    with taut.plate("household", len(switched)):
        taut.sample("switched", dist.Bernoulli(logits=beta[0] + beta[1] * distance), obs=switched)


def wells_dae_inter(x: Any, switched: Any) -> None:
    """Switching wells by distance, arsenic, education and their interactions."""
    alpha = taut.sample("alpha", flat(real, (), ()))
    beta = taut.sample("beta", flat(real, (), (x.shape[1],)))
    with taut.plate("household", len(switched)):
        taut.sample("switched", dist.Bernoulli(logits=alpha + x @ beta), obs=switched)


def glm_poisson(year: Any, count: Any) -> None:
    """Counts with a cubic log trend; bounds far from the mass."""
    alpha = taut.sample("alpha", dist.Uniform(-20, 20))
    beta1 = taut.sample("beta1", dist.Uniform(-10, 10))
    beta2 = taut.sample("beta2", dist.Uniform(-10, 10))
    beta3 = taut.sample("beta3", dist.Uniform(-10, 10))
    log_rate = alpha + beta1 * year + beta2 * year**2 + beta3 * year**3
    with taut.plate("row", len(count)):
        taut.sample("C", dist.Poisson(jnp.exp(log_rate)), obs=count)


def columns(y: Any, *predictors: Any) -> dict[str, np.ndarray]:
    """Data of `linear`: response (n,) and a design (n, 1 + predictors), the constant first."""
    y = np.asarray(y, float)
    return {"x": np.stack([np.ones_like(y), *(np.asarray(p, float) for p in predictors)], axis=1), "y": y}


def earnings(response: str, *predictors: str) -> Any:
    """Reader of the earnings data for one regression; names are those of `terms` below."""

    def read(raw: dict[str, Any]) -> dict[str, np.ndarray]:
        earn, height, male = (np.asarray(raw[k], float) for k in ("earn", "height", "male"))
        z = (height - height.mean()) / height.std(ddof=1)
        terms = {"earn": earn, "log(earn)": np.log(earn), "log10(earn)": np.log10(earn)}
        terms |= {"height": height, "log(height)": np.log(height), "z": z, "male": male}
        terms |= {"height*male": height * male, "z*male": z * male}
        return columns(terms[response], *(terms[p] for p in predictors))

    return read


def mesquite(response: str, *predictors: str) -> Any:
    """Reader of the mesquite data for one regression; names are columns, or ``log(...)`` of products and ratios."""

    def read(raw: dict[str, Any]) -> dict[str, np.ndarray]:
        v = {k: np.asarray(x, float) for k, x in raw.items() if k != "N"}
        v["area"] = v["diam1"] * v["diam2"]
        v["volume"] = v["area"] * v["canopy_height"]
        v["shape"] = v["diam1"] / v["diam2"]
        terms = v | {f"log({k})": np.log(x) for k, x in v.items() if np.all(x > 0)}
        return columns(terms[response], *(terms[p] for p in predictors))

    return read


def nes(raw: dict[str, Any]) -> dict[str, np.ndarray]:
    """Party identification on ideology, race, three age groups, education, gender and income."""
    age = np.asarray(raw["age_discrete"])
    groups = [age == 2, age == 3, age == 4]
    return columns(
        raw["partyid7"], raw["real_ideo"], raw["race_adj"], *groups, raw["educ1"], raw["gender"], raw["income"]
    )


def diamonds_data(raw: dict[str, Any]) -> dict[str, np.ndarray]:
    """Columns after the constant, each less its mean."""
    x = np.asarray(raw["X"], float)[:, 1:]
    return {"x": x - x.mean(axis=0), "y": np.asarray(raw["Y"], float)}


def wells_dist_data(raw: dict[str, Any]) -> dict[str, np.ndarray]:
    """Distance in metres, as it is."""
    return {"distance": np.asarray(raw["dist"], float), "switched": np.asarray(raw["switched"])}


def wells_dae_inter_data(raw: dict[str, Any]) -> dict[str, np.ndarray]:
    """Centred distance (hundreds of metres), arsenic, education (in fours) and their products."""
    d, a, e = (np.asarray(raw[k], float) for k in ("dist", "arsenic", "educ"))
    d, a, e = (d - d.mean()) / 100, a - a.mean(), (e - e.mean()) / 4
    return {"x": np.stack([d, a, e, d * a, d * e, a * e], axis=1), "switched": np.asarray(raw["switched"])}


def glm_poisson_data(raw: dict[str, Any]) -> dict[str, np.ndarray]:
    """Standardised year and the count."""
    return {"year": np.asarray(raw["year"], float), "count": np.asarray(raw["C"])}
