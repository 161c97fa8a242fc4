"""The body of a loop or a vmap is one statement to Python and many to the program. A plate draws all rows at once."""

import jax
import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    def one(row):
        return taut.sample("z", dist.Normal(0.0, 1.0)) + row

    z = jax.vmap(one)(y)
    taut.sample("total", dist.Normal(z.sum(), 1.0), obs=1.0)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))


# right
def model(y):
    with taut.plate("rows", len(y)):
        z = taut.sample("z", dist.Normal(0.0, 1.0)) + y
    taut.sample("total", dist.Normal(z.sum(), 1.0), obs=1.0)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))
