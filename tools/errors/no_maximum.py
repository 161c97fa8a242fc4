"""Linear response asks how the maximum moves when the model is nudged; at a saddle, or on a plateau, there is none."""

import taut
from taut import dist


# wrong
def model(y):
    x = taut.sample("x", dist.ImproperUniform(dist.constraints.real_vector, (), (2,)))
    taut.factor("saddle", 0.5 * x[0] ** 2 - 0.5 * (x[1] - y) ** 2)


fit = taut.fit(model, dict(y=1.0), algorithm=taut.algorithms.MAP())
sd = fit.linear_response("x").sd


# right
def model(y):
    x = taut.sample("x", dist.ImproperUniform(dist.constraints.real_vector, (), (2,)))
    taut.factor("peak", -0.5 * x[0] ** 2 - 0.5 * (x[1] - y) ** 2)


fit = taut.fit(model, dict(y=1.0), algorithm=taut.algorithms.MAP())
sd = fit.linear_response("x").sd
