"""The path cannot be read or written: a folder, or no permission."""

from pathlib import Path

import numpy as np

import taut
from taut import dist

# wrong
Path("fits").mkdir(exist_ok=True)
again = taut.load("fits")


# right
def model(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


fit = taut.fit(model, dict(y=np.array([1.2, 0.7, 1.9])))

fit.save("fit.taut")
again = taut.load("fit.taut")
