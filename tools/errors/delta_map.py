"""A Delta fed by a draw has a density: that of the draw, times the map's volume. `taut.transformed` counts it."""

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
    scale = taut.param("scale", 1.0, constraint=dist.constraints.positive)
    u = taut.sample("u", dist.Normal(0.0, 1.0), auxiliary=True)
    taut.sample("mu", dist.Delta(loc + scale * u))


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])), guide=guide)


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


def guide():
    loc = taut.param("loc", 0.0)
    scale = taut.param("scale", 1.0, constraint=dist.constraints.positive)
    u = taut.sample("u", dist.Normal(0.0, 1.0), auxiliary=True)
    taut.transformed("mu", loc + scale * u)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])), guide=guide)
