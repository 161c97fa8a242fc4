"""Gradients cannot move a coin. Sum it out in the model, or draw it in a guide of your own, which is then fitted by its
score."""

import taut
from taut import dist


# wrong
def model(y):
    z = taut.sample("z", dist.Bernoulli(0.5))
    taut.sample("y", dist.Normal(z, 1.0), obs=y)


fit = taut.fit(model, dict(y=2.0))


# right
def model(y):
    z = taut.sample("z", dist.Bernoulli(0.5))
    taut.sample("y", dist.Normal(z, 1.0), obs=y)


def guide():
    p = taut.param("p", 0.5, constraint=dist.constraints.unit_interval)
    taut.sample("z", dist.Bernoulli(p))


fit = taut.fit(model, dict(y=2.0), guide=guide)
