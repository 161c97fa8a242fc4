"""Every result goes by its name, so a name may be used once."""

import taut
from taut import dist


# wrong
def model(y):
    x = taut.sample("x", dist.Normal(0.0, 1.0))
    z = taut.sample("x", dist.Normal(x, 1.0))
    taut.sample("y", dist.Normal(z, 1.0), obs=y)


fit = taut.fit(model, dict(y=1.0))


# right
def model(y):
    x = taut.sample("x", dist.Normal(0.0, 1.0))
    z = taut.sample("z", dist.Normal(x, 1.0))
    taut.sample("y", dist.Normal(z, 1.0), obs=y)


fit = taut.fit(model, dict(y=1.0))
