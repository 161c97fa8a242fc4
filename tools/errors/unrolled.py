"""A loop in Python makes as many statements as it has rounds, and each is compiled; a scan compiles one round."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as nd
from numpyro.contrib.control_flow import scan

import taut
from taut import dist

moves = jnp.array([[0.9, 0.1], [0.2, 0.8]])
y = np.random.default_rng(0).normal(size=60)


# wrong
def model(y):
    z = 0
    for t in range(60):
        z = taut.sample(f"z_{t}", dist.Categorical(moves[z]))
        taut.sample(f"y_{t}", dist.Normal(2.0 * z, 1.0), obs=y[t])


problem = taut.Problem(model, dict(y=y), latents=False)


# right
def model(y):
    def step(z, now):
        z = numpyro.sample("z", nd.Categorical(moves[z]))
        numpyro.sample("y", nd.Normal(2.0 * z, 1.0), obs=now)
        return z, None

    scan(step, 0, y)


problem = taut.Problem(model, dict(y=y), latents=False)
