"""`taut.fit_mle`: the parameters of a model without latents, by maximum likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut._precision import Precision
from taut.algorithms import MAP, Run, covariance_at
from taut.problem import Problem

_STEP = 1e-4  # of a standard error, in the derivative of a parameter by its coordinate


@dataclass(frozen=True)
class Estimate:
    """Point estimates of a model's parameters.

    Attributes:
        values: by name, in the model's own space.
        se: standard errors from the observed information, same shapes; NaN where the likelihood is flat.
        log_likelihood: at the estimates, nats; factors included.
        status: ``"converged"`` at a maximum, else ``"budget"``.
        gradients: evaluations used.
    """

    values: dict[str, np.ndarray]
    se: dict[str, np.ndarray]
    log_likelihood: float
    status: str
    gradients: int

    def __str__(self) -> str:
        lines = [f"maximum likelihood ({self.status}): log likelihood {self.log_likelihood:.4f} nats"]
        for name, value in self.values.items():
            for at in np.ndindex(value.shape):
                label = name + (f"[{','.join(map(str, at))}]" if at else "")
                lines.append(f"{label:16} {value[at]:10.4g} ± {self.se[name][at]:.2g}")
        return "\n".join(lines)


def fit_mle(
    model: Callable[..., Any],
    data: Mapping[str, Any] | None = None,
    *,
    key: int | jax.Array = 0,
    precision: Precision | None = None,
) -> Estimate:
    r"""Maximise the likelihood over the parameters of a model that has no latents.

    .. math:: \hat\theta = \arg\max_\theta \log p(x \mid \theta),\qquad
              \operatorname{Cov}\hat\theta \approx \Big(-\frac{\partial^2\log p}{\partial\theta^2}\Big)^{-1}

    by quasi-Newton climbs from several starts and Newton steps on the real line, where constraints are maps; standard
    errors are carried back by the delta method.

    Args:
        model: a function of `taut.param`, observed `taut.sample` and `taut.factor`.
        data: values by argument name.
        key: an integer or a JAX key.
        precision: ``"float64"`` (default on a CPU) or ``"float32"``.

    Returns:
        `Estimate`.

    Raises:
        TautError: ``bad-combination`` for a model with latents: its likelihood is an integral, which `taut.fit` is for.

    Source: Fisher (1922), On the mathematical foundations of theoretical statistics.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     mu = taut.param("mu", 0.0)
        ...     with taut.plate("rows", len(y)):
        ...         taut.sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> found = taut.fit_mle(model, dict(y=[1.0, 2.0, 3.0]))
        >>> round(float(found.values["mu"]), 4), round(float(found.se["mu"]), 4)
        (2.0, 0.5774)
    """
    problem = Problem(model, data, precision=precision, latents=False)
    if problem.dim:
        name = next(iter(problem.latents))
        raise TautError(
            "bad-combination",
            site=name,
            source=problem.latents[name].source,
            found=f"fit_mle, and a model with the latent {name!r}",
            expected="parameters only: with latents the likelihood is an integral",
            remedy="taut.fit(model, data)",
        )
    if not problem.num_params:
        raise TautError(
            "no-latents",
            found=f"{getattr(model, '__name__', 'model')} with neither latents nor parameters",
            expected="at least one taut.param",
            remedy='mu = taut.param("mu", 0.0) for each unknown number',
        )
    algorithm = MAP()
    solution = Run()(algorithm, problem, algorithm.guide(problem), key)
    point = np.asarray(solution.model_params, float)
    covariance, log_p = covariance_at(problem, point)
    values, errors = {}, {}
    sd = np.sqrt(np.diagonal(covariance))
    steps = np.diag(_STEP * np.where(np.isfinite(sd) & (sd > 0), sd, 1.0))
    rows = problem.constrain(np.concatenate([point[None], point + steps, point - steps]), problem.centredness())
    for name in problem.params:
        found = rows[name].reshape(len(rows[name]), -1)
        slope = (found[1 : len(point) + 1] - found[len(point) + 1 :]) / (2 * np.diagonal(steps)[:, None])
        shape = rows[name].shape[1:]
        values[name] = found[0].reshape(shape)
        with np.errstate(invalid="ignore"):
            errors[name] = np.sqrt(np.einsum("ik,ij,jk->k", slope, covariance, slope)).reshape(shape)
    return Estimate(values, errors, log_p, solution.status, problem.kernel().gradients)
