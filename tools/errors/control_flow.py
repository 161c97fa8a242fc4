"""The model runs once, with placeholders for its latents, so Python cannot ask what they are. JAX's functions can."""

import jax.numpy as jnp
import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    sigma = taut.sample("sigma", dist.Normal(0.0, 1.0))
    if sigma < 0:
        sigma = -sigma
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(0.0, sigma), obs=y)


problem = taut.Problem(model, dict(y=np.array([1.2, 0.7, 1.9])))


# right
def model(y):
    sigma = taut.sample("sigma", dist.Normal(0.0, 1.0))
    sigma = jnp.abs(sigma)
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(0.0, sigma), obs=y)


problem = taut.Problem(model, dict(y=np.array([1.2, 0.7, 1.9])))
