"""Discrete latents with finitely many values are summed out, exactly. One without an end to its values is cut off where
its probability is nothing, or drawn in a guide of your own, which is then fitted by its score."""

import jax.numpy as jnp

import taut
from taut import dist


# wrong
def model(y):
    n = taut.sample("n", dist.Poisson(3.0))
    taut.sample("y", dist.Normal(n, 1.0), obs=y)


fit = taut.fit(model, dict(y=2.0))


# right
def model(y):
    n = taut.sample("n", dist.Categorical(logits=dist.Poisson(3.0).log_prob(jnp.arange(30))))
    taut.sample("y", dist.Normal(n, 1.0), obs=y)


fit = taut.fit(model, dict(y=2.0))
