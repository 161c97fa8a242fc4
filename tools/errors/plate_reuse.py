"""One name means the same rows everywhere."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    with taut.plate("rows", 2):
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 3):
        taut.sample("y", dist.Normal(mu.sum(), 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))


# right
def model(y):
    with taut.plate("groups", 2):
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 3):
        taut.sample("y", dist.Normal(mu.sum(), 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))
