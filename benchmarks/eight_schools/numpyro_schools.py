"""Eight schools as a user of NumPyro writes it: 20,000 Adam steps of an AutoNormal guide, then 1,000 draws."""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

y = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
sigma = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


if __name__ == "__main__":
    guide = AutoNormal(schools)
    svi = SVI(schools, guide, numpyro.optim.Adam(0.01), Trace_ELBO())
    found = svi.run(jax.random.PRNGKey(0), 20_000, sigma, y, progress_bar=False)
    draws = guide.sample_posterior(jax.random.PRNGKey(1), found.params, sample_shape=(1000,))
    print({name: (float(jnp.mean(x)), float(jnp.std(x))) for name, x in draws.items()}, flush=True)
