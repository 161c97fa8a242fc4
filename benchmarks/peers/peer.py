"""What a peer is: a way to fit one posterior, and what a run of it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TIMED_DRAWS = 4_000  # what a user gets; drawing them is part of the seconds
JUDGED_DRAWS = 20_000  # drawn after the clock has stopped, so that errors are those of q and not of few draws
STEPS = 20_000


class Found(NamedTuple):
    """One fit.

    Attributes:
        draws: number -> posterior draws by site in the model's own space, ``(n, *shape)``; a method that has only so
            many draws returns these.
        gradients: counts the gradients of the log joint that the fit took; called after the clock has stopped.
        said: what the method itself says about the result; empty if nothing.
    """

    draws: Callable[[int], dict[str, np.ndarray]]
    gradients: Callable[[], int]
    said: str = ""


Fit = Callable[[int], Found]  # from a seed; a second call reuses whatever the peer keeps compiled


class Peer(NamedTuple):
    """One method of one library.

    Attributes:
        title: as the tables name it.
        module: of this folder, with ``prepare(peer, posterior, data) -> Fit | None``; ``None`` where the model is not
            stated.
        packages: what must be installed; imported before anything of taut, and reported with their versions.
        settings: what was chosen, in words.
    """

    title: str
    module: str
    packages: tuple[str, ...]
    settings: str


PEERS: dict[str, Peer] = {
    "taut": Peer("taut, with its verdict", "by_taut", ("taut", "jax"), "`taut.fit(model, data)`, no options"),
    "taut-q": Peer("taut, q alone", "by_taut", ("taut", "jax"), "`taut.fit(model, data, verify=False)`, draws of q"),
    "numpyro-normal": Peer(
        "NumPyro AutoNormal",
        "by_numpyro",
        ("numpyro", "jax"),
        f"SVI, Adam 0.01, {STEPS:,} steps of one particle in one compiled loop, float64",
    ),
    "numpyro-mvn": Peer(
        "NumPyro AutoMultivariateNormal", "by_numpyro", ("numpyro", "jax"), "the same with a full-rank guide"
    ),
    "numpyro-nuts": Peer(
        "NumPyro NUTS", "by_numpyro", ("numpyro", "jax"), "1,000 + 1,000 iterations, one chain, float64"
    ),
    "blackjax-pathfinder": Peer(
        "blackjax Pathfinder", "by_blackjax", ("blackjax", "jax"), "its defaults, taut's own log density, float64"
    ),
    "blackjax-multipath": Peer(
        "blackjax multi-path Pathfinder",
        "by_blackjax",
        ("blackjax", "jax"),
        "4 paths of 1,000 draws, resampled by smoothed weights",
    ),
    "pymc-advi": Peer(
        "PyMC ADVI", "by_pymc", ("pymc", "pytensor"), f"`pm.fit({STEPS}, method='advi')`, its own optimizer"
    ),
    "pymc-fullrank": Peer(
        "PyMC full-rank ADVI", "by_pymc", ("pymc", "pytensor"), f"`pm.fit({STEPS}, method='fullrank_advi')`"
    ),
    "pymc-dadvi": Peer(
        "PyMC-extras DADVI", "by_pymc", ("pymc", "pytensor", "pymc-extras"), "`fit_dadvi`, its defaults: 30 fixed draws"
    ),
}
