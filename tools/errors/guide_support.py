"""A guide that may propose a negative scale has an ELBO of minus infinity."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    sigma = taut.sample("sigma", dist.HalfNormal(1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(0.0, sigma), obs=y)


def guide():
    loc = taut.param("loc", 0.0)
    scale = taut.param("scale", 1.0, constraint=dist.constraints.positive)
    taut.sample("sigma", dist.Normal(loc, scale))


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])), guide=guide)


# right
def model(y):
    sigma = taut.sample("sigma", dist.HalfNormal(1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(0.0, sigma), obs=y)


def guide():
    loc = taut.param("loc", 0.0)
    scale = taut.param("scale", 1.0, constraint=dist.constraints.positive)
    taut.sample("sigma", dist.LogNormal(loc, scale))


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])), guide=guide)
