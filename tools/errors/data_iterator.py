"""An iterator is used up after one pass. Data are arrays."""

import taut
from taut import dist


# wrong
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=(v for v in [1.2, 0.7, 1.9])))


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=[1.2, 0.7, 1.9]))
