"""The model runs once, so a running state inside of it would never move. What a result should show is a deterministic
site."""

import numpy as np

import taut
from taut import dist

# wrong
state = {"mean": 0.0}


def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    state["mean"] = 0.9 * state["mean"] + 0.1 * mu
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu - state["mean"], 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    taut.deterministic("centred", y - mu)
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))
