"""Inside of a plate the batch shape of a distribution must be that of the plate, or one that broadcasts to it."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with taut.plate("rows", 3):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with taut.plate("rows", 3):
        taut.sample("y", dist.Normal(mu.sum(), 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))
