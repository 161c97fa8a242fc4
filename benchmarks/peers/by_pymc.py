"""PyMC's ADVI, full-rank ADVI and the DADVI of PyMC-extras, on the models that `pymc_models` states.

``python -m benchmarks.peers.by_pymc`` fits a toy model by all three: PyTensor then has on disk what every model needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm

from benchmarks.peers.peer import STEPS, TIMED_DRAWS, Fit, Found
from benchmarks.peers.pymc_models import STATED
from benchmarks.posteriordb.models import Posterior

METHODS = {"pymc-advi": "advi", "pymc-fullrank": "fullrank_advi"}


def prepare(peer: str, posterior: Posterior, data: Mapping[str, Any]) -> Fit | None:
    """One of PyMC's methods for a posterior; ``None`` if nobody has stated it in PyMC."""
    if posterior.model not in STATED:
        return None
    with pm.Model() as model:
        STATED[posterior.model](**data)
    return _dadvi(model) if peer == "pymc-dadvi" else _advi(model, METHODS[peer], STEPS)


def _advi(model: pm.Model, method: str, steps: int) -> Fit:
    def fit(seed: int) -> Found:
        found = pm.fit(steps, method=method, model=model, random_seed=seed, progressbar=False)
        return Found(lambda n: _by_site(found.sample(n, random_seed=seed)), lambda: steps)

    return fit


def _dadvi(model: pm.Model) -> Fit:
    from pymc_extras.inference import fit_dadvi  # slow to import, and the other two do without

    def fit(seed: int) -> Found:
        found = fit_dadvi(model=model, n_draws=TIMED_DRAWS, random_seed=seed, progressbar=False)

        def gradients() -> int:  # each over 30 fixed draws; a product with the Hessian counts as one gradient
            run = found.optimizer_result
            return 30 * (int(run["njev"]) + int(run["nhev"]))

        return Found(lambda _: _by_site(found), gradients)

    return fit


def _by_site(found: Any) -> dict[str, np.ndarray]:
    return {str(site): np.asarray(values)[0] for site, values in found.posterior.data_vars.items()}


def main() -> None:
    """Fit three numbers by every method."""
    with pm.Model() as toy:
        mu, sigma = pm.Normal("mu", 0, 1), pm.HalfNormal("sigma", 1)
        pm.Normal("y", mu, sigma, observed=np.array([0.1, 1.2, -0.4]))
    for fit in (_advi(toy, "advi", 100), _advi(toy, "fullrank_advi", 100), _dadvi(toy)):
        fit(0).draws(TIMED_DRAWS)


if __name__ == "__main__":
    main()
