"""Arrays hold numbers, in rows of one length. Categories are numbered first."""

import numpy as np

import taut
from taut import dist


# wrong
def model(group, y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu[group], 1.0), obs=y)


fit = taut.fit(model, dict(group=["a", "b", "a"], y=np.array([1.2, 0.7, 1.9])))


# right
def model(group, y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu[group], 1.0), obs=y)


labels, group = np.unique(["a", "b", "a"], return_inverse=True)
fit = taut.fit(model, dict(group=group, y=np.array([1.2, 0.7, 1.9])))
