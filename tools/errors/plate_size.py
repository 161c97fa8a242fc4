"""A plate is as long as an array, or as a whole number in the data; a number that is computed during the fit has no
length."""

import numpy as np

import taut
from taut import dist


# wrong
def model(n, y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", n):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(n=np.array(3.0), y=np.array([1.2, 0.7, 1.9])))


# right
def model(n, y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", n):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(n=3, y=np.array([1.2, 0.7, 1.9])))
