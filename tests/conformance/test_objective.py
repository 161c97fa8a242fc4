"""Laws of every objective: exact at the posterior, the identity for one particle, a bound of the side it claims."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from taut import guides, objectives, testing
from taut._errors import TautError
from taut._precision import scope


def hellinger(u: Any) -> Any:
    return (jnp.sqrt(u) - 1) ** 2


MEMBERS: dict[str, Callable[[int], objectives.Objective]] = {
    "ELBO": lambda k: objectives.ELBO(particles=k),
    "IWAE": lambda k: objectives.IWAE(particles=k),
    "IWAE averaged": lambda k: objectives.IWAE(particles=k, averaged_over=3),
    "Renyi": lambda k: objectives.Renyi(alpha=0.5, particles=k),
    "Renyi beyond the ELBO": lambda k: objectives.Renyi(alpha=2.0, particles=k),
    "Renyi at the ELBO": lambda k: objectives.Renyi(alpha=1.0, particles=k),
    "CUBO": lambda k: objectives.CUBO(n=2, particles=k),
    "TVO": lambda k: objectives.TVO(particles=k),
    "UpperTVO": lambda k: objectives.UpperTVO(particles=k),
    "ForwardKL": lambda k: objectives.ForwardKL(particles=k),
    "RWS": lambda k: objectives.RWS(particles=k),
    "FDivergence": lambda k: objectives.FDivergence(hellinger, particles=k),
    "BatchELBO": lambda k: objectives.BatchELBO(objectives.Uniform(2), particles=k),
    "Tempered": lambda k: objectives.Tempered(beta=2.0, particles=k),
    "Annealed": lambda k: objectives.Annealed(particles=k),
    "JVI": lambda k: objectives.JVI(particles=k, order=0 if k == 1 else 1),
    "DVI": lambda k: objectives.DVI(particles=k),
}
GAUSSIAN = [testing.conjugate_normal, testing.conjugate_regression, testing.correlated_gaussian]


@pytest.mark.parametrize("make", MEMBERS.values(), ids=MEMBERS)
def test_the_public_laws_hold(make):
    # One home: taut.testing.check_objective, which users run on objectives of their own.
    testing.check_objective(make(8))


@pytest.mark.parametrize("exact", GAUSSIAN, ids=lambda f: f.__name__)
def test_at_the_posterior_every_estimate_is_the_log_evidence(exact):
    known = exact()
    problem, guide = known.problem(), guides.FullRank()
    params = guide.from_moments(known.location, np.linalg.cholesky(known.covariance))
    point, log_q = guide.draws(problem, params, 6 * 12, np.random.default_rng(0))
    log_p, _ = problem.kernel()(point.coordinates, problem.centredness())
    with scope("float64"):
        for name, make in MEMBERS.items():
            objective = make(4)
            rows = (log_p - log_q)[: 6 * objective.draws].reshape(-1, objective.draws)
            found = [float(objective.estimate(jnp.asarray(w))) for w in rows]
            np.testing.assert_allclose(found, known.log_evidence, rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("particles, expected", [(1, -0.5772156649), (2, -0.2703628455), (16, -0.0315753939)])
def test_iwae_of_exponential_weights(particles: int, expected: float):
    # E log mean of K unit exponentials is digamma(K) - log K; its variance is trigamma(K).
    n = 40_000
    with scope("float64"):
        log_w = np.log(np.random.default_rng(1).exponential(size=(particles, n)))
        found = np.asarray(objectives.IWAE(particles).reduce(jnp.asarray(log_w)))
    assert abs(found.mean() - expected) < 5 * found.std() / math.sqrt(n)


def test_weights_far_from_zero_keep_their_digits():
    found = float(objectives.IWAE(2).reduce(jnp.array([-800.0, -801.0], jnp.float32)))
    np.testing.assert_allclose(found, -800.3799, atol=1e-3)  # -800 + log((1 + e^-1) / 2)
    found = float(objectives.IWAE(2).reduce(jnp.array([100.0, 99.0], jnp.float32)))
    np.testing.assert_allclose(found, 99.6201, atol=1e-3)


@pytest.mark.parametrize("make", MEMBERS.values(), ids=MEMBERS)
@pytest.mark.parametrize("particles", [0, -1, 2.0, True])
def test_particles_are_a_positive_whole_number(make, particles):
    with pytest.raises(TautError) as refused:
        make(particles)
    assert refused.value.code == "bad-argument"


# -- the check itself: wrong objectives are caught, each in a sentence that names its fault --------------------------


@dataclass(frozen=True)
class Wrong(objectives.Objective):
    """An importance-weighted bound with one fault."""

    fault: str = ""
    particles: int = 8
    bound: ClassVar[objectives.Bound | None] = "lower"

    def reduce(self, log_weights: Any) -> Any:
        x = jnp.asarray(log_weights)
        if self.fault == "sum":
            return jnp.log(jnp.sum(jnp.exp(x - x.max(0)), axis=0)) + x.max(0)
        if self.fault == "digits":
            return jnp.log(jnp.mean(jnp.exp(x), axis=0))
        if self.fault == "first":
            return 0.9 * x[0] + 0.1 * jnp.mean(x, axis=0)
        if self.fault == "rows":
            return jnp.mean(x)
        if self.fault == "scale":
            return jnp.mean(x, axis=0) + 0.5 * jnp.var(x, axis=0) * jnp.abs(x).max()
        if self.fault == "side":
            return jnp.max(x, axis=0)
        return jnp.mean(x, axis=0)


@dataclass(frozen=True)
class NotTheMean(Wrong):
    fault: str = "side"
    bound: ClassVar[objectives.Bound | None] = None
    averages: ClassVar[bool] = True


@dataclass(frozen=True)
class NotAbove(Wrong):
    bound: ClassVar[objectives.Bound | None] = "upper"


@pytest.mark.parametrize(
    "objective, said",
    [
        (Wrong("sum"), "factor of the number of particles"),
        (Wrong("digits"), "subtract their maximum"),
        (Wrong("first"), "opposite order"),
        (Wrong("rows"), "one for each row"),
        (Wrong("scale"), "must give 5 more"),
        (Wrong("side"), "bound=None?"),
        (NotTheMean(), "plain mean of log-weights"),
        (NotAbove(), "a bound from above"),
    ],
    ids=lambda v: getattr(v, "fault", None) or type(v).__name__,
)
def test_a_wrong_objective_is_told_its_fault(objective, said):
    with pytest.raises(testing.LawBroken) as broken:
        testing.check_objective(objective)
    assert said in str(broken.value)
    testing.check_objective(Wrong())
