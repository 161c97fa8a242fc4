"""The laws of gradient estimators, for those of the library and those of its users."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut._precision import scope
from taut.algorithms import LogWeights
from taut.core import param, sample
from taut.gradients import GradientEstimator
from taut.guides import Guide, MeanField, bind
from taut.objectives import ELBO, IWAE, RWS, Objective
from taut.problem import Problem
from taut.testing._laws import PARAMS, THETA, curved, curved_log_joint, report, with_particles

# Estimates whose mean is compared with the exact gradient, and the standard errors that are allowed for.
_ESTIMATES, _SURE = 20_000, 5.0
# Nodes of the quadrature, over each of two draws.
_NODES = 40
_BERNOULLI = np.array([0.3])
_OBSERVED = 2.0


def check_gradient(estimator: GradientEstimator, objectives: Sequence[Objective] | None = None) -> None:
    r"""Check that a gradient estimator keeps the laws of its contract, against gradients from quadrature.

    For every objective that its ``valid_for`` lets pass: the surrogate's value is the objective's estimate; the mean
    of many gradients, in the guide's parameters and in the model's, is the gradient of the expected estimate (for
    objectives with a gradient of their own, the expected weighted score). On one latent with a curved likelihood and
    a learned prior; for an estimator that is not ``pathwise``, on a discrete latent too.

    Args:
        estimator: any.
        objectives: which to check with; by default an `ELBO`, an `IWAE` and `RWS`, of two particles each. Others are
            taken at two particles too.

    Raises:
        LawBroken: with one sentence for each law that is broken.

    Example:
        >>> taut.testing.check_gradient(taut.gradients.DoublyReparam())
    """
    name = type(estimator).__name__
    broken: list[str] = []
    try:
        hash(estimator)
    except TypeError as error:
        broken.append(f"it must be a frozen dataclass, hashable: {error}")
    valid = [o for o in (objectives or (ELBO(2), IWAE(2), RWS(2))) if _valid(estimator, o)]
    if not valid:
        broken.append("its valid_for refuses every objective that it was checked with")
    for objective in valid:
        given = objective if objective.particles == 2 else with_particles(objective, 2, objective.averaged_over)
        try:
            broken += _smooth(estimator, given)
            if not estimator.pathwise:
                broken += _discrete(estimator, given)
        except Exception as error:
            broken.append(f"with {type(given).__name__} it raised {type(error).__name__}: {error}")
    report(name, broken)


def _valid(estimator: GradientEstimator, objective: Objective) -> bool:
    try:
        estimator.valid_for(objective)
    except TautError:
        return False
    return True


def _smooth(estimator: GradientEstimator, objective: Objective) -> list[str]:
    problem = curved()
    found = _estimates(problem, MeanField(), estimator, objective, PARAMS, THETA)
    if not objective.learns_model:
        found = (*found[:3], found[3][:, :0])
    return _compare(objective, found, _exact(objective), "a smooth guide")


def _discrete(estimator: GradientEstimator, objective: Objective) -> list[str]:
    problem, guide = _coin()
    found = _estimates(problem, guide, estimator, objective, {"p": _BERNOULLI[0]}, np.zeros(0))
    with scope("float64"):
        slope = jax.jit(lambda u: _enumerated(objective, u))(jnp.asarray(_BERNOULLI[0]))
        exact = (jax.tree.map(np.asarray, slope), np.zeros(0))
    return _compare(objective, found, exact, "a discrete guide")


def _estimates(
    problem: Problem, guide: Guide, estimator: GradientEstimator, objective: Objective, params: Any, theta: Any
) -> tuple[Any, Any, Any, Any]:
    """Plain estimates, surrogate values, gradients in the guide and in the model; of many keys."""
    program, inputs = problem.program, problem.inputs

    def one(params: Any, model: Any, key: Any) -> Any:
        weights = LogWeights(program, guide, key, inputs, objective.draws)
        loss = lambda p, m: estimator.surrogate(objective, weights, p, m)  # noqa: E731
        value, slope = jax.value_and_grad(loss, argnums=(0, 1))(params, model)
        return objective.estimate(weights(params, params, model)), value, *slope

    with scope("float64"):
        start = jax.tree.map(jnp.asarray, dict(params))
        run = jax.jit(jax.vmap(one, in_axes=(None, None, 0)))
        found = run(start, jnp.asarray(theta), jax.random.split(jax.random.key(0), _ESTIMATES))
        return jax.tree.map(np.asarray, found)


def _compare(objective: Objective, found: Any, exact: Any, where: str) -> list[str]:
    plain, value, in_guide, in_model = found
    name, broken = type(objective).__name__, []
    if not np.allclose(plain, value, rtol=1e-9, atol=1e-9):
        at = int(np.argmax(np.abs(plain - value)))
        broken.append(
            f"with {name} and {where} the surrogate's value is {value[at]:.6g} where the objective's estimate of the "
            f"same draws is {plain[at]:.6g}: add only the gradient of a term, x - stop_gradient(x)"
        )
    parts = [(f"the guide's {n!r}", g, exact[0][n]) for n, g in in_guide.items()]
    if in_model.shape[-1]:
        parts.append(("the model's 'theta'", in_model, exact[1]))
    for what, estimates, truth in parts:
        flat = estimates.reshape(len(estimates), -1)
        mean, se = flat.mean(axis=0), flat.std(axis=0) / np.sqrt(len(flat)) + 1e-9
        off = np.abs(mean - np.ravel(truth)) / se
        if not np.all(off < _SURE):
            j = int(np.argmax(off))
            broken.append(
                f"with {name} and {where} the gradient in {what} is biased: mean {mean[j]:.4g} +- {se[j]:.2g} over "
                f"{len(flat):,} estimates, exactly {np.ravel(truth)[j]:.4g}"
            )
    return broken


@lru_cache(maxsize=64)
def _exact(objective: Objective) -> tuple[Any, Any]:
    with scope("float64"):
        params = jax.tree.map(jnp.asarray, dict(PARAMS))
        found = jax.jit(lambda p, t: _quadrature(objective, p, t))(params, jnp.asarray(THETA))
        return jax.tree.map(np.asarray, found)


def _quadrature(objective: Objective, params: Any, theta: Any) -> tuple[Any, Any]:
    """Exact gradients of the expected estimate of two particles on `curved`, by Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    shares = jnp.asarray(np.outer(weights, weights).ravel() / weights.sum() ** 2)
    pairs = jnp.asarray(np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2))
    single = with_particles(objective, 2)

    def log_q(z: Any, params: Any) -> Any:
        u = (z - params["loc"][0]) / jnp.exp(params["log_scale"][0])
        return -0.5 * u**2 - params["log_scale"][0] - 0.5 * np.log(2 * np.pi)

    def log_weights(params: Any, theta: Any) -> tuple[Any, Any]:
        z = params["loc"][0] + jnp.exp(params["log_scale"][0]) * pairs
        return z, curved_log_joint(z, theta[0]) - log_q(z, params)

    def expected(params: Any, theta: Any) -> Any:
        return shares @ jax.vmap(single.reduce)(log_weights(params, theta)[1])

    slope = jax.grad(expected, argnums=(0, 1))(params, theta)
    if not objective.own_gradient:
        return slope
    z, held = jax.lax.stop_gradient(log_weights(params, theta))
    counts = jax.vmap(single.score_weights)(held)
    return jax.grad(lambda p: shares @ jnp.sum(counts * log_q(z, p), axis=1))(params), slope[1]


def _coin() -> tuple[Problem, Guide]:
    r"""$z \sim \mathrm{Bern}(0.5)$, $y \sim N(z, 1)$, and a guide with one parameter."""

    def model(y: Any) -> None:
        z = sample("z", dist.Bernoulli(0.5))
        sample("y", dist.Normal(z, 1.0), obs=y)

    def guide() -> None:
        sample("z", dist.Bernoulli(logits=param("p", 0.0)))

    problem = Problem(model, dict(y=_OBSERVED), discrete=True, precision="float64")
    return problem, bind(guide, problem)


def _enumerated(objective: Objective, logit: Any) -> dict[str, Any]:
    """The exact gradient for two draws of the coin: all four pairs are written down."""
    log_p = jnp.asarray(np.log(0.5) - 0.5 * (_OBSERVED - np.arange(2.0)) ** 2 - 0.5 * np.log(2 * np.pi))
    pairs = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    single = with_particles(objective, 2)

    def expected(u: Any) -> Any:
        log_q = jnp.stack([jax.nn.log_sigmoid(-u), jax.nn.log_sigmoid(u)])
        chance = jnp.exp(jnp.sum(log_q[pairs], axis=1))
        weights = log_p[pairs] - log_q[pairs]
        if objective.own_gradient:
            counts = jax.lax.stop_gradient(chance[:, None] * jax.vmap(single.score_weights)(weights))
            return jnp.sum(counts * log_q[pairs])
        return chance @ jax.vmap(single.reduce)(weights)

    return {"p": jax.grad(expected)(logit)}
