"""Data that reach no observed site teach nothing; mostly an `obs=` was forgotten."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y, labels):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9]), labels=np.array([0.0, 1.0, 0.0])))


# right
def model(y, labels):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)
        taut.sample("labels", dist.Normal(mu, 1.0), obs=labels)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9]), labels=np.array([0.0, 1.0, 0.0])))
