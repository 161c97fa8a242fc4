"""Shares of a KL term: they sum to one, and an epoch's losses to the negative ELBO, whatever the batches."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist, testing
from taut._precision import scope
from taut.algorithms import SVI, Run
from taut.guides import MeanField
from taut.objectives import ELBO, BatchELBO, Blundell, KLWeights, Uniform

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 3)), RNG.normal(size=24)


def model(x: Any, y: Any) -> None:
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Normal(x @ w, 0.5), obs=y)


@pytest.mark.parametrize("batches", [1, 2, 30, 127, 128, 129, 1000])
def test_blundells_weights_are_his(batches: int):
    weights = np.asarray(Blundell(batches).weights)
    # 2^(M - i) / (2^M - 1) in whole numbers of Python, which do not overflow.
    exact = [float(2 ** (batches - i)) / (2**batches - 1) if batches < 1000 else None for i in range(1, batches + 1)]
    if batches < 1000:
        np.testing.assert_allclose(weights, np.array(exact, float), rtol=1e-12)
    with scope("float32"):
        single = np.asarray(jnp.asarray(Blundell(batches).weights, jnp.float32))
        assert np.all(np.isfinite(single)) and abs(single.astype(float).sum() - 1.0) < 1e-6
        steps = BatchELBO(Blundell(batches)).kl_weight(jnp.arange(2 * batches))
        assert steps.dtype == jnp.float32 and np.all(np.isfinite(np.asarray(steps)))
        # On average over an epoch the KL term counts once.
        np.testing.assert_allclose(np.asarray(steps, float).mean(), 1.0, rtol=1e-5)
    assert abs(weights.sum() - 1.0) < 1e-12


@pytest.mark.parametrize("sizes", [(24,), (12, 12), (10, 10, 4), (1, 22, 1)])
@pytest.mark.parametrize("kind", [Uniform, Blundell])
def test_an_epoch_sums_to_the_negative_elbo(sizes: tuple[int, ...], kind: Any):
    problem = taut.Problem(model, dict(x=X, y=Y), precision="float64")
    z, loc, sd = RNG.normal(size=3), RNG.normal(size=3), np.full(3, 0.3)
    log_q = float(dist.Normal(loc, sd).log_prob(z).sum())
    whole = float(problem.log_joint({"w": z})) - log_q
    weights, edges = kind(len(sizes)), np.cumsum((0, *sizes))
    with scope("float64"):
        kl = log_q - float(dist.Normal(0.0, 1.0).log_prob(z).sum())
        total = sum(
            float(weights.loss(i, kl, dist.Normal(X[a:b] @ z, 0.5).log_prob(Y[a:b]).sum()))
            for i, (a, b) in enumerate(pairwise(edges))
        )
    np.testing.assert_allclose(total, -whole, rtol=1e-6)


def test_the_reported_elbo_does_not_depend_on_the_batches():
    # Two sizes of batches, two ways to share the KL term out: one posterior, one ELBO.
    rng = np.random.default_rng(3)
    x, y = np.repeat(X, 4, axis=0), np.repeat(Y, 4) + 0.1 * rng.normal(size=96)
    found = {}
    for size in (8, 32):
        for weights in (Uniform(96 // size), Blundell(96 // size)):

            def batches(x: Any, y: Any, size: int = size) -> None:
                w = taut.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
                with taut.plate("rows", len(x), subsample_size=size) as rows:
                    taut.sample("y", dist.Normal(x[rows] @ w, 0.5), obs=y[rows])

            svi = SVI(BatchELBO(weights), steps=6400)
            fit = taut.fit(batches, dict(x=x, y=y), guide=MeanField(), algorithm=svi, verify=False)
            found[size, type(weights).__name__] = fit.elbo
    best = taut.fit(model, dict(x=x, y=y), guide=MeanField(), verify=False).elbo
    # The iterates' noise costs about 0.01 nats with 8 rows of 96.
    assert all(abs(elbo - best) < 0.1 for elbo in found.values()), found


def test_a_batch_of_all_data_is_the_elbo():
    known = testing.conjugate_regression()
    one, plain = (
        Run()(SVI(objective, steps=800), known.problem(), MeanField(), 0)
        for objective in (BatchELBO(Uniform(1)), ELBO())
    )
    for name in plain.params:
        np.testing.assert_allclose(one.params[name], plain.params[name], rtol=1e-6, atol=1e-8)


def test_latents_of_rows_and_other_weights_are_refused():
    def local(y: Any) -> None:
        with taut.plate("rows", len(y), subsample_size=6) as rows:
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(z, 0.5), obs=y[rows])

    with pytest.raises(taut.TautError, match="belongs to their own batch"):
        taut.fit(local, dict(y=Y), guide=MeanField(), algorithm=SVI(BatchELBO(Blundell(4)), steps=10))
    with pytest.raises(taut.TautError, match=r"\[kl-weights\]"):
        BatchELBO([0.5, 0.5])  # type: ignore[arg-type]
    with pytest.raises(taut.TautError, match=r"sum to 1\.5"):
        KLWeights([0.5, 0.5, 0.5])
    for bad in (0, 2.5, True):
        with pytest.raises(taut.TautError, match=r"\[bad-argument\]"):
            Uniform(bad)  # type: ignore[arg-type]


def test_shares_may_be_traced():
    with scope("float64"):
        losses = jax.jit(jax.vmap(lambda i: Blundell(3).loss(i, 7.0, -1.0)))(jnp.arange(3))
        np.testing.assert_allclose(losses, np.array([4, 2, 1]) + 1.0, rtol=1e-12)


def test_weights_must_be_as_many_as_the_batches():
    batches = taut.data.Batches(dict(x=X, y=Y), size=10, plate="rows")
    with pytest.raises(taut.TautError, match=r"weights for 2 batches, and 3 batches in an epoch"):
        taut.fit(model, batches, guide=MeanField(), algorithm=SVI(BatchELBO(Blundell(2)), steps=10), verify=False)
