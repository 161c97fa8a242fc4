"""The density is zero, or not a number, wherever a start was made: mostly an observation that the prior rules out."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    top = taut.sample("top", dist.Uniform(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Uniform(0.0, top), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))


# right
def model(y):
    top = taut.sample("top", dist.Uniform(2.0, 9.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Uniform(0.0, top), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))
