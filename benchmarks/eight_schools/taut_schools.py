"""Eight schools as a user of taut writes it: a process that ends with the printed verdict."""

import jax.numpy as jnp

import taut
from taut import dist

y = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
sigma = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(sigma, y=None):
    mu = taut.sample("mu", dist.Normal(0, 5))
    tau = taut.sample("tau", dist.HalfCauchy(5))
    with taut.plate("school", len(sigma)):
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta, sigma), obs=y)


if __name__ == "__main__":
    print(taut.fit(schools, {"sigma": sigma, "y": y}), flush=True)
