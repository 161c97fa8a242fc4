"""A parameter that reaches neither a draw nor a density keeps its initial value, whatever the data say."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


def guide():
    loc = taut.param("loc", 0.0)
    taut.param("scale", 0.5, constraint=dist.constraints.positive)
    taut.sample("mu", dist.Normal(loc, 0.5))


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])), guide=guide)


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


def guide():
    loc = taut.param("loc", 0.0)
    scale = taut.param("scale", 0.5, constraint=dist.constraints.positive)
    taut.sample("mu", dist.Normal(loc, scale))


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])), guide=guide)
