"""A program that is run by hand needs a key to draw from; a fit brings its own."""

import taut
from taut import dist


# wrong
def model():
    return taut.sample("x", dist.Normal(0.0, 1.0))


x = model()


# right
def model():
    return taut.sample("x", dist.Normal(0.0, 1.0))


x = taut.handlers.seed(model, key=0)()
