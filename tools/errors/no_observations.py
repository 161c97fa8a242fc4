"""Without an observed site the posterior is the prior; mostly the data were not passed."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y=None):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 3):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model)


# right
def model(y=None):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 3):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))
