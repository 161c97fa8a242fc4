"""taut.fit on batches: the evidence of all rows where latents are shared, the exact bound where rows have theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

import taut
from taut import dist
from taut._errors import TautError
from taut.data import Batches

N = 103
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 2))
Y = X @ np.array([1.0, -0.5]) + RNG.standard_normal(N)


def model(x: Any, y: Any) -> None:
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def rows(y: Any) -> None:
    with taut.plate("rows", len(y)):
        z = taut.sample("z", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)


class Tables:
    """A stream: nothing of it lies in memory as a whole."""

    def __init__(self, **columns: Any):
        self.columns = columns

    def __iter__(self) -> Any:
        for begin in range(0, N, 30):
            yield {name: value[begin : begin + 30] for name, value in self.columns.items()}


stats: Any = scipy.stats  # its stubs take frozen continuous distributions for discrete ones
EVIDENCE = float(stats.multivariate_normal(np.zeros(N), X @ X.T + np.eye(N)).logpdf(Y))


@pytest.mark.parametrize("data", [dict(x=X, y=Y), Tables(x=X, y=Y)], ids=["in memory", "a stream"])
def test_the_evidence_is_that_of_all_rows(data: Any):
    fit = taut.fit(model, Batches(data, size=10, plate="rows"), algorithm=taut.algorithms.SVI(steps=6400))
    assert abs(fit.log_evidence - EVIDENCE) < 0.01
    covariance = np.linalg.inv(np.eye(2) + X.T @ X)
    sd = np.sqrt(np.diag(covariance))
    # KL(q || p) is .002 nats: means within .1 sd, by Pinsker's inequality for Gaussians, sds within 5 %.
    assert np.all(np.abs(fit["w"].mean - covariance @ X.T @ Y) < 0.1 * sd)
    np.testing.assert_allclose(fit["w"].sd, sd, rtol=0.05)
    assert fit.facts["observations"] == str(N)


@pytest.mark.parametrize("data, level", [(dict(y=Y), "trusted"), (Tables(y=Y), "unverified")])
def test_latents_of_rows_are_weighed_together_where_they_are_few(data: Any, level: str):
    def encoder(p: Any, y: Any) -> Any:
        return p["a"] * y + p["b"], p["c"]

    guide = taut.guides.Amortised("rows", encoder, init=dict(a=0.0, b=0.0, c=0.0))
    fit = taut.fit(rows, Batches(data, size=10, plate="rows"), guide=guide)
    assert fit.verdict.level == level
    # The encoder can say the posterior of every row, so that the bound is the evidence.
    assert abs(fit.elbo - stats.norm(0.0, np.sqrt(2.0)).logpdf(Y).sum()) < 1e-3
    said = any("too many latents to be weighed together" in note for note in fit.verdict.notes)
    assert said == (level == "unverified")


def test_latents_of_rows_need_a_guide():
    with pytest.raises(TautError) as refused:
        taut.fit(rows, Batches(dict(y=Y), size=10, plate="rows"))
    assert refused.value.code == "guide-missing" and refused.value.site == "z" and "Amortised" in str(refused.value)


def test_an_algorithm_that_needs_all_rows_is_refused():
    with pytest.raises(TautError) as refused:
        taut.fit(model, Batches(dict(x=X, y=Y), size=10, plate="rows"), algorithm=taut.algorithms.Laplace())
    assert refused.value.code == "bad-combination" and "Laplace" in str(refused.value)
