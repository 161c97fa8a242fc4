"""A fit holds the draws that its verdict covers, and makes up no others."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))

draws = fit.draws(1_000_000)


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))

draws = fit.draws(5_000)
