"""Fits by families other than Gaussians: verified by particles, kept without model, rows followed, starts of parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist, guides
from taut._errors import TautError
from taut.algorithms import SVI

N = 12
Y = np.random.default_rng(0).normal(1.0, 1.5, N)


def rows(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 2.0))
    with taut.plate("rows", N, subsample_size=4) as chosen:
        z = taut.sample("z", dist.Normal(mu, 1.0))
        taut.sample("y", dist.Normal(z, 0.8), obs=y[chosen])


def ellipse(y: Any) -> None:
    a = taut.sample("a", dist.Normal(0.0, 1.0))
    b = taut.sample("b", dist.Normal(0.0, 1.0))
    s = taut.sample("s", dist.Gamma(3.0, 2.0))
    taut.sample("y", dist.Normal(a + b, 0.5), obs=y)
    taut.sample("t", dist.Poisson(s), obs=4)


def answer(y: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a and b."""
    cov = np.linalg.inv(np.eye(2) + 4.0 * np.ones((2, 2)))
    return cov @ np.full(2, 4.0 * y), cov


FAMILIES = {
    "SiteFamilies": guides.SiteFamilies(),
    "Combine": guides.Combine({"s": guides.SiteFamilies({"s": "gamma"})}, default=guides.MeanField()),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_independent_families_are_corrected_by_particles(name: str):
    mean, cov = answer(2.0)
    fit = taut.fit(ellipse, dict(y=2.0), guide=FAMILIES[name])
    # q cannot lie along the ridge: its sd is 1 / sqrt(5), that of the posterior 1.49 times as large.
    assert fit.verdict.level == "trusted after correction"
    assert abs(float(fit.guide.marginal("a").sd) * np.sqrt(5.0) - 1) < 0.06
    for k, site in enumerate("ab"):
        # 1024 moved particles: a standard error of 1/32 of the sd at most, for the sd 1/45.
        sd = np.sqrt(cov[k, k])
        assert abs(float(fit[site].mean) - mean[k]) < 4 / 32 * sd
        assert abs(float(fit[site].sd) / sd - 1) < 4 / 45
    # Gamma(3 + 4, 2 + 1), a member of both.
    assert abs(float(fit.guide.marginal("s").mean) - 7 / 3) < 4 * np.sqrt(7) / 3 / np.sqrt(16_000) + 0.03
    assert abs(float(fit["s"].sd) - np.sqrt(7) / 3) < 0.1


def test_a_family_that_is_the_posterior_is_trusted_as_it_stands():
    def model(n: Any) -> None:
        p = taut.sample("p", dist.Dirichlet(jnp.array([2.0, 1.0, 1.5])))
        taut.sample("n", dist.Multinomial(40, p), obs=n)

    fit = taut.fit(model, dict(n=np.array([20, 5, 15])), guide=guides.SiteFamilies())
    after = np.array([22.0, 6.0, 16.5])
    assert fit.verdict.level == "trusted" and fit.numbers["KL"][0] < 1e-3
    np.testing.assert_allclose(fit.params["p.concentration"].value, after, rtol=0.02)


@pytest.mark.parametrize("guide", [guides.Structured(), guides.FullRank(centredness=0.0), FAMILIES["Combine"]])
def test_a_loaded_guide_tells_marginals_without_its_model(guide: guides.Guide, tmp_path: Path):
    def model(y: Any) -> None:
        a = taut.sample("a", dist.Normal(0.0, 1.0))
        s = taut.sample("s", dist.HalfNormal(1.0))
        b = taut.sample("b", dist.Normal(a, s))
        taut.sample("y", dist.Normal(b, 0.5), obs=y)

    problem = taut.Problem(model, dict(y=1.0))
    q = taut.fit(model, dict(y=1.0), guide=guide, algorithm=SVI(steps=200), verify=False).guide
    loaded = taut.load_guide(q.save(tmp_path / "q.guide"))
    for site in "asb":
        assert loaded.marginal(site).mean == q.marginal(site).mean
    np.testing.assert_array_equal(loaded.corr(["a", "s", "b"]), q.corr(["a", "s", "b"]))
    there = loaded.on(problem)
    np.testing.assert_array_equal(there.draws(5)["b"], q.draws(5)["b"])
    assert there.log_prob(q.sample()) == q.log_prob(q.sample())


def local(name: str) -> guides.Guide:
    return {
        "StudentT": guides.StudentT(df=50.0),
        "SiteFamilies": guides.SiteFamilies(),
        "Combine": guides.Combine({"mu": guides.FullRank()}, default=guides.MeanField()),
    }[name]


@pytest.mark.parametrize("name", ["StudentT", "SiteFamilies", "Combine"])
def test_latents_of_rows_that_change(name: str):
    fit = taut.fit(rows, dict(y=Y), guide=local(name), algorithm=SVI(steps=6400), verify=False)
    # The best independent normals have the posterior's means, and as variances the inverse of its precision's diagonal.
    precision = np.diag(np.full(N + 1, 1 + 1 / 0.64))
    precision[0, 0] = 0.25 + N
    precision[0, 1:] = precision[1:, 0] = -1.0
    mean = np.linalg.solve(precision, np.concatenate([[0.0], Y / 0.64]))
    sd = 1 / np.sqrt(np.diag(precision))
    for site, part in (("mu", 0), ("z", slice(1, None))):
        # A run stops 0.01 nats short, which is a shift of 0.14 sd of one latent.
        assert np.all(np.abs(fit[site].mean - mean[part]) < 0.2 * sd[part])
        assert np.all(np.abs(np.log(fit[site].sd / sd[part])) < 0.15)


def test_what_is_refused_says_why():
    with pytest.raises(TautError, match="written down for all rows together"):
        taut.fit(rows, dict(y=Y), guide=guides.Structured(), algorithm=SVI())
    with pytest.raises(TautError, match="by itself"):
        taut.fit(rows, dict(y=Y), guide=guides.Combine({}, default=guides.FullRank()), algorithm=SVI())
    with pytest.raises(TautError, match="knows nothing of the model's density"):
        taut.fit(ellipse, dict(y=2.0), guide=guides.Combine({"a": guides.DAIS(2)}, default=guides.MeanField()))


def test_parts_and_flows_begin_where_their_starts_say():
    problem = taut.Problem(ellipse, dict(y=2.0))
    for start, b in ((guides.At({"b": 3.0}), 3.0), (guides.Mode(), answer(2.0)[0][1])):
        guide = guides.Combine(
            {"b": guides.MeanField(start=start), "s": guides.SiteFamilies(start=start)}, guides.Flow()
        )
        found = guides.bind(guide, problem).init(problem, 0)
        assert found["b.loc"][0] == pytest.approx(b, abs=1e-3)
    for family in (guides.DAIS(2, start=guides.At({"s": 2.0})), guides.Flow(start=guides.At({"s": 2.0}))):
        assert family.init(problem, 0)["loc"][2] == pytest.approx(np.log(2.0))
