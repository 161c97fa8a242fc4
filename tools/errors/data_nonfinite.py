"""One NaN makes every density NaN. Leave the row out, or out of the density."""

import jax.numpy as jnp
import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, np.nan, 1.9])))


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)), taut.handlers.mask(mask=~jnp.isnan(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, np.nan, 1.9])))
