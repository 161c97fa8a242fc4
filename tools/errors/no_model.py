"""A saved fit holds draws and figures, neither model nor data. What needs the model is given it."""

import numpy as np

import taut
from taut import dist


# wrong
def model(x, y=None):
    slope = taut.sample("slope", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Normal(slope * x, 1.0), obs=y)


x = np.array([1.0, 2.0, 3.0])
taut.fit(model, dict(x=x, y=x)).save("fit.taut")
new = taut.load("fit.taut").predict(dict(x=x))


# right
def model(x, y=None):
    slope = taut.sample("slope", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Normal(slope * x, 1.0), obs=y)


x = np.array([1.0, 2.0, 3.0])
taut.fit(model, dict(x=x, y=x)).save("fit.taut")
new = taut.load("fit.taut").predict(dict(x=x), model=model)
