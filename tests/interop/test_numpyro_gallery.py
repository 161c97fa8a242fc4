"""Models of the kinds in NumPyro's gallery, written with NumPyro's primitives and given to taut as they are.

The independent answers: NumPyro's own log density at random values of the latents, and for small models the posterior
by conjugacy or quadrature.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro as numpyro_typed
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
from numpyro import handlers
from numpyro.contrib.control_flow import cond, scan
from numpyro.infer.reparam import LocScaleReparam, TransformReparam
from numpyro.infer.util import log_density

import taut

special: Any = scipy.special
stats: Any = scipy.stats
numpyro: Any = numpyro_typed  # which calls whatever is sampled a number
Data = dict[str, Any]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def linear_regression(x, y=None):
    with numpyro.plate("features", x.shape[1]):
        w = numpyro.sample("w", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w, 0.7), obs=y)


def robust_regression(x, y=None):
    w = numpyro.sample("w", dist.Normal(jnp.zeros(x.shape[1]), jnp.ones(x.shape[1])))
    nu = numpyro.sample("nu", dist.Gamma(2.0, 0.1))
    scale = numpyro.sample("scale", dist.Exponential(1.0))
    numpyro.sample("y", dist.StudentT(nu, x @ w, scale), obs=y)


def subsampled_logistic(x, y=None, rows: int | None = 5):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
    with numpyro.plate("rows", len(x), subsample_size=rows):
        batch, labels = numpyro.subsample(x, event_dim=1), numpyro.subsample(y, event_dim=0)
        numpyro.sample("y", dist.Bernoulli(logits=batch @ w), obs=labels)


def baseball(at_bats, hits=None):
    m = numpyro.sample("m", dist.Uniform(0.0, 1.0))
    kappa = numpyro.sample("kappa", dist.Pareto(1.0, 1.5))
    with numpyro.plate("players", at_bats.shape[0]):
        phi = numpyro.sample("phi", dist.Beta(m * kappa, (1 - m) * kappa))
        numpyro.sample("hits", dist.Binomial(at_bats, probs=phi), obs=hits)


def baseball_with_logits(at_bats, hits=None):
    loc = numpyro.sample("loc", dist.Normal(-1.0, 1.0))
    scale = numpyro.sample("scale", dist.HalfCauchy(1.0))
    with numpyro.plate("players", at_bats.shape[0]), handlers.reparam(config={"alpha": LocScaleReparam(0)}):
        alpha = numpyro.sample("alpha", dist.Normal(loc, scale))
        numpyro.sample("hits", dist.Binomial(at_bats, logits=alpha), obs=hits)


def ucb_admissions(dept, male, applications, admitted=None):
    v_mu = numpyro.sample("v_mu", dist.Normal(0, jnp.array([4.0, 1.0])))
    sigma = numpyro.sample("sigma", dist.HalfNormal(jnp.ones(2)))
    rho = numpyro.sample("L_Rho", dist.LKJCholesky(2, concentration=2))
    tril = sigma[..., jnp.newaxis] * rho
    v = numpyro.sample("v", dist.MultivariateNormal(v_mu, scale_tril=tril).expand([3]))
    numpyro.sample("admit", dist.Binomial(applications, logits=v[dept, 0] + v[dept, 1] * male), obs=admitted)


def stochastic_volatility(returns):
    size = numpyro.sample("sigma", dist.Exponential(50.0))
    s = numpyro.sample("s", dist.GaussianRandomWalk(scale=size, num_steps=len(returns)))
    nu = numpyro.sample("nu", dist.Exponential(0.1))
    numpyro.sample("r", dist.StudentT(df=nu, loc=0.0, scale=jnp.exp(s)), obs=returns)


def horseshoe(x, y=None):
    lambdas = numpyro.sample("lambdas", dist.HalfCauchy(jnp.ones(x.shape[1])))
    tau = numpyro.sample("tau", dist.HalfCauchy(jnp.ones(1)))
    unscaled = numpyro.sample("unscaled_betas", dist.Normal(0.0, jnp.ones(x.shape[1])))
    betas = numpyro.deterministic("betas", tau * lambdas * unscaled)
    prec = numpyro.sample("prec_obs", dist.Gamma(3.0, 1.0))
    numpyro.sample("y", dist.Normal(x @ betas, 1.0 / jnp.sqrt(prec)), obs=y)


def hmm(words):
    """Two hidden states, summed out by the forward algorithm."""
    with numpyro.plate("states", 2):
        stay = numpyro.sample("stay", dist.Beta(2.0, 2.0))
    transition = jnp.stack([jnp.stack([stay[0], 1 - stay[0]]), jnp.stack([1 - stay[1], stay[1]])])
    emission = jnp.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])

    def step(alpha, word):
        return jax.nn.logsumexp(alpha[:, None] + jnp.log(transition), axis=0) + jnp.log(emission[:, word]), None

    first = jnp.log(0.5) + jnp.log(emission[:, words[0]])
    last, _ = jax.lax.scan(step, first, words[1:])
    numpyro.factor("forward", jax.nn.logsumexp(last))


def holt_winters(y, n_seasons, future=0):
    """Level, trend and seasons smoothed along the series; values beyond the data are drawn."""
    n = y.shape[0]
    level_sm = numpyro.sample("level_sm", dist.Beta(1, 1))
    trend_sm = numpyro.sample("trend_sm", dist.Beta(1, 1))
    season_sm = numpyro.sample("season_sm", dist.Beta(1, 1))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    level = numpyro.sample("level_init", dist.Normal(0, 1))
    trend = numpyro.sample("trend_init", dist.Normal(0, 1))
    with numpyro.plate("n_seasons", n_seasons):
        season = numpyro.sample("season_init", dist.Normal(0, 1))

    def transition(carry, t):
        level, trend, season = carry
        # Beyond the data the state moves on without smoothing.
        smooth = jnp.where(t < n, 1.0, 0.0)
        mu = level + trend + season[0]
        value = numpyro.sample("y", dist.Normal(mu, noise))
        new_level = level + trend + smooth * level_sm * (value - mu)
        new_trend = trend + smooth * trend_sm * (new_level - level - trend)
        new_season = season[0] + smooth * season_sm * (value - mu)
        return (new_level, new_trend, jnp.append(season[1:], new_season)), value

    with handlers.condition(data={"y": y}):
        _, values = scan(transition, (level, trend, season), jnp.arange(n + future))
    if future > 0:
        numpyro.deterministic("y_forecast", values[-future:])


def ar2(y):
    coefficients = numpyro.sample("alpha", dist.Normal(jnp.zeros(2), 1.0))
    const = numpyro.sample("const", dist.Normal(0.0, 1.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))

    def transition(carry, _):
        before, last = carry
        value = numpyro.sample("y", dist.Normal(const + coefficients[0] * last + coefficients[1] * before, sigma))
        return (last, value), None

    with handlers.condition(data={"y": y[2:]}):
        scan(transition, (y[0], y[1]), None, length=len(y) - 2)


def var1(y):
    size = y.shape[1]
    phi = numpyro.sample("phi", dist.Normal(jnp.zeros((size, size)), 0.5).to_event(2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0).expand([size]).to_event(1))
    rho = numpyro.sample("rho", dist.LKJCholesky(size, concentration=1.0))
    tril = sigma[..., None] * rho

    def transition(last, now):
        value = numpyro.sample("y", dist.MultivariateNormal(loc=phi @ last, scale_tril=tril), obs=now)
        return value, value

    scan(transition, y[0], y[1:])


def gaussian_process(x, y=None):
    var = numpyro.sample("kernel_var", dist.LogNormal(0.0, 1.0))
    noise = numpyro.sample("kernel_noise", dist.LogNormal(0.0, 1.0))
    length = numpyro.sample("kernel_length", dist.LogNormal(0.0, 1.0))
    kernel = var * jnp.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + noise * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), covariance_matrix=kernel), obs=y)


def ordinal(x, n_classes, y=None):
    with handlers.reparam(config={"c": TransformReparam()}):
        c = numpyro.sample(
            "c",
            dist.TransformedDistribution(
                dist.Dirichlet(jnp.ones(n_classes)), dist.transforms.SimplexToOrderedTransform(0.0)
            ),
        )
    b = numpyro.sample("b", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.OrderedLogistic(x * b, c), obs=y)


def mixture(y):
    weight = numpyro.sample("weight", dist.Beta(2.0, 2.0))
    gap = numpyro.sample("gap", dist.HalfNormal(3.0))
    mixing = dist.Categorical(probs=jnp.stack([weight, 1 - weight]))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.MixtureSameFamily(mixing, dist.Normal(jnp.stack([0.0 * gap, gap]), 1.0)), obs=y)


def capture_recapture(captured):
    """Cormack-Jolly-Seber with the animals' deaths summed out, from each one's first capture on."""
    survive = numpyro.sample("phi", dist.Uniform(0.0, 1.0))
    caught = numpyro.sample("rho", dist.Uniform(0.0, 1.0))

    def step(carry, now):
        alive, dead, seen = carry
        stays = alive * survive
        new_alive = stays * jnp.where(now == 1, caught, 1 - caught)
        new_dead = jnp.where(now == 1, 0.0, dead + alive * (1 - survive))
        return (jnp.where(seen, new_alive, alive), jnp.where(seen, new_dead, dead), seen | (now == 1)), None

    animals = captured.shape[0]
    start = jnp.ones(animals) + 0.0 * survive, jnp.zeros(animals) + 0.0 * survive, captured[:, 0] == 1
    (alive, dead, _), _ = jax.lax.scan(step, start, captured.T[1:])
    with numpyro.plate("animals", animals):
        numpyro.factor("histories", jnp.log(alive + dead))


def zero_inflated(y):
    gate = numpyro.sample("gate", dist.Beta(1.0, 1.0))
    rate = numpyro.sample("rate", dist.Gamma(2.0, 0.5))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.ZeroInflatedPoisson(gate, rate), obs=y)


def hierarchical_forecasting(y):
    """Local levels of several series, each a latent of a scan with a plate inside."""
    steps, series = y.shape
    drift_scale = numpyro.sample("drift_scale", dist.HalfNormal(0.5))
    with numpyro.plate("series", series):
        noise = numpyro.sample("noise", dist.LogNormal(-1.0, 0.3))
        start = numpyro.sample("start", dist.Normal(0.0, 1.0))

    def transition(level, now):
        with numpyro.plate("series", series):
            drift = numpyro.sample("drift", dist.Normal(0.0, drift_scale))
            level = numpyro.deterministic("level", level + drift)
            numpyro.sample("y", dist.Normal(level, noise), obs=now)
        return level, None

    scan(transition, start, y, length=steps)


def kalman(y):
    def transition(last, now):
        x = numpyro.sample("x", dist.Normal(0.9 * last, 0.5))
        numpyro.sample("y", dist.Normal(x, 0.5), obs=now)
        return x, x

    scan(transition, 0.0, y)


def funnel(y):
    v = numpyro.sample("v", dist.Normal(0.0, 1.5))
    with handlers.reparam(config={"z": LocScaleReparam()}), numpyro.plate("rows", len(y)):
        z = numpyro.sample("z", dist.Normal(0.0, jnp.exp(v / 2)))
        numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def bnn(x, y=None, hidden=3):
    w1 = numpyro.sample("w1", dist.Normal(jnp.zeros((x.shape[1], hidden)), jnp.ones((x.shape[1], hidden))))
    w2 = numpyro.sample("w2", dist.Normal(jnp.zeros((hidden, 1)), jnp.ones((hidden, 1))))
    prec = numpyro.sample("prec_obs", dist.Gamma(3.0, 1.0))
    z = jnp.tanh(x @ w1) @ w2
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("Y", dist.Normal(z, 1.0 / jnp.sqrt(prec)).to_event(1), obs=y)


def missing_covariates(age, fare, survived=None):
    mu = numpyro.sample("age_mu", dist.Normal(0, 1))
    sigma = numpyro.sample("age_sigma", dist.HalfNormal(1))
    b = numpyro.sample("b", dist.Normal(jnp.zeros(2), 1.0))
    with numpyro.plate("rows", len(age)):
        known = ~jnp.isnan(age)
        full = numpyro.sample("age", dist.Normal(mu, sigma), obs=age, obs_mask=known)
        numpyro.sample("survived", dist.Bernoulli(logits=b[0] * full + b[1] * fare), obs=survived)


def censored_survival(time, event):
    shape = numpyro.sample("shape", dist.Gamma(2.0, 1.0))
    scale = numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with numpyro.plate("subjects", len(time)):
        with handlers.mask(mask=event):
            numpyro.sample("death", dist.Weibull(scale, shape), obs=time)
        with handlers.mask(mask=~event):
            numpyro.factor("alive", -((time / scale) ** shape))


def topics(counts):
    """Documents as mixtures of two topics, with their words' labels summed out."""
    documents, words = counts.shape
    with numpyro.plate("topics", 2, dim=-2):
        topic = numpyro.sample("topic", dist.Dirichlet(jnp.ones(words)))
    with numpyro.plate("documents", documents, dim=-1):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.ones(2)))
        total = jnp.sum(counts, axis=-1)
        numpyro.sample("words", dist.Multinomial(total, probs=theta @ topic[:, 0], total_count_max=20), obs=counts)


def switching(y, late):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    level = cond(
        late > 2,
        lambda m: numpyro.sample("level", dist.Normal(m + 1.0, 0.5)),
        lambda m: numpyro.sample("level", dist.Normal(m, 2.0)),
        slope,
    )
    numpyro.sample("y", dist.Normal(level, 1.0), obs=y)


def tempered_grid(y):
    with handlers.scale(scale=0.5):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0), sample_shape=(2,))
    with numpyro.plate("columns", 3, dim=-1), numpyro.plate("rows", 2, dim=-2) as i:
        z = numpyro.sample("z", dist.Gamma(2.0, 1.0))
        with numpyro.plate("repeats", 4, dim=-3):
            numpyro.sample("y", dist.Normal(z + mu[i][:, None], 1.0), obs=y)


X, N = rng(0).normal(size=(10, 2)), 10
COUNTS = rng(1).multinomial(20, [0.3, 0.3, 0.2, 0.2], size=4)
WALK = 0.3 * rng(2).normal(size=12).cumsum()
HISTORIES = (rng(3).uniform(size=(12, 5)) < np.array([0.9, 0.6, 0.5, 0.3, 0.2])).astype(int)
ZEROS = rng(4).poisson(3.0, size=20) * (rng(5).uniform(size=20) < 0.6)
WORDS = np.array([0, 0, 1, 0, 2, 2, 1, 2, 0, 0])
AT_BATS, HITS = np.full(5, 45), np.array([18, 15, 11, 10, 7])
TWO = np.concatenate([rng(6).normal(size=8), 4.0 + rng(7).normal(size=6)])

GALLERY: list[tuple[Callable[..., Any], Data]] = [
    (linear_regression, dict(x=X, y=X @ [1.0, -1.0] + rng(8).normal(size=N))),
    (robust_regression, dict(x=X, y=rng(9).normal(size=N))),
    (subsampled_logistic, dict(x=X, y=(rng(10).uniform(size=N) < 0.5).astype(int))),
    (baseball, dict(at_bats=AT_BATS, hits=HITS)),
    (baseball_with_logits, dict(at_bats=AT_BATS, hits=HITS)),
    (
        ucb_admissions,
        dict(
            dept=np.array([0, 0, 1, 1, 2, 2]),
            male=np.array([1, 0, 1, 0, 1, 0]),
            applications=np.array([80, 20, 50, 10, 30, 60]),
            admitted=np.array([50, 15, 30, 7, 10, 20]),
        ),
    ),
    (stochastic_volatility, dict(returns=0.02 * rng(11).normal(size=8))),
    (horseshoe, dict(x=rng(12).normal(size=(N, 4)), y=rng(13).normal(size=N))),
    (hmm, dict(words=WORDS)),
    (holt_winters, dict(y=WALK, n_seasons=3)),
    (ar2, dict(y=WALK)),
    (var1, dict(y=rng(14).normal(size=(7, 2)))),
    (gaussian_process, dict(x=X[:, 0], y=np.sin(X[:, 0]))),
    (ordinal, dict(x=X[:, 0], n_classes=3, y=rng(15).integers(0, 3, size=N))),
    (mixture, dict(y=TWO)),
    (capture_recapture, dict(captured=HISTORIES)),
    (zero_inflated, dict(y=ZEROS)),
    (hierarchical_forecasting, dict(y=rng(16).normal(size=(5, 3)))),
    (kalman, dict(y=WALK)),
    (funnel, dict(y=rng(17).normal(size=3))),
    (bnn, dict(x=X, y=X[:, :1] ** 2)),
    (
        missing_covariates,
        dict(
            age=np.where(np.arange(N) % 4 == 1, np.nan, X[:, 0]),
            fare=X[:, 1],
            survived=(rng(18).uniform(size=N) < 0.5).astype(int),
        ),
    ),
    (censored_survival, dict(time=rng(19).weibull(1.5, size=N), event=np.arange(N) % 3 != 0)),
    (topics, dict(counts=COUNTS)),
    (switching, dict(y=WALK, late=3.0)),
    (tempered_grid, dict(y=rng(20).normal(size=(4, 2, 3)))),
]


# Taut opens plates whole; NumPyro would draw five of these rows.
WHOLE = {subsampled_logistic: functools.partial(subsampled_logistic, rows=None)}


def numpyros_densities(model: Callable[..., Any], data: Mapping[str, Any], values: Mapping[str, Any]) -> np.ndarray:
    """NumPyro's log joint at rows of values of latents and parameters."""
    fixed = {n: v for n, v in data.items() if not isinstance(v, np.ndarray)}

    def one(arrays: Any, point: Any) -> Any:
        return log_density(handlers.seed(model, rng_seed=0), (), {**arrays, **fixed}, point)[0]

    with jax.enable_x64(True):
        arrays = {n: v for n, v in data.items() if n not in fixed}
        return np.asarray(jax.jit(jax.vmap(one, (None, 0)))(arrays, dict(values)))


@pytest.mark.parametrize(("model", "data"), GALLERY, ids=[model.__name__ for model, _ in GALLERY])
def test_the_log_joint_is_numpyros(model: Callable[..., Any], data: Data):
    problem = taut.Problem(model, data)
    values = problem.constrain(0.7 * rng(100).normal(size=(3, problem.dim + problem.num_params)))
    values = {name: values[name] for name in problem.layout}
    expected = numpyros_densities(WHOLE.get(model, model), data, values)
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(problem.log_joint))(values)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-9, atol=1e-6)


class Answer(dict[str, tuple[Any, Any]]):
    """Posterior mean and standard deviation by latent, and the log evidence."""

    def __init__(self, log_evidence: float, moments: Mapping[str, tuple[Any, Any]]):
        super().__init__(moments)
        self.log_evidence = log_evidence


def by_quadrature(log_p: Callable[..., Any], **grids: np.ndarray) -> Answer:
    """Moments by the midpoint rule on a grid of two latents, given as equally spaced midpoints."""
    (one, a), (two, b) = grids.items()
    cells = np.array([[log_p(x, y) for y in b] for x in a])
    cell = np.log((a[1] - a[0]) * (b[1] - b[0]))
    total = special.logsumexp(cells) + cell
    weights = np.exp(cells + cell - total)
    moments = {}
    for name, grid, axis in ((one, a, 1), (two, b, 0)):
        p = weights.sum(axis)
        mean = p @ grid
        moments[name] = (mean, np.sqrt(p @ (grid - mean) ** 2))
    return Answer(float(total), moments)


def midpoints(low: float, high: float, n: int) -> np.ndarray:
    return low + (np.arange(n) + 0.5) * (high - low) / n


def regression_answer(x: np.ndarray, y: np.ndarray) -> Answer:
    covariance = np.linalg.inv(x.T @ x / 0.49 + np.eye(2) / 4)
    mean = covariance @ x.T @ y / 0.49
    evidence = stats.multivariate_normal(np.zeros(N), 4 * x @ x.T + 0.49 * np.eye(N)).logpdf(y)
    return Answer(float(evidence), {"w": (mean, np.sqrt(np.diag(covariance)))})


def kalman_answer(y: np.ndarray) -> Answer:
    """The same model as one Gaussian: x = A^-1 noise, y = x + noise."""
    chain = np.linalg.inv(np.eye(len(y)) - 0.9 * np.eye(len(y), k=-1))
    prior = 0.25 * chain @ chain.T
    gain = prior @ np.linalg.inv(prior + 0.25 * np.eye(len(y)))
    evidence = stats.multivariate_normal(np.zeros(len(y)), prior + 0.25 * np.eye(len(y))).logpdf(y)
    return Answer(float(evidence), {"x": (gain @ y, np.sqrt(np.diag(prior - gain @ prior)))})


def mixture_answer(y: np.ndarray) -> Answer:
    def log_p(weight: float, gap: float) -> float:
        rows = weight * stats.norm.pdf(y) + (1 - weight) * stats.norm.pdf(y - gap)
        return stats.beta.logpdf(weight, 2, 2) + stats.halfnorm.logpdf(gap, scale=3) + np.log(rows).sum()

    return by_quadrature(log_p, weight=midpoints(0, 1, 60), gap=midpoints(1.0, 8.0, 70))


def zero_inflated_answer(y: np.ndarray) -> Answer:
    def log_p(gate: float, rate: float) -> float:
        rows = gate * (y == 0) + (1 - gate) * stats.poisson.pmf(y, rate)
        return stats.gamma.logpdf(rate, 2, scale=2) + np.log(rows).sum()

    return by_quadrature(log_p, gate=midpoints(0, 1, 60), rate=midpoints(0.3, 9.0, 70))


def hmm_answer(words: np.ndarray) -> Answer:
    """Every path of hidden states is summed by itself."""
    paths = (np.arange(2 ** len(words))[:, None] >> np.arange(len(words))) & 1
    emission = np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])
    seen = np.log(emission[paths, words]).sum(1)
    stays = [((paths[:, :-1] == s) & (paths[:, 1:] == s)).sum(1) for s in (0, 1)]
    leaves = [((paths[:, :-1] == s) & (paths[:, 1:] != s)).sum(1) for s in (0, 1)]

    def log_p(p: float, q: float) -> float:
        moves = sum(a * np.log(r) + b * np.log(1 - r) for a, b, r in zip(stays, leaves, (p, q), strict=True))
        prior = stats.beta.logpdf(p, 2, 2) + stats.beta.logpdf(q, 2, 2)
        return float(prior + special.logsumexp(seen + moves) + np.log(0.5))

    found = by_quadrature(log_p, p=midpoints(0, 1, 40), q=midpoints(0, 1, 40))
    return Answer(
        found.log_evidence,
        {"stay": (np.array([found["p"][0], found["q"][0]]), np.array([found["p"][1], found["q"][1]]))},
    )


def capture_recapture_answer(captured: np.ndarray) -> Answer:
    """Each history is caught or missed up to its last capture; then chi, the probability of not being seen again."""
    years = captured.shape[1]
    animals = [np.flatnonzero(history) for history in captured if history.any()]

    def log_p(phi: float, rho: float) -> float:
        unseen = [1.0]
        for _ in range(years):
            unseen.append(1 - phi + phi * (1 - rho) * unseen[-1])
        terms = [
            (s[-1] - s[0]) * np.log(phi)
            + (len(s) - 1) * np.log(rho)
            + (s[-1] - s[0] + 1 - len(s)) * np.log(1 - rho)
            + np.log(unseen[years - 1 - s[-1]])
            for s in animals
        ]
        return float(sum(terms))

    return by_quadrature(log_p, phi=midpoints(0, 1, 60), rho=midpoints(0, 1, 60))


ANSWERS: list[tuple[Callable[..., Any], Callable[..., Answer]]] = [
    (linear_regression, regression_answer),
    (kalman, kalman_answer),
    (mixture, mixture_answer),
    (zero_inflated, zero_inflated_answer),
    (hmm, hmm_answer),
    (capture_recapture, capture_recapture_answer),
]


@pytest.mark.parametrize(("model", "answer"), ANSWERS, ids=[model.__name__ for model, _ in ANSWERS])
def test_the_fit_is_the_exact_posterior(model: Callable[..., Any], answer: Callable[..., Answer]):
    data = dict(GALLERY)[model]
    exact, fit = answer(**data), taut.fit(model, data)
    assert fit.verdict.level != "not trusted"
    # 16,000 draws: 4.5 standard errors of a mean, and of a standard deviation with tails as heavy as a gamma's.
    for name, (mean, sd) in exact.items():
        np.testing.assert_allclose((fit[name].mean - mean) / sd, 0.0, atol=0.036)
        np.testing.assert_allclose(fit[name].sd / sd, 1.0, atol=0.03)
    se = fit.numbers["log evidence"][1] or 0.0
    assert abs(fit.log_evidence - exact.log_evidence) < 5 * se + 1e-6
