"""A model of params and observations alone has no posterior. What is unknown is a latent with a prior."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    mu = taut.param("mu", 0.0)
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))
