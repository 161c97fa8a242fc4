"""A primitive, a handler or an object was given what it does not take."""

import taut
from taut import dist


# wrong
def model(y):
    mu = taut.sample("mu", 0.0)
    taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=2.0))


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=2.0))
