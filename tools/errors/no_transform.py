"""Latents are moved on the real line, so their values must be a smooth image of it."""

import taut
from taut import dist


# wrong
def model(y):
    x = taut.sample("x", dist.Delta(1.0))
    mu = taut.sample("mu", dist.Normal(x, 1.0))
    taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=2.0))


# right
def model(y):
    x = taut.deterministic("x", 1.0)
    mu = taut.sample("mu", dist.Normal(x, 1.0))
    taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=2.0))
