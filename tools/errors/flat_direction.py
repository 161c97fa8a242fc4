"""Where neither prior nor data hold a direction, the posterior has no spread to report."""

import taut
from taut import dist


# wrong
def model(y):
    a = taut.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
    b = taut.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))
    taut.sample("y", dist.Normal(a + b, 1.0), obs=y)


fit = taut.fit(model, dict(y=2.0), algorithm=taut.algorithms.Laplace())


# right
def model(y):
    a = taut.sample("a", dist.Normal(0.0, 10.0))
    b = taut.sample("b", dist.Normal(0.0, 10.0))
    taut.sample("y", dist.Normal(a + b, 1.0), obs=y)


fit = taut.fit(model, dict(y=2.0), algorithm=taut.algorithms.Laplace())
