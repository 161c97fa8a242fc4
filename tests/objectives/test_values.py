"""Objectives against closed forms of a Gaussian pair, identities between them, and fits by them."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import taut
from taut import dist, gradients, guides, testing
from taut._errors import TautError
from taut._precision import scope
from taut.algorithms import SVI, LogWeights, Run
from taut.objectives import (
    CUBO,
    ELBO,
    IWAE,
    RWS,
    TVO,
    Annealed,
    Cyclical,
    FDivergence,
    ForwardKL,
    Linear,
    Renyi,
    Tempered,
    UpperTVO,
)

V = 0.8  # q = N(0, V), p = N(0, 1)


def log_weights(draws: int, seed: int = 0) -> np.ndarray:
    z = math.sqrt(V) * np.random.default_rng(seed).standard_normal(draws)
    return 0.5 * math.log(V) - 0.5 * z**2 + 0.5 * z**2 / V


def log_moment(n: float) -> float:
    r"""$\log \mathbb E_q w^n$."""
    return 0.5 * n * math.log(V) - 0.5 * math.log(V) - 0.5 * math.log(n + (1 - n) / V)


def along(beta: float) -> float:
    r"""$\mathbb E_{\pi_\beta} \log w$."""
    return 0.5 * math.log(V) + 0.5 * (1 / V - 1) / ((1 - beta) / V + beta)


POINTS = (0.0, 0.2, 0.6, 1.0)
LIMITS: list[tuple[Any, float]] = [
    (lambda k: Renyi(0.5, k), log_moment(0.5) / 0.5),
    (lambda k: Renyi(2.0, k), -log_moment(-1.0)),
    (lambda k: CUBO(2, k), log_moment(2) / 2),
    (lambda k: TVO(POINTS, k), sum(w * along(b) for b, w in zip(POINTS, np.diff(POINTS)))),
    (lambda k: UpperTVO(POINTS, k), sum(w * along(b) for b, w in zip(POINTS[1:], np.diff(POINTS)))),
    (ForwardKL, along(1.0)),
]


@pytest.mark.parametrize("make, exact", LIMITS, ids=["Renyi .5", "Renyi 2", "CUBO", "TVO", "UpperTVO", "ForwardKL"])
def test_the_limit_of_many_particles(make: Any, exact: float):
    with scope("float64"):
        found = [float(make(20_000).reduce(jnp.asarray(log_weights(20_000, s)))) for s in range(20)]
    # The bias is of the order of the variance, 1 / 20,000.
    assert abs(np.mean(found) - exact) < 5 * np.std(found) / math.sqrt(20) + 1e-4


def test_the_thermodynamic_integral_is_the_evidence():
    assert abs(integrate.quad(along, 0, 1, epsabs=1e-13)[0]) < 1e-12
    fine = tuple(np.linspace(0, 1, 400))
    x = jnp.asarray(log_weights(64))
    with scope("float64"):
        below, above = float(TVO(fine, 64).reduce(x)), float(UpperTVO(fine, 64).reduce(x))
        middle = float(IWAE(64).reduce(x))
    assert below < middle < above and above - below < 1e-2


def test_identities():
    with scope("float64"):
        x = jnp.asarray(np.random.default_rng(3).normal(-700.0, 2.0, (8, 5)))
        iwae, elbo = IWAE(8).reduce(x), ELBO(8).reduce(x)
        same = {
            "alpha 0 is the IWAE": (Renyi(0.0, 8), iwae),
            "alpha 1 is the ELBO": (Renyi(1.0, 8), elbo),
            "alpha near 1": (Renyi(1 - 1e-9, 8), elbo),
            "one interval is the ELBO": (TVO((0.0, 1.0), 8), elbo),
            "-log is the ELBO": (FDivergence(lambda u: -jnp.log(u), 8), elbo),
            "u log u": (FDivergence(lambda u: u * jnp.log(u), 8), 2 * iwae - ForwardKL(8).reduce(x)),
            "chi-square": (FDivergence(lambda u: u**2 - 1, 8), iwae - jnp.exp(2 * CUBO(2, 8).reduce(x) - 2 * iwae) + 1),
        }
        for name, (objective, expected) in same.items():
            np.testing.assert_allclose(np.asarray(objective.reduce(x)), expected, rtol=0, atol=2e-5, err_msg=name)


def test_averages_lower_the_noise_and_leave_the_bound():
    n = 20_000
    log_w = np.log(np.random.default_rng(0).exponential(size=(n, 20)))
    with scope("float64"):
        once = np.asarray(jax.vmap(IWAE(5).estimate)(jnp.asarray(log_w[:, :5])))
        four = np.asarray(jax.vmap(IWAE(5, averaged_over=4).estimate)(jnp.asarray(log_w)))
        twenty = np.asarray(jax.vmap(IWAE(20).estimate)(jnp.asarray(log_w)))
    # E of K unit exponentials: digamma(K) - log K, variance trigamma(K): -0.10332, 0.22132 at 5; -0.02521 at 20.
    assert abs(once.mean() + 0.1033202440) < 5 * math.sqrt(0.221323 / n)
    assert abs(four.mean() + 0.1033202440) < 5 * math.sqrt(0.221323 / 4 / n)
    np.testing.assert_allclose(four.var(), 0.221323 / 4, rtol=0.08)
    assert twenty.mean() > -0.03


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda: FDivergence(lambda u: -((u - 1) ** 2)), "bends down"),
        (lambda: FDivergence(lambda u: u**2), "f(1) = 1"),
        (lambda: FDivergence(jnp.sqrt), "f(1)"),
        (lambda: FDivergence(lambda u: jnp.abs(jnp.log(u))), "bends down"),
        (lambda: Renyi(-1.0), "neither side"),
        (lambda: Renyi(math.nan), "not negative"),
        (lambda: CUBO(1.0), "above 1"),
        (lambda: TVO((0.0, 0.5)), "from 0 to 1"),
        (lambda: TVO((0.0, 0.5, 0.5, 1.0)), "from 0 to 1"),
        (lambda: Tempered(0.0), "positive"),
        (lambda: Annealed(lambda t: 0.5 * t), "ends at 0.5"),
        (lambda: Annealed(lambda t: 2 * t - 1), "not negative"),
        (lambda: Annealed(steps=0), "positive whole number"),
    ],
)
def test_what_cannot_be_is_refused(build: Any, said: str):
    with pytest.raises(TautError) as refused:
        build()
    assert said in str(refused.value)


def test_schedules_end_at_one():
    for schedule in (Linear(), Linear(0.3), Cyclical(3, 0.4), lambda t: t**2):
        annealed = Annealed(schedule, steps=50)
        weights = [float(annealed.kl_weight(t)) for t in range(60)]
        assert all(w == 1.0 for w in weights[50:]) and min(weights) >= 0 and max(weights) <= 1
    cycles = [float(Annealed(Cyclical(2, 0.5), steps=40).kl_weight(t)) for t in range(40)]
    np.testing.assert_allclose(cycles[:11], np.arange(11) / 10, atol=1e-6)
    np.testing.assert_allclose(cycles[20:31], np.arange(11) / 10, atol=1e-6)
    with pytest.raises(TautError, match="more steps than the schedule"):
        SVI(objective=Annealed(steps=400), steps=400).init(testing.conjugate_normal().problem(), guides.MeanField(), 0)


@pytest.mark.parametrize(
    "objective, mean, variance",
    [
        (Annealed(steps=500), 8.0, 0.2),  # the posterior, N(8, 1/5)
        (Tempered(2.0), 20 / 3, 1 / 3),  # precision 4/2 + 1, mean 10 * 2 / 3
    ],
    ids=["Annealed", "Tempered"],
)
def test_fits_by_weighed_kl_terms(objective: Any, mean: float, variance: float):
    problem, guide = testing.conjugate_normal().problem(), guides.MeanField()
    solution = Run()(SVI(objective=objective, steps=6000), problem, guide, 0)
    assert abs(solution.params["loc"][0] - mean) < 0.03
    assert abs(math.exp(2 * solution.params["log_scale"][0]) / variance - 1) < 0.05


def test_forward_kl_has_the_margins_of_the_posterior_and_the_elbo_has_not():
    known = testing.correlated_gaussian(0.8)
    problem = known.problem()
    run = SVI(objective=ForwardKL(64), steps=3200)
    found = Run()(run, problem, guides.MeanField(), 0)
    # Margins have variance 1; the ELBO's optimum has 1 - 0.8^2 = 0.36. Normalising over 64 draws biases downwards.
    assert np.all(np.abs(np.exp(2 * found.params["log_scale"]) - 1) < 0.15)
    assert np.all(np.abs(found.params["loc"]) < 0.1)


def test_upper_bounds_learn_no_model():
    def model(y: Any) -> None:
        theta = taut.param("theta", 0.0)
        z = taut.sample("z", dist.Normal(theta, 1.0))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)

    problem = taut.Problem(model, dict(y=1.0))
    for objective in (CUBO(), ForwardKL(), UpperTVO()):
        with pytest.raises(TautError, match="parameters of its own: theta") as refused:
            SVI(objective=objective).init(problem, guides.MeanField(), 0)
        assert "RWS" in refused.value.remedy
    SVI(objective=RWS()).init(problem, guides.MeanField(), 0)


# -- closed forms in the ELBO ----------------------------------------------------------------------------------------

PRIORS = {
    "Normal": (dist.Normal(1.0, 2.0), stats.norm(1, 2)),
    "Gumbel": (dist.Gumbel(0.2, 1.4), stats.gumbel_r(0.2, 1.4)),
    "LogNormal": (dist.LogNormal(0.3, 0.7), stats.lognorm(0.7, scale=math.exp(0.3))),
    "Gamma": (dist.Gamma(2.0, 3.0), stats.gamma(2, scale=1 / 3)),
    "Exponential": (dist.Exponential(2.0), stats.expon(scale=0.5)),
    "HalfNormal": (dist.HalfNormal(1.5), stats.halfnorm(scale=1.5)),
    "InverseGamma": (dist.InverseGamma(3.0, 2.0), stats.invgamma(3, scale=2)),
    "Weibull": (dist.Weibull(1.3, 2.2), stats.weibull_min(2.2, scale=1.3)),
    "Chi2": (dist.Chi2(3.0), stats.chi2(3)),
}


def test_closed_forms_of_families_on_the_real_line():
    """-KL(N(m, s^2) || prior of the coordinate) without noise, against quadrature."""
    m, s = 0.3, 0.5

    def model() -> None:
        for name, (prior, _) in PRIORS.items():
            taut.sample(name, prior)

    problem = taut.Problem(model, precision="float64")
    exact = 0.0
    for name, (_, density) in PRIORS.items():
        positive = problem.latents[name].transform == "exp"

        def integrand(u: float, density: Any = density, positive: bool = positive) -> float:
            log_p = density.logpdf(math.exp(u)) + u if positive else density.logpdf(u)
            return stats.norm.pdf(u, m, s) * (log_p - stats.norm.logpdf(u, m, s))

        exact += integrate.quad(integrand, m - 8 * s, m + 8 * s, epsabs=1e-11, limit=200)[0]
    for guide in (guides.MeanField(), guides.FullRank()):
        params: dict[str, Any] = {"loc": np.full(problem.dim, m), "log_scale": np.full(problem.dim, math.log(s))}
        if isinstance(guide, guides.FullRank):
            params = guide.from_moments(np.full(problem.dim, m), s * np.eye(problem.dim))
        with scope("float64"):
            real = jax.tree.map(jnp.asarray, params)
            weights = LogWeights(problem.program, guide, jax.random.key(0), problem.inputs, 3, True)
            found = np.asarray(weights(real, real, jnp.zeros(0)))
        np.testing.assert_allclose(found, exact, rtol=1e-8)


def test_what_a_hierarchy_leaves_open_is_sampled_and_the_mean_stays():
    def model(y: Any) -> None:
        m = taut.sample("m", dist.Normal(0.0, 1.0))
        t = taut.sample("t", dist.HalfNormal(1.0))
        with taut.plate("n", 3):
            z = taut.sample("z", dist.Normal(m, t))
        b = taut.sample("b", dist.Beta(2.0, 2.0))
        taut.sample("y", dist.Normal(z.sum() + b, 1.0), obs=y)

    problem = taut.Problem(model, dict(y=2.0), precision="float64")
    rng = np.random.default_rng(0)
    params = {"loc": 0.3 * rng.normal(size=problem.dim), "log_scale": np.full(problem.dim, -1.0)}
    found = []
    for closed in (False, True):
        with scope("float64"):
            real = jax.tree.map(jnp.asarray, params)
            weights = LogWeights(problem.program, guides.MeanField(), jax.random.key(0), problem.inputs, 20_000, closed)
            found.append(np.asarray(jax.jit(weights.__call__)(real, real, jnp.zeros(0))))
    sampled, part = found
    se = math.hypot(sampled.std(), part.std()) / math.sqrt(20_000)
    assert abs(sampled.mean() - part.mean()) < 4 * se
    assert part.var() < 0.7 * sampled.var()


def test_closed_pairs_of_a_guide_written_as_a_program():
    """-KL(q || p) by NumPyro's own table, without noise, in the model's space; what has no pair is sampled."""
    pairs = {
        "n": (dist.Normal(1.0, 2.0), dist.Normal(0.3, 0.6)),
        "g": (dist.Gamma(2.0, 3.0), dist.Gamma(1.4, 0.9)),
        "e": (dist.Exponential(2.0), dist.Gamma(2.2, 1.3)),
        "b": (dist.Beta(2.0, 3.0), dist.Beta(1.2, 0.8)),
        "d": (dist.Dirichlet(jnp.array([1.0, 2.0, 0.7])), dist.Dirichlet(jnp.array([2.0, 0.9, 1.1]))),
    }

    def model() -> None:
        for name, (prior, _) in pairs.items():
            taut.sample(name, prior)
        with taut.plate("rows", 3):
            taut.sample("r", dist.Gamma(2.0, 3.0))

    def guide() -> None:
        shift = taut.param("shift", 0.0)
        for name, (_, q) in pairs.items():
            taut.sample(name, dist.Normal(0.3 + shift, 0.6) if name == "n" else q, allow="guide-fixed")
        with taut.plate("rows", 3):
            taut.sample("r", dist.Gamma(1.5, 2.0), allow="guide-fixed")

    problem = taut.Problem(model, precision="float64")
    bound = guides.bind(guide, problem)
    with scope("float64"):
        real = {"shift": jnp.zeros(())}
        weights = LogWeights(problem.program, bound, jax.random.key(0), problem.inputs, 3, True)
        found = np.asarray(weights(real, real, jnp.zeros(0)))
        slope = float(jax.grad(lambda p: jnp.mean(weights(p, p, jnp.zeros(0))))(real)["shift"])
        by_table = {("n", "n"), ("g", "g"), ("b", "b"), ("d", "d")}
        exact = -sum(float(dist.kl_divergence(pairs[n][1], pairs[n][0])) for n, _ in by_table)
        exact -= float(dist.kl_divergence(dist.Gamma(2.2, 1.3), dist.Gamma(1.0, 2.0)))
        exact -= 3 * float(dist.kl_divergence(dist.Gamma(1.5, 2.0), dist.Gamma(2.0, 3.0)))
    # NumPyro's table, in arrays that may be of single precision.
    np.testing.assert_allclose(found, exact, rtol=2e-6)
    np.testing.assert_allclose(found, found[0], rtol=1e-12)
    np.testing.assert_allclose(slope, (1.0 - 0.3) / 4, rtol=1e-9)


def test_noise_of_the_quadratic_control_is_measured():
    """A curved likelihood: most of the noise goes, none of the mean."""
    from taut.algorithms import gradient_draws

    def model(x: Any, y: Any) -> None:
        w = taut.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        with taut.plate("n", len(y)):
            taut.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    problem = taut.Problem(model, dict(x=x, y=(x[:, 0] > 0).astype(float)), precision="float64")
    params = {"loc": np.array([1.0, 0.0, 0.0]), "log_scale": np.full(3, -1.0)}
    found = [
        gradient_draws(problem, guides.MeanField(), SVI(gradient=g), params, np.zeros(0), 1024)
        for g in (gradients.Pathwise(), gradients.QuadraticControl())
    ]
    for name in params:
        plain, controlled = found[0][name], found[1][name]
        se = np.sqrt((plain.var(axis=0) + controlled.var(axis=0)) / 1024)
        assert np.all(np.abs(plain.mean(axis=0) - controlled.mean(axis=0)) < 5 * se)
        assert controlled.var(axis=0).sum() < 0.2 * plain.var(axis=0).sum()
