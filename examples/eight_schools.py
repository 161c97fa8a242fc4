"""Eight schools: how much did coaching raise test scores in each of eight schools? (Rubin 1981)

python -m taut fit examples/eight_schools.py:schools --data examples/data/eight_schools.json
"""

import taut
from taut import dist


def schools(sigma, y=None):
    mu = taut.sample("mu", dist.Normal(0, 5))  # the effect in an average school, in points
    tau = taut.sample("tau", dist.HalfCauchy(5))  # how much schools differ
    with taut.plate("school", len(sigma)):
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta, sigma), obs=y)
