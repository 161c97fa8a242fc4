"""An improper prior may stand in a model, where only its density counts. It cannot be drawn from: not in a prior
predictive, not in a guide."""

import taut
from taut import dist


# wrong
def model(y=None):
    mu = taut.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
    taut.sample("y", dist.Normal(mu, 1.0), obs=y)


prior = taut.Problem(model, dict(y=1.0)).predict(size=10)


# right
def model(y=None):
    mu = taut.sample("mu", dist.Normal(0.0, 10.0))
    taut.sample("y", dist.Normal(mu, 1.0), obs=y)


prior = taut.Problem(model, dict(y=1.0)).predict(size=10)
