"""What is reported of a network does not depend on how its rows were cut into batches."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax

import taut
from taut import dist, nn
from taut.algorithms import SVI
from taut.objectives import ELBO, BatchELBO, Blundell, Uniform

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 3))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
MLP: Any = eqx.nn.MLP(3, 3, 5, 1, key=jax.random.key(0))
GUIDE = nn.MeanFieldNet(start=nn.AtModule("net", MLP), scale=0.05)


def model(x: Any, y: Any = None) -> None:
    # A scale mixture, whose KL term has no closed form, and a layer that is learned as a point beside it.
    net = nn.bayesian("net", MLP, prior={"layers[1].bias": None, "*": nn.ScaleMixture(0.5, 1.0, 0.05)})
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Categorical(logits=jax.vmap(net)(x)), obs=y)


def reported(data: Any, objective: Any) -> float:
    # The optimiser stands still: every fit is of the same q.
    svi = SVI(objective, optimizer=optax.set_to_zero(), steps=1)
    return taut.fit(model, data, guide=GUIDE, algorithm=svi, precision="float64", verify=False, draws=200).elbo


def test_one_q_has_one_elbo():
    whole = reported(dict(x=X, y=Y), ELBO())
    uneven = taut.data.Batches(dict(x=X, y=Y), size=7, plate="rows")
    halves = taut.data.Batches(dict(x=X, y=Y), size=50, plate="rows")
    # The same draws of the weights, and a sum over all rows: nothing is left to differ but rounding.
    for batches, objective in ((uneven, BatchELBO(Blundell(15))), (halves, BatchELBO(Uniform(2)))):
        np.testing.assert_allclose(reported(batches, objective), whole, rtol=1e-9)
