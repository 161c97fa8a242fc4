"""A model that sees 100 rows at a time believes that there are 100 in all, and its posterior is far too wide. A plate
that draws its rows knows both numbers."""

import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


batches = np.random.default_rng(0).normal(1.0, 1.0, (10, 100))
svi, guide = taut.algorithms.SVI(), taut.guides.MeanField()
state = svi.init(taut.Problem(model, dict(y=batches[0])), guide, 0)
for y in batches:
    state, info = svi.step(taut.Problem(model, dict(y=y)), guide, state)


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y), subsample_size=100) as rows:
        taut.sample("y", dist.Normal(mu, 1.0), obs=y[rows])


y = np.random.default_rng(0).normal(1.0, 1.0, 1000)
fit = taut.fit(model, dict(y=y), guide=taut.guides.MeanField(), algorithm=taut.algorithms.SVI())
