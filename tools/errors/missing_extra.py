"""What few people need is an optional package, installed by its name."""

import sys

import numpy as np

import taut
from taut import dist

# wrong
sys.modules["arviz_base"] = None  # as if it were not installed


def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))

tree = fit.to_arviz()


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))

tree = fit.to_arviz()
