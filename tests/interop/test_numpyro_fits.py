"""Models of NumPyro's gallery fitted and compared with answers of their own: closed forms, sums and grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro as numpyro_typed
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.contrib.module import random_eqx_module
from numpyro.distributions.util import clamp_probs

import taut

special: Any = scipy.special
stats: Any = scipy.stats
numpyro: Any = numpyro_typed  # which calls whatever is sampled a number


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


class Answer(dict[str, tuple[Any, Any]]):
    """Posterior mean and standard deviation by site, and the log evidence."""

    def __init__(self, log_evidence: float, moments: Mapping[str, tuple[Any, Any]]):
        super().__init__(moments)
        self.log_evidence = log_evidence


def midpoints(low: float, high: float, n: int) -> np.ndarray:
    return low + (np.arange(n) + 0.5) * (high - low) / n


def on_grid(log_p: Callable[..., Any], also: Mapping[str, Callable[..., Any]] | None = None, **axes: Any) -> Answer:
    """Moments by the midpoint rule over up to three latents.

    Args:
        log_p: of arrays of shape ``(points,)``, log densities ``(points,)``.
        also: further functions of the latents, ``(points, ...)``.
        axes: equally spaced midpoints by latent.
    """
    grid = dict(zip(axes, (a.ravel() for a in np.meshgrid(*axes.values(), indexing="ij")), strict=True))
    cells = log_p(**grid) + np.log(np.prod([a[1] - a[0] for a in axes.values()]))
    total = special.logsumexp(cells)
    weights = np.exp(cells - total)
    moments = {}
    for name, value in {**grid, **{n: f(**grid) for n, f in (also or {}).items()}}.items():
        mean = np.tensordot(weights, value, 1)
        moments[name] = (mean, np.sqrt(np.tensordot(weights, (value - mean) ** 2, 1)))
    return Answer(float(total), moments)


def of_gaussians(names: Mapping[str, Any], prior: np.ndarray, design: np.ndarray, noise: Any, y: np.ndarray) -> Answer:
    """The posterior of latents with mean 0, observed as ``y = design @ latents + noise``."""
    marginal = design @ prior @ design.T + np.diag(np.broadcast_to(noise, len(y)) ** 2)
    gain = prior @ design.T @ np.linalg.inv(marginal)
    mean, sd = gain @ y, np.sqrt(np.diag(prior - gain @ design @ prior))
    evidence = stats.multivariate_normal(np.zeros(len(y)), marginal).logpdf(y)
    return Answer(float(evidence), {n: (mean[part], sd[part]) for n, part in names.items()})


def admissions(male, applied, admitted):
    a = numpyro.sample("a", dist.Normal(0.0, 1.5))
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    with numpyro.plate("departments", len(male)):
        numpyro.sample("admitted", dist.Binomial(applied, logits=a + b * male), obs=admitted)


def admissions_answer(male, applied, admitted):
    def log_p(a, b):
        p = special.expit(a[:, None] + b[:, None] * male)
        rows = stats.binom.logpmf(admitted, applied, p).sum(1)
        return rows + stats.norm.logpdf(a, scale=1.5) + stats.norm.logpdf(b)

    return on_grid(log_p, a=midpoints(-3, 2, 200), b=midpoints(-2, 3, 200))


def stochastic_volatility(returns):
    step = numpyro.sample("step", dist.LogNormal(-0.5, 0.5))
    s = numpyro.sample("s", dist.GaussianRandomWalk(scale=step, num_steps=len(returns)))
    numpyro.sample("returns", dist.StudentT(df=5.0, loc=0.0, scale=jnp.exp(s)), obs=returns)


def stochastic_volatility_answer(returns):
    def log_p(step, one, two):
        walk = stats.norm.logpdf(one) + stats.norm.logpdf(two)
        seen = [stats.t(5, scale=np.exp(s)).logpdf(r) for s, r in zip((step * one, step * (one + two)), returns)]
        return walk + sum(seen) + stats.lognorm.logpdf(step, 0.5, scale=np.exp(-0.5))

    grid = dict(step=midpoints(0.05, 4, 100), one=midpoints(-5, 5, 70), two=midpoints(-5, 5, 70))
    found = on_grid(log_p, {"s": lambda step, one, two: np.stack([step * one, step * (one + two)], 1)}, **grid)
    del found["one"], found["two"]
    return found


def smoothing(y):
    """Exponential smoothing: Holt and Winters without a season."""
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 0.5))

    def step(level, _):
        seen = numpyro.sample("y", dist.Normal(level, noise))
        return share * seen + (1 - share) * level, level

    with handlers.condition(data={"y": y}):
        scan(step, jnp.zeros((), jnp.float32), None, length=len(y))


def smoothing_answer(y):
    def log_p(share, noise):
        level, total = 0.0, stats.beta.logpdf(share, 2, 2) + stats.lognorm.logpdf(noise, 0.5, scale=np.exp(-1))
        for now in y:
            total = total + stats.norm.logpdf(now, level, noise)
            level = share * now + (1 - share) * level
        return total

    return on_grid(log_p, share=midpoints(0, 1, 200), noise=midpoints(0.02, 1.5, 200))


def autoregression(y):
    phi = numpyro.sample("phi", dist.Normal(0.0, 0.5).expand([2]).to_event(1))

    def step(carry, now):
        mean = phi[0] * carry[0] + phi[1] * carry[1]
        numpyro.sample("y", dist.Normal(mean, 0.4), obs=now)
        return jnp.stack([now, carry[0]]), None

    scan(step, jnp.array([y[1], y[0]]), y[2:])


def autoregression_answer(y):
    design = np.stack([y[1:-1], y[:-2]], 1)
    return of_gaussians({"phi": slice(0, 2)}, 0.25 * np.eye(2), design, 0.4, y[2:])


def vector_autoregression(y):
    with numpyro.plate_stack("coefficients", [2, 2]):
        weights = numpyro.sample("weights", dist.Normal(0.0, 0.5))
    with numpyro.plate("times", len(y) - 1):
        numpyro.sample("y", dist.MultivariateNormal(y[:-1] @ weights.T, 0.09 * jnp.eye(2)), obs=y[1:])


def vector_autoregression_answer(y):
    design = np.einsum("ti,ok->toki", y[:-1], np.eye(2)).reshape(-1, 4)
    found = of_gaussians({"weights": slice(0, 4)}, 0.25 * np.eye(4), design, 0.3, y[1:].ravel())
    found["weights"] = tuple(part.reshape(2, 2) for part in found["weights"])
    return found


def gaussian_process(x, y):
    length = numpyro.sample("length", dist.InverseGamma(5.0, 5.0))
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 0.5))
    k = jnp.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + noise**2 * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(0.0, scale_tril=jnp.linalg.cholesky(k)), obs=y)


def gaussian_process_answer(x, y):
    def log_p(length, noise):
        squares = (x[:, None] - x) ** 2
        k = np.exp(-0.5 * squares / length[:, None, None] ** 2) + noise[:, None, None] ** 2 * np.eye(len(x))
        _, volume = np.linalg.slogdet(k)
        fit = (np.linalg.solve(k, np.broadcast_to(y, (len(k), len(y)))[..., None])[..., 0] * y).sum(1)
        prior = stats.invgamma.logpdf(length, 5, scale=5) + stats.lognorm.logpdf(noise, 0.5, scale=np.exp(-1))
        return prior - 0.5 * (fit + volume + len(y) * np.log(2 * np.pi))

    return on_grid(log_p, length=midpoints(0.05, 8, 150), noise=midpoints(0.02, 1.5, 100))


def ordinal(x, y):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    ordered = dist.TransformedDistribution(
        dist.Dirichlet(jnp.ones(3)), dist.transforms.SimplexToOrderedTransform(anchor_point=0.0)
    )
    c = numpyro.sample("c", ordered)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.OrderedLogistic(b * x, c), obs=y)


def ordinal_answer(x, y):
    """In the shares at the anchor, p = (p1, p2, p3): uniform on the simplex."""

    def log_p(p, q, b):
        inside = p + q < 1
        low, high = special.logit(p), special.logit(np.where(inside, p + q, 0.5))
        edges = np.stack([special.expit(c[:, None] - b[:, None] * x) for c in (low, high)])
        bounds = np.concatenate([np.zeros_like(edges[:1]), edges, np.ones_like(edges[:1])])
        rows = (bounds[1:] - bounds[:-1])[y, :, np.arange(len(y))]
        return np.where(inside, np.log(2) + stats.norm.logpdf(b) + np.log(np.maximum(rows, 1e-300)).sum(0), -np.inf)

    found = on_grid(log_p, p=midpoints(0, 1, 80), q=midpoints(0, 1, 80), b=midpoints(-3, 4, 60))
    del found["p"], found["q"]
    return found


def forecasting(y):
    """Levels of several series that walk around a common drift."""
    drift = numpyro.sample("drift", dist.Normal(0.0, 0.5))
    n = y.shape[1]

    def step(level, now):
        with numpyro.plate("series", n):
            level = numpyro.sample("level", dist.Normal(level + drift, 0.3))
            numpyro.sample("y", dist.Normal(level, 0.5), obs=now)
        return level, None

    scan(step, jnp.zeros(n), y)


def forecasting_answer(y):
    times, n = y.shape
    sums = np.tril(np.ones((times, times)))
    # Latents: the drift, then the levels, which are a time's worth of drift each and a walk.
    rise = np.repeat(np.arange(1, times + 1.0), n)
    walk = 0.09 * np.kron(sums @ sums.T, np.eye(n))
    prior = np.block(
        [[np.array([[0.25]]), 0.25 * rise[None]], [0.25 * rise[:, None], walk + 0.25 * np.outer(rise, rise)]]
    )
    design = np.concatenate([np.zeros((times * n, 1)), np.eye(times * n)], 1)
    found = of_gaussians({"drift": 0, "level": slice(1, None)}, prior, design, 0.5, y.ravel())
    found["level"] = tuple(part.reshape(y.shape) for part in found["level"])
    return found


def survival(time, event):
    shape = numpyro.sample("shape", dist.Gamma(4.0, 4.0))
    scale = numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with numpyro.plate("patients", len(time)):
        family = dist.Weibull(scale, shape)
        with handlers.mask(mask=event):
            numpyro.sample("died", family, obs=time)
        numpyro.factor("alive", jnp.where(event, 0.0, -((time / scale) ** shape)))


def survival_answer(time, event):
    def log_p(shape, scale):
        z = time / scale[:, None]
        k = shape[:, None]
        rows = np.where(event, np.log(k / scale[:, None]) + (k - 1) * np.log(z), 0.0) - z**k
        return rows.sum(1) + stats.gamma.logpdf(shape, 4, scale=0.25) + stats.lognorm.logpdf(scale, 1.0)

    return on_grid(log_p, shape=midpoints(0.01, 5, 200), scale=midpoints(0.05, 8, 300))


def bayesian_module(x, y):
    """A layer of Equinox whose weights have priors."""
    net = random_eqx_module("net", eqx.nn.Linear(2, 1, key=jax.random.key(0)), prior=dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(jax.vmap(net)(x)[..., 0], 0.6), obs=y)


def bayesian_module_answer(x, y):
    design = np.concatenate([x, np.ones((len(x), 1))], 1)
    found = of_gaussians({"net/weight": slice(0, 2), "net/bias": slice(2, 3)}, np.eye(3), design, 0.6, y)
    found["net/weight"] = tuple(part[None] for part in found["net/weight"])
    return found


def change_point(counts):
    """Coal mining: a rate before and a rate after a year that is summed out."""
    with numpyro.plate("eras", 2):
        rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    year = numpyro.sample("year", dist.DiscreteUniform(0, len(counts) - 1), infer={"enumerate": "parallel"})
    numpyro.sample("counts", dist.Poisson(jnp.where(jnp.arange(len(counts)) < year, rate[0], rate[1])), obs=counts)


def change_point_answer(counts):
    """For each year the rates are two gammas; the posterior is their mixture."""
    n, parts = len(counts), []
    for year in range(n):
        sums = np.array([counts[:year].sum(), counts[year:].sum()])
        rates = np.array([year, n - year]) + 1.0
        log_z = (special.gammaln(2 + sums) - (2 + sums) * np.log(rates)).sum() - special.gammaln(counts + 1).sum()
        parts.append((log_z - np.log(n), (2 + sums) / rates, (2 + sums) / rates**2))
    logs, means, variances = (np.array(column) for column in zip(*parts, strict=True))
    total = special.logsumexp(logs)
    weights = np.exp(logs - total)[:, None]
    mean = (weights * means).sum(0)
    return Answer(float(total), {"rate": (mean, np.sqrt((weights * (variances + means**2)).sum(0) - mean**2))})


def cormack_jolly_seber(captured):
    """Capture and recapture with states, alive or not, that are summed out."""
    phi = numpyro.sample("phi", dist.Uniform(0.0, 1.0))
    rho = numpyro.sample("rho", dist.Uniform(0.0, 1.0))

    def step(carry, now):
        seen, alive = carry
        with numpyro.plate("animals", captured.shape[0], dim=-1), handlers.mask(mask=seen):
            p = clamp_probs(jnp.where(seen, phi * alive, 1.0))
            alive = numpyro.sample("alive", dist.Bernoulli(p), infer={"enumerate": "parallel"})
            numpyro.sample("captured", dist.Bernoulli(clamp_probs(rho * alive)), obs=now)
        return (seen | now.astype(bool), alive), None

    start = captured[:, 0].astype(bool), jnp.ones(captured.shape[0], dtype=jnp.int32)
    scan(step, start, jnp.swapaxes(captured[:, 1:], 0, 1))


def cormack_jolly_seber_answer(captured):
    """All animals are marked in the first year; then every life is summed by itself."""
    years = captured.shape[1] - 1

    def log_p(phi, rho):
        total = np.zeros_like(phi)
        for history in captured:
            lives = 0.0
            for last in range(history[1:].nonzero()[0].max(initial=-1) + 1, years + 1):
                caught = history[1 : last + 1].sum()
                death = 1.0 if last == years else 1 - phi
                lives = lives + phi**last * death * rho**caught * (1 - rho) ** (last - caught)
            total = total + np.log(lives)
        return total

    return on_grid(log_p, phi=midpoints(0, 1, 150), rho=midpoints(0, 1, 150))


X, WALK = rng(0).normal(size=(12, 2)), 0.3 * rng(1).normal(size=14).cumsum()
LIVES = np.concatenate([np.ones((12, 1), int), (rng(2).uniform(size=(12, 3)) < [0.6, 0.4, 0.2]).astype(int)], 1)

FITS: list[tuple[Callable[..., Any], Callable[..., Answer], dict[str, Any]]] = [
    (
        admissions,
        admissions_answer,
        dict(
            male=np.array([1.0, 0.0, 1.0, 0.0]), applied=np.array([40, 12, 25, 30]), admitted=np.array([25, 4, 13, 9])
        ),
    ),
    (stochastic_volatility, stochastic_volatility_answer, dict(returns=np.array([0.4, -2.1]))),
    (smoothing, smoothing_answer, dict(y=WALK)),
    (autoregression, autoregression_answer, dict(y=WALK)),
    (vector_autoregression, vector_autoregression_answer, dict(y=rng(3).normal(size=(8, 2)))),
    (gaussian_process, gaussian_process_answer, dict(x=X[:, 0], y=np.sin(X[:, 0]) + 0.2 * X[:, 1])),
    (ordinal, ordinal_answer, dict(x=X[:, 0], y=np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.8]))),
    (forecasting, forecasting_answer, dict(y=np.arange(4.0)[:, None] * 0.3 + rng(4).normal(size=(4, 3)))),
    (survival, survival_answer, dict(time=rng(5).weibull(1.5, size=15), event=np.arange(15) % 3 != 0)),
    (bayesian_module, bayesian_module_answer, dict(x=X, y=X @ [1.0, -0.5] + rng(6).normal(size=12))),
    (change_point, change_point_answer, dict(counts=np.array([4, 5, 3, 6, 4, 1, 0, 2, 1, 1]))),
    (cormack_jolly_seber, cormack_jolly_seber_answer, dict(captured=LIVES)),
]


SLOW = {cormack_jolly_seber}
CASES = [pytest.param(*c, id=c[0].__name__, marks=[pytest.mark.slow] if c[0] in SLOW else []) for c in FITS]


@pytest.mark.parametrize(("model", "answer", "data"), CASES)
def test_the_fit_is_the_exact_posterior(model: Callable[..., Any], answer: Callable[..., Answer], data: dict[str, Any]):
    exact, fit = answer(**data), taut.fit(model, data)
    assert fit.verdict.level != "not trusted"
    # 16,000 draws: 4.5 standard errors of a mean, and of a standard deviation with tails as heavy as a gamma's; where
    # draws are weighted or moved, their errors are those of a third as many.
    wider = 1.0 if fit.verdict.level == "trusted" else 3.0**0.5
    for name, (mean, sd) in exact.items():
        np.testing.assert_allclose((fit[name].mean - mean) / sd, 0.0, atol=0.036 * wider, err_msg=name)
        np.testing.assert_allclose(fit[name].sd / sd, 1.0, atol=0.03 * wider, err_msg=name)
    se = fit.numbers["log evidence"][1] or 0.0
    assert abs(fit.log_evidence - exact.log_evidence) < 5 * se + 1e-6
