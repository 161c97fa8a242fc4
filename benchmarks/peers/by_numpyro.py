"""NumPyro on the very same models: SVI with its automatic guides, and NUTS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import numpyro
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from benchmarks.peers.as_numpyro import as_numpyro
from benchmarks.peers.peer import STEPS, Fit, Found
from benchmarks.posteriordb.models import Posterior

GUIDES = {"numpyro-normal": AutoNormal, "numpyro-mvn": AutoMultivariateNormal}
ITERATIONS = 1_000
STEPS_TAKEN = ("num_steps",)


def prepare(peer: str, posterior: Posterior, data: Mapping[str, Any]) -> Fit:
    """One of NumPyro's methods for a posterior."""
    numpyro.enable_x64()  # taut computes in float64 too
    model = as_numpyro(posterior.model, data)
    return _nuts(model) if peer == "numpyro-nuts" else _svi(model, GUIDES[peer])


def _svi(model: Callable[[], None], guide_of: Callable[..., Any]) -> Fit:
    guide = guide_of(model)
    svi = SVI(model, guide, numpyro.optim.Adam(0.01), Trace_ELBO())

    @jax.jit  # `svi.run` would compile its loop anew in every call
    def loop(state: Any) -> Any:
        return jax.lax.scan(lambda state, _: svi.update(state), state, None, length=STEPS)[0]

    def fit(seed: int) -> Found:
        start, key = jax.random.split(jax.random.PRNGKey(seed))
        params = svi.get_params(loop(svi.init(start)))

        def draws(n: int) -> dict[str, np.ndarray]:
            found = guide.sample_posterior(key, params, sample_shape=(n,))
            return _with_deterministic(model, found, n)

        return Found(draws, lambda: STEPS)

    return fit


def _nuts(model: Callable[[], None]) -> Fit:
    def chain() -> MCMC:
        return MCMC(NUTS(model), num_warmup=ITERATIONS, num_samples=ITERATIONS, progress_bar=False)

    mcmc = chain()

    def fit(seed: int) -> Found:
        key = jax.random.PRNGKey(seed)
        mcmc.run(key, extra_fields=STEPS_TAKEN)
        found = {site: np.asarray(v) for site, v in mcmc.get_samples().items()}
        sampling = int(np.sum(mcmc.get_extra_fields()["num_steps"]))

        def gradients() -> int:
            again = chain()  # the same warm-up once more, this time with its leapfrog steps kept
            again.warmup(key, extra_fields=STEPS_TAKEN, collect_warmup=True)
            return sampling + int(np.sum(again.get_extra_fields()["num_steps"]))

        return Found(lambda _: found, gradients)

    return fit


def _with_deterministic(model: Callable[[], None], found: dict[str, Any], n: int) -> dict[str, np.ndarray]:
    """Add the deterministic sites that a guide's draws leave out."""
    first = numpyro.handlers.substitute(model, {site: v[0] for site, v in found.items()})
    trace = numpyro.handlers.trace(first).get_trace()
    missing = [s for s, site in trace.items() if site["type"] == "deterministic" and s not in found]
    if missing:
        latents = {s: v for s, v in found.items() if trace[s]["type"] == "sample"}
        found = found | Predictive(model, latents, return_sites=missing)(jax.random.PRNGKey(n))
    return {site: np.asarray(v) for site, v in found.items()}
