"""A Bernoulli density of 0.3 is no density: it does not integrate to one. Grey values have their own distribution."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    logit = taut.sample("logit", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Bernoulli(logits=logit), obs=y)


fit = taut.fit(model, dict(y=np.array([0.2, 0.7, 0.9])))


# right
def model(y):
    logit = taut.sample("logit", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Bernoulli(logits=logit), obs=y)


fit = taut.fit(model, dict(y=(np.array([0.2, 0.7, 0.9]) > 0.5).astype(int)))
