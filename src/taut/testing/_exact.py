"""Problems with exact posteriors and evidences, from closed forms and quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from taut import dist
from taut.core import plate, sample
from taut.problem import Problem


@dataclass(frozen=True)
class Exact:
    """A model, its data, and what inference must find.

    Attributes:
        name: what it is called.
        model: the program.
        data: its arguments.
        mean: exact posterior mean of sites in the model's own space.
        sd: exact posterior standard deviation, where it is known.
        log_evidence: in nats.
        tolerance: what a good fit may be off by, in posterior sds and nats.
        location, covariance: the posterior on the real line in the order of `Problem.layout`, when it is Gaussian.
        mean_field_elbo: the highest ELBO of independent normals on the real line, when it is known, in nats.
    """

    name: str
    model: Callable[..., Any]
    data: dict[str, Any]
    mean: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]
    log_evidence: float
    tolerance: float = 0.02
    location: np.ndarray | None = field(default=None, repr=False)
    covariance: np.ndarray | None = field(default=None, repr=False)
    mean_field_elbo: float | None = None

    def problem(self) -> Problem:
        """The problem, in float64."""
        return Problem(self.model, self.data, precision="float64")


def conjugate_normal() -> Exact:
    r"""$x \sim N(0, 1)$, $y \sim N(x, 0.5)$, $y = 10$: the posterior is $N(8, 0.2)$, far from the prior.

    Source: the report of a default ADVI run that ends at 3.11 (PyMC issue 6271).
    """

    def model(y: Any) -> None:
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(x, 0.5), obs=y)

    return Exact(
        name="conjugate normal",
        model=model,
        data={"y": 10.0},
        mean={"x": np.array(8.0)},
        sd={"x": np.array(math.sqrt(0.2))},
        log_evidence=-0.5 * 100 / 1.25 - 0.5 * math.log(2 * math.pi * 1.25),
        location=np.array([8.0]),
        covariance=np.array([[0.2]]),
        mean_field_elbo=-0.5 * 100 / 1.25 - 0.5 * math.log(2 * math.pi * 1.25),
    )


def conjugate_regression(rows: int = 20, columns: int = 3, noise: float = 0.7, seed: int = 0) -> Exact:
    r"""$y = X\theta + \epsilon$, $\epsilon \sim N(0, \sigma^2)$, $\theta \sim N(0, 4 I)$: all of it Gaussian.

    Args:
        rows: observations.
        columns: coefficients.
        noise: $\sigma$.
        seed: of the data.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) @ (np.eye(columns) + 0.5)
    y = x @ rng.standard_normal(columns) + noise * rng.standard_normal(rows)

    def model(x: Any, y: Any) -> None:
        theta = sample("theta", dist.Normal(0.0, 2.0).expand([columns]).to_event(1))
        with plate("rows", rows):
            sample("y", dist.Normal(x @ theta, noise), obs=y)

    covariance = np.linalg.inv(x.T @ x / noise**2 + np.eye(columns) / 4)
    mean = covariance @ x.T @ y / noise**2
    marginal = 4 * x @ x.T + noise**2 * np.eye(rows)
    log_evidence = -0.5 * (y @ np.linalg.solve(marginal, y) + np.linalg.slogdet(2 * math.pi * marginal)[1])
    # Independent normals on N(m, S): variances 1 / (S^-1)_ii, and a KL of half the log of det diag(S^-1) det S.
    precision = np.linalg.inv(covariance)
    kl = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    return Exact(
        name="conjugate regression",
        model=model,
        data={"x": x, "y": y},
        mean={"theta": mean},
        sd={"theta": np.sqrt(np.diag(covariance))},
        log_evidence=float(log_evidence),
        location=mean,
        covariance=covariance,
        mean_field_elbo=float(log_evidence - kl),
    )


def correlated_gaussian(correlation: float = 0.9) -> Exact:
    r"""$z \sim N(0, [[1, \rho], [\rho, 1]])$: independent normals must understate both sds, by $\sqrt{1 - \rho^2}$.

    Args:
        correlation: $\rho$.
    """
    covariance = np.array([[1.0, correlation], [correlation, 1.0]])

    def model() -> None:
        sample("z", dist.MultivariateNormal(jnp.zeros(2), jnp.asarray(covariance)))

    return Exact(
        name="correlated Gaussian",
        model=model,
        data={},
        mean={"z": np.zeros(2)},
        sd={"z": np.ones(2)},
        log_evidence=0.0,
        location=np.zeros(2),
        covariance=covariance,
        mean_field_elbo=0.5 * math.log(1 - correlation**2),
    )


def eight_schools() -> Exact:
    r"""Eight parallel experiments, $\theta_j \sim N(\mu, \tau)$, $\tau \sim C^+(5)$: quadrature over $\tau$.

    Source: Rubin (1981), Estimation in parallel randomized experiments; Gelman et al., Bayesian data analysis, 5.5.
    """
    sigma = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])

    def model(sigma: Any, y: Any) -> None:
        mu = sample("mu", dist.Normal(0.0, 5.0))
        tau = sample("tau", dist.HalfCauchy(5.0))
        with plate("school", 8):
            theta = sample("theta", dist.Normal(mu, tau))
            sample("y", dist.Normal(theta, sigma), obs=y)

    theta = [6.21188, 4.94018, 3.92700, 4.75710, 3.61548, 4.04261, 6.29672, 4.85425]
    spread = [5.59313, 4.67427, 5.26262, 4.78030, 4.65745, 4.82687, 5.07785, 5.29080]
    return Exact(
        name="eight schools",
        model=model,
        data={"sigma": sigma, "y": y},
        mean={"mu": np.array(4.396821), "tau": np.array(3.597705), "theta": np.array(theta)},
        sd={"mu": np.array(3.317704), "tau": np.array(3.219958), "theta": np.array(spread)},
        log_evidence=-31.311347352,
        # A Gaussian on the real line is short of tau's tails.
        tolerance=0.15,
    )


def neal_funnel(leaves: int = 9) -> Exact:
    r"""$v \sim N(0, 3)$, $x_i \sim N(0, e^{v/2})$: the neck that centred hierarchies have.

    Args:
        leaves: number of $x_i$.

    Source: Neal (2003), Slice sampling; the mean-field optimum is $-\frac12 \log(1 + 9n/2)$.
    """

    def model() -> None:
        v = sample("v", dist.Normal(0.0, 3.0))
        sample("x", dist.Normal(0.0, jnp.exp(v / 2)).expand([leaves]).to_event(1))

    return Exact(
        name="Neal's funnel",
        model=model,
        data={},
        mean={"v": np.array(0.0), "x": np.zeros(leaves)},
        sd={"v": np.array(3.0), "x": np.full(leaves, math.exp(9 / 4))},
        log_evidence=0.0,
        tolerance=math.inf,
        mean_field_elbo=-0.5 * math.log(1 + 9 * leaves / 2),
    )


# Every exact problem at its default size.
EXACT: tuple[Callable[[], Exact], ...] = (
    conjugate_normal,
    conjugate_regression,
    correlated_gaussian,
    eight_schools,
    neal_funnel,
)
