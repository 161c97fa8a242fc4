"""A value outside of its distribution's support has density zero at every parameter."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    rate = taut.sample("rate", dist.LogNormal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Exponential(rate), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, -0.7, 1.9])))


# right
def model(y):
    rate = taut.sample("rate", dist.LogNormal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Exponential(rate), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))
