"""The density is zero, or not a number, at draws of a guide: say in the prior where the latent may lie."""

import jax.numpy as jnp
import numpy as np

import taut
from taut import dist


# wrong
def model(y):
    rate = taut.sample("rate", dist.Normal(0.0, 1.0))
    taut.sample("y", dist.Normal(jnp.log(rate), 1.0), obs=y)


params = dict(loc=np.zeros(1), log_diagonal=np.zeros(1), lower=np.zeros((1, 1)))
solution = taut.algorithms.Solution(taut.guides.FullRank(), params, np.zeros(0), "converged")
sd = taut.algorithms.linear_response(taut.Problem(model, dict(y=1.0)), solution).sd


# right
def model(y):
    rate = taut.sample("rate", dist.HalfNormal(1.0))
    taut.sample("y", dist.Normal(jnp.log(rate), 1.0), obs=y)


params = dict(loc=np.zeros(1), log_diagonal=np.zeros(1), lower=np.zeros((1, 1)))
solution = taut.algorithms.Solution(taut.guides.FullRank(), params, np.zeros(0), "converged")
sd = taut.algorithms.linear_response(taut.Problem(model, dict(y=1.0)), solution).sd
