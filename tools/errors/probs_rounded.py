"""In double precision the sigmoid of 37 is 1: the density of a 0 is then minus infinity and its slope 0. Logits have no
such end."""

import jax
import numpy as np

import taut
from taut import dist


# wrong
def model(x, y):
    slope = taut.sample("slope", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Bernoulli(probs=jax.nn.sigmoid(slope * x)), obs=y)


fit = taut.fit(model, dict(x=np.array([-1.0, 0.5, 2.0]), y=np.array([0, 1, 1])))


# right
def model(x, y):
    slope = taut.sample("slope", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Bernoulli(logits=slope * x), obs=y)


fit = taut.fit(model, dict(x=np.array([-1.0, 0.5, 2.0]), y=np.array([0, 1, 1])))
