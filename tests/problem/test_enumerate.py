"""Discrete latents summed out of the log joint, against brute force over every assignment and textbook recursions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.stats
from numpyro import distributions
from numpyro.contrib.control_flow import scan
from scipy import special

import taut
from taut import dist
from taut._errors import TautError
from taut._precision import scope

logsumexp: Any = special.logsumexp
nd: Any = distributions

stats: Any = scipy.stats  # its stubs take frozen continuous distributions for discrete ones
RNG = np.random.default_rng(7)


def normal(x: Any, loc: Any, scale: Any = 1.0) -> Any:
    return stats.norm.logpdf(x, loc, scale)


def evidence(problem: taut.Problem, mu: float) -> float:
    """The log joint without the prior of ``mu``: what the sum over assignments must be."""
    log_p, _ = problem.kernel().at_values({"mu": np.array([mu])}, np.zeros(0))
    return float(log_p[0] - normal(mu, 0.0))


def brute(log_joint: Callable[..., float], counts: list[int]) -> float:
    return float(logsumexp([log_joint(*z) for z in itertools.product(*(range(k) for k in counts))]))


# -- what is summed ---------------------------------------------------------------------------------------------------

Y = RNG.normal(size=4)


def mixture(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 4):
        z = taut.sample("z", dist.Categorical(jnp.array([0.2, 0.3, 0.5])))
        taut.sample("y", dist.Normal(mu * z, 1.0), obs=y)


def two_sites(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 4):
        a = taut.sample("a", dist.Bernoulli(0.3))
        b = taut.sample("b", dist.Categorical(jnp.stack([jnp.array([0.2, 0.8]), jnp.array([0.5, 0.5])])[a]))
        taut.sample("y", dist.Normal(mu * a + b, 1.0), obs=y)


def switch(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    tau = taut.sample("tau", dist.DiscreteUniform(1, 3))
    with taut.plate("time", 4):
        taut.sample("y", dist.Normal(jnp.where(jnp.arange(4) < tau, mu, 1.0), 1.0), obs=y)


def by_group(y: Any, group: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("groups", 2):
        z = taut.sample("z", dist.Bernoulli(0.4))
    with taut.plate("rows", 4):
        taut.sample("y", dist.Normal(mu * z[group], 1.0), obs=y)


def glued(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    z = taut.sample("z", dist.Bernoulli(0.3 * jnp.ones(4)).to_event(1))
    taut.sample("y", dist.Normal(mu * z, 1.0).to_event(1), obs=y)


def in_a_factor(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 4):
        z = taut.sample("z", dist.Bernoulli(0.3))
    taut.factor("y", jnp.sum(-0.5 * (y - mu * z) ** 2) + jnp.sum(0.1 * z))


def ring(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 4):
        z = taut.sample("z", dist.Bernoulli(0.3))
        taut.factor("bonds", 0.7 * (z == jnp.roll(z, 1)))
        taut.sample("y", dist.Normal(mu * z, 1.0), obs=y)


def selection(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("columns", 3):
        z = taut.sample("z", dist.Bernoulli(0.3))
    with taut.plate("rows", 4):
        taut.sample("y", dist.Normal(DESIGN @ (z * mu), 1.0), obs=y)


def counted(y: Any, n: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 4):
        k = taut.sample("k", dist.Binomial(n, 0.3))
        taut.sample("y", dist.Normal(mu * k, 1.0), obs=y)


DESIGN, GROUP, TRIALS = RNG.normal(size=(4, 3)), np.array([1, 0, 0, 1]), np.array([1, 2, 3, 1])
PRIOR, GIVEN = np.array([0.2, 0.3, 0.5]), np.array([[0.2, 0.8], [0.5, 0.5]])


def bern(z: Any, p: float) -> Any:
    return np.where(np.asarray(z) == 1, np.log(p), np.log1p(-p))


EXACT: dict[str, tuple[Callable[..., Any], dict[str, Any], list[int], Callable[..., float], int]] = {
    "a mixture": (mixture, {}, [3] * 4, lambda m, *z: np.sum(np.log(PRIOR)[list(z)] + normal(Y, m * np.array(z))), 3),
    "two sites in a row": (
        two_sites,
        {},
        [2] * 8,
        lambda m, *z: np.sum(
            bern(z[:4], 0.3) + np.log(GIVEN)[z[:4], z[4:]] + normal(Y, m * np.array(z[:4]) + np.array(z[4:]))
        ),
        4,
    ),
    "a switch": (
        switch,
        {},
        [3],
        lambda m, t: -np.log(3) + np.sum(normal(Y, np.where(np.arange(4) < t + 1, m, 1.0))),
        3,
    ),
    "rows that pick their group's": (
        by_group,
        dict(group=GROUP),
        [2] * 2,
        lambda m, *z: np.sum(bern(z, 0.4)) + np.sum(normal(Y, m * np.array(z)[GROUP])),
        2,
    ),
    "to_event": (glued, {}, [2] * 4, lambda m, *z: np.sum(bern(z, 0.3) + normal(Y, m * np.array(z))), 2),
    "a factor that is a sum": (
        in_a_factor,
        {},
        [2] * 4,
        lambda m, *z: np.sum(bern(z, 0.3) - 0.5 * (Y - m * np.array(z)) ** 2 + 0.1 * np.array(z)),
        2,
    ),
    "a ring": (
        ring,
        {},
        [2] * 4,
        lambda m, *z: np.sum(bern(z, 0.3) + 0.7 * (np.array(z) == np.roll(z, 1)) + normal(Y, m * np.array(z))),
        4,
    ),
    "all at once": (
        selection,
        {},
        [2] * 3,
        lambda m, *z: np.sum(bern(z, 0.3)) + np.sum(normal(Y, DESIGN @ (np.array(z) * m))),
        8,
    ),
    "bounds from the data": (
        counted,
        dict(n=TRIALS),
        [int(n) + 1 for n in TRIALS],
        lambda m, *z: np.sum(stats.binom.logpmf(z, TRIALS, 0.3) + normal(Y, m * np.array(z))),
        4,
    ),
}


@pytest.mark.parametrize("title", list(EXACT))
def test_the_sum_is_that_over_every_assignment(title: str):
    model, data, counts, log_joint, evaluations = EXACT[title]
    problem = taut.Problem(model, dict(y=Y, **data))
    exact = brute(lambda *z: log_joint(0.8, *z), counts)
    assert abs(evidence(problem, 0.8) - exact) < 1e-9
    assert problem.program.sums is not None and problem.program.sums.evaluations == evaluations
    assert list(problem.latents) == ["mu"] and set(problem.summed) & {"z", "a", "tau", "k"}
    (note,) = [note for note in problem.notes if "summed out exactly" in note]
    assert f"{evaluations} evaluation" in note


def test_the_gradient_is_that_of_finite_differences():
    problem = taut.Problem(two_sites, dict(y=Y))
    at, step = np.array([[0.8]]), 1e-5
    _, slope = problem.kernel()(at, np.ones(1))
    ends, _ = problem.kernel()(np.array([[0.8 + step], [0.8 - step]]), np.ones(1))
    assert abs(slope[0, 0] - (ends[0] - ends[1]) / (2 * step)) < 1e-6


# -- chains -----------------------------------------------------------------------------------------------------------

STEPS = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])


def forward(steps: np.ndarray, y: np.ndarray, mu: float) -> float:
    """The forward recursion of a hidden Markov model that starts in state 0, one step after another."""
    with np.errstate(divide="ignore"):
        moves = np.log(steps)
    alpha = moves[0] + normal(y[0], mu * np.arange(len(steps)))
    for value in y[1:]:
        alpha = logsumexp(alpha[:, None] + moves, axis=0) + normal(value, mu * np.arange(len(steps)))
    return float(logsumexp(alpha))


def chain_in_python(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    z: Any = 0
    for t in range(len(y)):
        z = taut.sample(f"z_{t}", dist.Categorical(jnp.asarray(STEPS)[z]))
        taut.sample(f"y_{t}", dist.Normal(mu * z, 1.0), obs=y[t])


def chain_by_scan(y: Any) -> None:
    mu = numpyro.sample("mu", nd.Normal(0.0, 1.0))

    def step(z: Any, now: Any) -> Any:
        z = numpyro.sample("z", nd.Categorical(jnp.asarray(STEPS)[z]), infer={"enumerate": "parallel"})
        numpyro.sample("y", nd.Normal(mu * z, 1.0), obs=now)
        return z, None

    scan(step, 0, y)


@pytest.mark.parametrize(("model", "length", "rounds"), [(chain_in_python, 9, 4), (chain_by_scan, 200, 8)])
def test_chains_agree_with_the_forward_recursion(model: Callable[..., None], length: int, rounds: int):
    y = RNG.normal(size=length)
    problem = taut.Problem(model, dict(y=y))
    assert abs(evidence(problem, 0.8) - forward(STEPS, y, 0.8)) < 1e-8
    sums = problem.program.sums
    # Two colours, so the square of the number of states; halved until one is left.
    assert sums is not None and sums.evaluations == 9 and len(sums.order.rounds) <= rounds


def test_counts_of_evaluations_do_not_grow_with_rows_or_steps():
    def large(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(jnp.zeros(3), 5.0).to_event(1))
        with taut.plate("rows", 1000):
            z = taut.sample("z", dist.Categorical(jnp.ones(3) / 3))
            taut.sample("y", dist.Normal(mu[z], 1.0), obs=y)

    def long(y: Any) -> None:
        mu: Any = numpyro.sample("mu", nd.Normal(jnp.zeros(4), 5.0).to_event(1))

        def step(z: Any, now: Any) -> Any:
            z = numpyro.sample("z", nd.Categorical(jnp.eye(4)[z] * 0.6 + 0.1))
            return z, numpyro.sample("y", nd.Normal(mu[z], 1.0), obs=now)

        scan(step, 0, y)

    y = RNG.normal(size=1000)
    for model, evaluations, rounds in ((large, 3, 1), (long, 16, 10)):
        sums = taut.Problem(model, dict(y=y)).program.sums
        assert sums is not None and (sums.evaluations, len(sums.order.rounds)) == (evaluations, rounds)


def test_moves_of_probability_zero_leave_the_gradient_finite():
    def left_to_right(y: Any) -> None:
        stay = taut.sample("stay", dist.Beta(2.0, 2.0))
        moves = jnp.stack([jnp.stack([stay, 1 - stay, 0.0]), jnp.stack([0.0, stay, 1 - stay]), jnp.array([0, 0, 1.0])])
        z: Any = 0
        for t in range(len(y)):
            z = taut.sample(f"z_{t}", dist.Categorical(moves[z]))
            taut.sample(f"y_{t}", dist.Normal(1.0 * z, 1.0), obs=y[t])

    y = np.array([0.1, -0.2, 1.3, 2.2, 1.8])
    problem = taut.Problem(left_to_right, dict(y=y))

    def exact(stay: float) -> float:
        steps = np.array([[stay, 1 - stay, 0.0], [0.0, stay, 1 - stay], [0.0, 0.0, 1.0]])
        return forward(steps, y, 1.0) + float(stats.beta.logpdf(stay, 2, 2))

    with scope("float64"):
        value, slope = jax.jit(jax.value_and_grad(lambda s: problem.log_joint(dict(stay=s))))(0.7)
    assert abs(float(value) - exact(0.7)) < 1e-9
    assert abs(float(slope) - (exact(0.70001) - exact(0.69999)) / 2e-5) < 1e-6


# -- beside other things ----------------------------------------------------------------------------------------------


def test_a_local_latent_whose_prior_depends_on_the_discrete_one():
    """x_i | z_i is normal, so the row's density is a mixture of normals, its x integrated out by quadrature."""

    def model(y: Any) -> None:
        scale = taut.sample("scale", dist.HalfNormal(1.0))
        with taut.plate("rows", 2):
            z = taut.sample("z", dist.Bernoulli(0.3))
            x = taut.sample("x", dist.Normal(2.0 * z, scale))
            taut.sample("y", dist.Normal(x, 0.5), obs=y)

    y = np.array([0.3, 1.7])
    problem = taut.Problem(model, dict(y=y))
    assert not problem.hierarchical.any()  # its coordinate cannot follow a location that is summed over
    grid = np.linspace(-12, 12, 4001)
    points = np.stack([np.full(len(grid), np.log(0.8)), grid, np.full(len(grid), 1.0)], axis=1)
    log_p, _ = problem.kernel()(points, np.ones(3))
    first = logsumexp(log_p) + np.log(grid[1] - grid[0])
    mix = [np.log(0.7) + normal(1.0, 0.0, 0.8), np.log(0.3) + normal(1.0, 2.0, 0.8)]
    rest = np.log(2) + normal(0.8, 0.0, 1.0) + np.log(0.8) + logsumexp(mix) + normal(1.7, 1.0, 0.5)
    spread = np.hypot(0.8, 0.5)
    row = logsumexp([np.log(0.7) + normal(0.3, 0.0, spread), np.log(0.3) + normal(0.3, 2.0, spread)])
    assert abs(first - rest - row) < 1e-8


def test_partly_observed_discrete_sites():
    y, seen, mask = np.array([0.1, 2.0, 1.0]), np.array([0, 1, 0]), np.array([True, True, False])

    def model(y: Any, z: Any, mask: Any) -> None:
        p = numpyro.sample("p", nd.Beta(1.0, 1.0))
        with numpyro.plate("rows", 3):
            z = numpyro.sample("z", nd.Bernoulli(p), obs=z, obs_mask=mask)
            numpyro.sample("y", nd.Normal(2.0 * z, 1.0), obs=y)

    problem = taut.Problem(model, dict(y=y, z=seen, mask=mask))
    known = np.log(0.7) + normal(0.1, 0.0) + np.log(0.3) + normal(2.0, 2.0)
    rest = logsumexp([np.log(0.7) + normal(1.0, 0.0), np.log(0.3) + normal(1.0, 2.0)])
    assert abs(float(problem.log_joint(dict(p=0.3))) - known - rest) < 1e-9


def test_a_masked_state_adds_nothing():
    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 4), taut.handlers.mask(mask=jnp.arange(4) < 3):
            z = taut.sample("z", dist.Bernoulli(0.3))
            taut.sample("y", dist.Normal(mu * z, 1.0), obs=y)

    rows = logsumexp([np.log(0.7) + normal(Y, 0.0), np.log(0.3) + normal(Y, 0.8)], axis=0)
    assert abs(evidence(taut.Problem(model, dict(y=Y)), 0.8) - rows[:3].sum()) < 1e-9


def test_a_batch_of_rows_stands_for_all_of_them_outside_of_the_logarithm():
    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 4, subsample_size=2) as rows:
            z = taut.sample("z", dist.Bernoulli(0.3))
            taut.sample("y", dist.Normal(mu * z, 1.0), obs=y[rows])

    y = np.full(4, 1.3)
    problem = taut.Problem(model, dict(y=y), subsample=True)
    row = logsumexp([np.log(0.7) + normal(1.3, 0.0), np.log(0.3) + normal(1.3, 0.8)])
    assert abs(evidence(problem, 0.8) - 4 * row) < 1e-9


def test_the_logarithm_of_each_row_can_be_had():
    problem = taut.Problem(mixture, dict(y=Y))
    leaves, consts = problem.inputs
    with scope("float64"):
        terms = problem.program.evaluate("plain_terms", {}, leaves, consts, values=dict(mu=0.8))["y"]
    exact = logsumexp(np.log(PRIOR) + normal(Y[:, None], 0.8 * np.arange(3)), axis=1)
    assert np.allclose(np.asarray(terms), exact, atol=1e-9)


# -- what is refused --------------------------------------------------------------------------------------------------


def refused(model: Callable[..., Any], data: dict[str, Any], **options: Any) -> TautError:
    with pytest.raises(TautError) as caught:
        taut.Problem(model, data, **options)
    return caught.value


def test_what_cannot_be_summed_is_refused_with_its_price():
    def endless(y: Any) -> None:
        n = taut.sample("n", dist.Poisson(3.0))
        taut.sample("y", dist.Normal(n, 1.0), obs=y)

    def wide(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("columns", 20):
            z = taut.sample("z", dist.Bernoulli(0.3))
        taut.sample("y", dist.Normal(mu * jnp.sum(z), 1.0), obs=y)

    def bounded(y: Any) -> None:
        z = taut.sample("z", dist.Bernoulli(0.3))
        x = taut.sample("x", dist.Uniform(0.0, 1.0 + z))
        taut.sample("y", dist.Normal(x, 1.0), obs=y)

    error = refused(endless, dict(y=1.0))
    assert (error.code, error.site) == ("discrete-latent", "n") and "Categorical(logits=" in error.remedy
    error = refused(wide, dict(y=1.0))
    assert (error.code, error.site) == ("discrete-latent", "z")
    assert "ties 20 elements of 'z' together: 1,048,576 joint values" in error.found
    error = refused(bounded, dict(y=1.0))
    assert (error.code, error.site) == ("discrete-latent", "x")


def test_a_switch_outside_of_a_subsampled_plate_is_refused():
    def model(y: Any) -> None:
        z = taut.sample("z", dist.Bernoulli(0.3))
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 4, subsample_size=2) as rows:
            taut.sample("y", dist.Normal(mu * z, 1.0), obs=y[rows])

    error = refused(model, dict(y=Y), subsample=True)
    assert (error.code, error.site) == ("bad-combination", "y")
    taut.Problem(model, dict(y=Y))  # on the whole data it is a switch like any other


def of_vectors(kind: str) -> Callable[..., None]:
    """A mixture of two Gaussians of vectors, each with a location and a shape of its own."""

    def model(y: Any) -> None:
        loc = taut.sample("loc", dist.Normal(jnp.zeros((2, 2)), 1.0).to_event(2))
        scale = taut.sample("scale", dist.HalfNormal(jnp.ones((2, 2))).to_event(2))
        factor = taut.sample("factor", dist.LKJCholesky(2, 1.0))
        with taut.plate("rows", len(y)):
            z = taut.sample("z", dist.Bernoulli(0.4))
            diagonal = scale[..., None] * jnp.eye(2)
            shape = {
                "shared": {"scale_tril": factor},
                "scaled": {"scale_tril": scale[z][..., None] * factor},
                "covariance": {"covariance_matrix": diagonal[z]},
                "precision": {"precision_matrix": diagonal[z]},
            }[kind]
            taut.sample("y", dist.MultivariateNormal(loc[z], **shape), obs=y)

    return model


@pytest.mark.parametrize("kind", ["shared", "scaled", "covariance", "precision"])
def test_rows_of_vectors_are_apart_through_solves_and_decompositions(kind: str):
    y = np.random.default_rng(0).normal(size=(6, 2))
    problem = taut.Problem(of_vectors(kind), dict(y=y))
    assert problem.program.sums is not None and problem.program.sums.evaluations == 2
    found = problem.constrain(np.random.default_rng(3).normal(size=(1, problem.dim)))
    values = {name: np.asarray(found[name][0]) for name in problem.latents}
    loc, scale, factor = values["loc"], values["scale"], values["factor"]

    def covariance(z: int) -> np.ndarray:
        scaled = scale[z][:, None] * factor
        return {
            "shared": factor @ factor.T,
            "scaled": scaled @ scaled.T,
            "covariance": np.diag(scale[z]),
            "precision": np.diag(1 / scale[z]),
        }[kind]

    def rows(z: int) -> np.ndarray:
        return stats.multivariate_normal.logpdf(y, loc[z], covariance(z))

    exact = np.logaddexp(np.log(0.6) + rows(0), np.log(0.4) + rows(1)).sum()
    assert float(problem.log_joint_by_site(values)["y"]) == pytest.approx(exact, abs=1e-9)
