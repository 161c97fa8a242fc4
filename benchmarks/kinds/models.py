"""One model of each kind, with data made from known values. The programs are stated as a textbook states them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

import taut
from taut import dist


class Kind(NamedTuple):
    """A model and its data."""

    model: Callable[..., None]
    data: Mapping[str, Any]


def _ordered(scale: float, n: int) -> Any:
    base = dist.Normal(0, scale).expand([n]).to_event(1)
    return dist.TransformedDistribution(base, dist.transforms.OrderedTransform())


def stochastic_volatility(r: Any) -> None:
    """Log volatility follows an autoregression, stated centred, step by step along the whole path."""
    mu = taut.sample("mu", dist.Cauchy(0, 10))
    phi = taut.sample("phi", dist.Uniform(-1, 1))
    sigma = taut.sample("sigma", dist.HalfCauchy(5))
    steps = len(r)
    z = taut.sample("z", dist.Normal(0, 1).expand([steps]).to_event(1))

    def follow(h: Any, e: Any) -> tuple[Any, Any]:
        h = mu + phi * (h - mu) + sigma * e
        return h, h

    first = mu + sigma / jnp.sqrt(1 - phi**2) * z[0]
    _, rest = jax.lax.scan(follow, first, z[1:])
    h = taut.deterministic("h", jnp.concatenate([first[None], rest]))
    with taut.plate("day", steps):
        taut.sample("r", dist.Normal(0, jnp.exp(h / 2)), obs=r)


def item_response(person: Any, item: Any, persons: int, items: int, right: Any) -> None:
    """Two parameters per item, ability per person."""
    mu = taut.sample("mu", dist.Cauchy(0, 5))
    sigma = taut.sample("sigma", dist.HalfCauchy(5))
    with taut.plate("person", persons):
        theta = taut.sample("theta", dist.Normal(0, 1))
    with taut.plate("item", items):
        a = taut.sample("a", dist.LogNormal(0, 0.5))
        b = taut.sample("b", dist.Normal(mu, sigma))
    with taut.plate("answer", len(right)):
        taut.sample("right", dist.Bernoulli(logits=a[item] * (theta[person] - b[item])), obs=right)


def garch(y: Any, sigma1: float) -> None:
    """GARCH(1, 1): the last bound depends on another latent."""
    mu = taut.sample("mu", dist.Normal(0, 10))
    alpha0 = taut.sample("alpha0", dist.HalfNormal(5))
    alpha1 = taut.sample("alpha1", dist.Uniform(0, 1))
    beta1 = taut.sample("beta1", dist.Uniform(0, 1 - alpha1))

    def follow(variance: Any, before: Any) -> tuple[Any, Any]:
        variance = alpha0 + alpha1 * (before - mu) ** 2 + beta1 * variance
        return variance, variance

    _, rest = jax.lax.scan(follow, sigma1**2, y[:-1])
    scale = jnp.sqrt(jnp.concatenate([jnp.array([sigma1**2]), rest]))
    with taut.plate("step", len(y)):
        taut.sample("y", dist.Normal(mu, scale), obs=y)


def growth(y: Any, age: Any) -> None:
    """A line for each animal: two hierarchies, flat priors on their means, vague ones on their variances."""
    mu_a = taut.sample("mu_a", dist.Normal(0, 100))
    mu_b = taut.sample("mu_b", dist.Normal(0, 100))
    sigma_y = taut.sample("sigma_y", dist.HalfCauchy(10))
    sigma_a = taut.sample("sigma_a", dist.HalfCauchy(10))
    sigma_b = taut.sample("sigma_b", dist.HalfCauchy(10))
    with taut.plate("animal", y.shape[0]):
        alpha = taut.sample("alpha", dist.Normal(mu_a, sigma_a))
        beta = taut.sample("beta", dist.Normal(mu_b, sigma_b))
    with taut.plate("animal_", y.shape[0], dim=-2), taut.plate("week", y.shape[1], dim=-1):
        taut.sample("y", dist.Normal(alpha[:, None] + beta[:, None] * (age - age.mean()), sigma_y), obs=y)


def sites_and_years(site: Any, year: Any, sites: int, years: int, count: Any) -> None:
    """Counts with two crossed random effects."""
    alpha = taut.sample("alpha", dist.Normal(0, 10))
    sd_site = taut.sample("sd_site", dist.Uniform(0, 5))
    sd_year = taut.sample("sd_year", dist.Uniform(0, 5))
    with taut.plate("site", sites):
        a = taut.sample("a", dist.Normal(0, sd_site))
    with taut.plate("year", years):
        e = taut.sample("e", dist.Normal(0, sd_year))
    with taut.plate("count_", len(count)):
        taut.sample("count", dist.Poisson(jnp.exp(alpha + a[site] + e[year])), obs=count)


def learning(before_right: Any, before_wrong: Any, right: Any) -> None:
    """Chance of failing falls with past trials of both sorts."""
    beta = taut.sample("beta", dist.Normal(0, 100).expand([3]).to_event(1))
    with taut.plate("trial", len(right)):
        logits = beta[0] + beta[1] * before_right + beta[2] * before_wrong
        taut.sample("right", dist.Bernoulli(logits=logits), obs=right)


def overdispersed(x: Any, y: Any) -> None:
    """Negative-binomial regression."""
    beta = taut.sample("beta", dist.Normal(0, 2).expand([x.shape[1]]).to_event(1))
    shape = taut.sample("shape", dist.HalfCauchy(5))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.NegativeBinomial2(jnp.exp(x @ beta), shape), obs=y)


def ordinal(x: Any, y: Any) -> None:
    """Ordered categories between cut points."""
    slope = taut.sample("slope", dist.Normal(0, 2))
    cut = taut.sample(
        "cut",
        dist.TransformedDistribution(dist.Normal(0, 3).expand([3]).to_event(1), dist.transforms.OrderedTransform()),
    )
    with taut.plate("row", len(y)):
        taut.sample("y", dist.OrderedLogistic(slope * x, cut), obs=y)


def horseshoe(x: Any, y: Any) -> None:
    """Sparse regression: a global and many local half-Cauchy scales, multiplied by hand."""
    tau = taut.sample("tau", dist.HalfCauchy(0.1))
    sigma = taut.sample("sigma", dist.HalfNormal(2))
    k = x.shape[1]
    lam = taut.sample("lam", dist.HalfCauchy(1).expand([k]).to_event(1))
    z = taut.sample("z", dist.Normal(0, 1).expand([k]).to_event(1))
    beta = taut.deterministic("beta", z * lam * tau)
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def process(x: Any, y: Any) -> None:
    """A Gaussian process with three unknown scales."""
    rho = taut.sample("rho", dist.InverseGamma(5, 5))
    alpha = taut.sample("alpha", dist.HalfNormal(1))
    sigma = taut.sample("sigma", dist.HalfNormal(1))
    gap = (x[:, None] - x[None]) / rho
    k = alpha**2 * jnp.exp(-0.5 * gap**2) + (sigma**2 + 1e-8) * jnp.eye(len(x))
    taut.sample("y", dist.MultivariateNormal(0.0, covariance_matrix=k), obs=y)


def compartment(t: Any, y: Any) -> None:
    """Elimination after a dose, absorbed at first order."""
    ka = taut.sample("ka", dist.LogNormal(0.5, 0.5))
    ke = taut.sample("ke", dist.LogNormal(-2, 0.5))
    volume = taut.sample("volume", dist.LogNormal(1.5, 0.5))
    sigma = taut.sample("sigma", dist.HalfNormal(0.5))
    level = 30 / volume * ka / (ka - ke) * (jnp.exp(-ke * t) - jnp.exp(-ka * t))
    with taut.plate("sample_", len(y)):
        taut.sample("y", dist.LogNormal(jnp.log(level), sigma), obs=y)


def hidden_markov(y: Any) -> None:
    """Two states summed out by the forward recursion; ordered means break the symmetry."""
    stay = taut.sample("stay", dist.Beta(8, 2).expand([2]).to_event(1))
    mean = taut.sample(
        "mean",
        dist.TransformedDistribution(dist.Normal(0, 5).expand([2]).to_event(1), dist.transforms.OrderedTransform()),
    )
    sigma = taut.sample("sigma", dist.HalfNormal(2))
    step = jnp.log(jnp.array([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]]))
    emitted = dist.Normal(mean, sigma).log_prob(y[:, None])

    def forward(a: Any, e: Any) -> tuple[Any, None]:
        return logsumexp(a[:, None] + step, axis=0) + e, None

    last, _ = jax.lax.scan(forward, jnp.log(jnp.array([0.5, 0.5])) + emitted[0], emitted[1:])
    taut.factor("states", logsumexp(last))


def robust(x: Any, y: Any) -> None:
    """Regression with Student-t errors of unknown degrees of freedom."""
    beta = taut.sample("beta", dist.Normal(0, 5).expand([x.shape[1]]).to_event(1))
    nu = taut.sample("nu", dist.Gamma(2, 0.1))
    sigma = taut.sample("sigma", dist.HalfCauchy(2))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.StudentT(nu, x @ beta, sigma), obs=y)


def rates(n: Any, k: Any) -> None:
    """Beta-binomial hierarchy, stated with each group's own rate."""
    mean = taut.sample("mean", dist.Beta(1, 1))
    size = taut.sample("size", dist.HalfCauchy(10))
    with taut.plate("group", len(n)):
        p = taut.sample("p", dist.Beta(mean * size, (1 - mean) * size))
        taut.sample("k", dist.Binomial(n, probs=p), obs=k)


def zeros(x: Any, y: Any) -> None:
    """Zero-inflated counts."""
    gate = taut.sample("gate", dist.Beta(1, 1))
    beta = taut.sample("beta", dist.Normal(0, 2).expand([2]).to_event(1))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.ZeroInflatedPoisson(gate, jnp.exp(beta[0] + beta[1] * x)), obs=y)


def survey(state: Any, group: Any, states: int, groups: int, female: Any, yes: Any) -> None:
    """Votes by state and group: crossed intercepts."""
    beta = taut.sample("beta", dist.Normal(0, 2).expand([2]).to_event(1))
    sd_state = taut.sample("sd_state", dist.HalfNormal(2))
    sd_group = taut.sample("sd_group", dist.HalfNormal(2))
    with taut.plate("state", states):
        a = taut.sample("a", dist.Normal(0, sd_state))
    with taut.plate("group", groups):
        b = taut.sample("b", dist.Normal(0, sd_group))
    with taut.plate("voter", len(yes)):
        taut.sample("yes", dist.Bernoulli(logits=beta[0] + beta[1] * female + a[state] + b[group]), obs=yes)


def two_normals(y: Any) -> None:
    """A mixture with ordered means and unequal widths."""
    share = taut.sample("share", dist.Beta(5, 5))
    mean = taut.sample(
        "mean",
        dist.TransformedDistribution(dist.Normal(0, 2).expand([2]).to_event(1), dist.transforms.OrderedTransform()),
    )
    sd = taut.sample("sd", dist.HalfNormal(2).expand([2]).to_event(1))
    with taut.plate("row", len(y)):
        parts = dist.Normal(mean, sd)
        taut.sample("y", dist.MixtureSameFamily(dist.Categorical(probs=jnp.stack([share, 1 - share])), parts), obs=y)


def trend(y: Any) -> None:
    """A local level seen through noise, stated as a walk: every step is a latent."""
    sd_level = taut.sample("sd_level", dist.HalfNormal(1))
    sd_noise = taut.sample("sd_noise", dist.HalfNormal(1))
    steps = len(y)
    level = taut.sample("level", dist.GaussianRandomWalk(sd_level, num_steps=steps))
    with taut.plate("time", steps):
        taut.sample("y", dist.Normal(level, sd_noise), obs=y)


def softly_scaled(y: Any, noise: Any) -> None:
    """A hierarchy of positive rates: log-normal about a common level, so no site is of location and scale."""
    level = taut.sample("level", dist.Normal(0, 1))
    spread = taut.sample("spread", dist.HalfNormal(1))
    with taut.plate("unit", len(y)):
        rate = taut.sample("rate", dist.LogNormal(level, spread))
        taut.sample("y", dist.Normal(rate, noise), obs=y)


def kinds() -> dict[str, Kind]:
    """Every kind by name."""
    g = np.random.default_rng
    found: dict[str, Kind] = {}

    rng, h, r = g(1), -1.0, []
    for _ in range(120):
        h = -1.0 + 0.95 * (h + 1.0) + 0.3 * rng.normal()
        r.append(np.exp(h / 2) * rng.normal())
    found["stochastic volatility"] = Kind(stochastic_volatility, dict(r=np.array(r)))

    rng, persons, items = g(2), 40, 12
    theta, a, b = rng.normal(size=persons), np.exp(0.4 * rng.normal(size=items)), rng.normal(size=items)
    person, item = (m.ravel() for m in np.meshgrid(range(persons), range(items), indexing="ij"))
    right = (rng.uniform(size=len(person)) < 1 / (1 + np.exp(-a[item] * (theta[person] - b[item])))).astype(int)
    data = dict(person=person, item=item, persons=persons, items=items, right=right)
    found["item response"] = Kind(item_response, data)

    rng, variance, y = g(3), 1.0, []
    for _ in range(200):
        y.append(1.0 + np.sqrt(variance) * rng.normal())
        variance = 0.3 + 0.4 * (y[-1] - 1.0) ** 2 + 0.3 * variance
    found["garch"] = Kind(garch, dict(y=np.array(y), sigma1=1.0))

    rng, age = g(4), np.array([8.0, 15, 22, 29, 36])
    lines = 240 + 15 * rng.normal(size=(30, 1)) + (6 + 0.5 * rng.normal(size=(30, 1))) * (age - age.mean())
    found["growth curves"] = Kind(growth, dict(y=lines + 6 * rng.normal(size=lines.shape), age=age))

    rng, sites, years = g(5), 20, 9
    site, year = (m.ravel() for m in np.meshgrid(range(sites), range(years), indexing="ij"))
    rate = np.exp(1 + 0.7 * rng.normal(size=sites)[site] + 0.3 * rng.normal(size=years)[year])
    data = dict(site=site, year=year, sites=sites, years=years, count=rng.poisson(rate))
    found["sites and years"] = Kind(sites_and_years, data)

    rng, rows = g(6), []
    for _ in range(20):
        good = bad = 0
        for _ in range(15):
            hit = int(rng.uniform() < 1 / (1 + np.exp(1.5 - 0.4 * good - 0.15 * bad)))
            rows.append((good, bad, hit))
            good, bad = good + hit, bad + 1 - hit
    good, bad, hit = np.array(rows).T
    found["learning"] = Kind(learning, dict(before_right=good.astype(float), before_wrong=bad.astype(float), right=hit))

    rng = g(7)
    x = np.column_stack([np.ones(80), rng.normal(size=(80, 2))])
    mean = np.exp(x @ [1.0, 0.5, -0.3])
    found["overdispersed counts"] = Kind(overdispersed, dict(x=x, y=rng.poisson(mean * rng.gamma(2.0, 0.5, 80))))

    rng = g(8)
    x = rng.normal(size=100)
    found["ordinal"] = Kind(ordinal, dict(x=x, y=np.digitize(1.2 * x + rng.logistic(size=100), [-1.5, 0.0, 2.0])))

    rng = g(9)
    x = rng.normal(size=(60, 12))
    found["horseshoe"] = Kind(horseshoe, dict(x=x, y=x[:, 0] * 2 - x[:, 1] + rng.normal(size=60)))

    rng = g(10)
    x = np.sort(rng.uniform(0, 8, 30))
    found["gaussian process"] = Kind(process, dict(x=x, y=np.sin(x) + 0.3 * rng.normal(size=30)))

    rng, t = g(11), np.array([0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24])
    level = 30 / 5 * 1.5 / (1.5 - 0.15) * (np.exp(-0.15 * t) - np.exp(-1.5 * t))
    found["compartment"] = Kind(compartment, dict(t=t, y=level * np.exp(0.15 * rng.normal(size=len(t)))))

    rng, state, y = g(12), 0, []
    for _ in range(100):
        state = state if rng.uniform() < 0.85 else 1 - state
        y.append([-1.0, 2.0][state] + 0.8 * rng.normal())
    found["hidden markov"] = Kind(hidden_markov, dict(y=np.array(y)))

    rng = g(13)
    x = np.column_stack([np.ones(50), rng.normal(size=50)])
    found["robust regression"] = Kind(robust, dict(x=x, y=x @ [1.0, 2.0] + rng.standard_t(3, size=50)))

    rng, n = g(14), np.random.default_rng(15).integers(10, 50, 25)
    found["rates"] = Kind(rates, dict(n=n, k=rng.binomial(n, rng.beta(4, 16, 25))))

    rng = g(16)
    x = rng.normal(size=120)
    found["zero inflation"] = Kind(
        zeros, dict(x=x, y=rng.poisson(np.exp(0.8 + 0.4 * x)) * (rng.uniform(size=120) > 0.3))
    )

    rng, states, groups = g(17), 30, 8
    state, group, female = rng.integers(0, states, 600), rng.integers(0, groups, 600), rng.integers(0, 2, 600)
    logits = 0.2 - 0.3 * female + 0.5 * rng.normal(size=states)[state] + 0.3 * rng.normal(size=groups)[group]
    yes = (rng.uniform(size=600) < 1 / (1 + np.exp(-logits))).astype(int)
    data = dict(state=state, group=group, states=states, groups=groups, female=female.astype(float), yes=yes)
    found["survey"] = Kind(survey, data)

    rng = g(18)
    y = np.where(rng.uniform(size=150) < 0.4, rng.normal(-2, 0.7, 150), rng.normal(2, 1.2, 150))
    found["two normals"] = Kind(two_normals, dict(y=y))

    rng = g(19)
    found["local level"] = Kind(trend, dict(y=np.cumsum(0.4 * rng.normal(size=50)) + 0.7 * rng.normal(size=50)))

    rng = g(20)
    y = np.exp(0.3 + 0.4 * rng.normal(size=15)) + 0.5 * rng.normal(size=15)
    found["log-normal hierarchy"] = Kind(softly_scaled, dict(y=y, noise=0.5))
    return found
