"""Peers fit the same posterior: NumPyro's and PyMC's density beside taut's; and what the page adds up."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from numpyro.infer.util import log_density

import taut
from benchmarks.peers.as_numpyro import as_numpyro
from benchmarks.peers.page import page
from benchmarks.peers.run import MODELS, pick
from benchmarks.peers.table import cells, quantile
from benchmarks.posteriordb.models import POSTERIORS
from taut import dist
from taut.problem import Problem

rng = np.random.default_rng(3)
SERIES = {"y": rng.normal(size=12), "K": 2}
RAW: dict[str, dict[str, Any]] = {
    "eight_schools-eight_schools_noncentered": {"sigma": [15, 10, 16], "y": [28, 8, -3]},
    "mesquite-logmesquite_logvolume": {
        k: rng.uniform(1, 2, size=7) for k in ("weight", "diam1", "diam2", "canopy_height", "total_height", "density")
    },
    "wells_data-wells_dae_inter_model": {
        "dist": rng.uniform(0, 90, 6), "arsenic": rng.uniform(1, 3, 6), "educ": rng.integers(0, 12, 6),
        "switched": [0, 1, 1, 0, 1, 1],
    },
    "GLM_Poisson_Data-GLM_Poisson_model": {"year": rng.normal(size=5), "C": [3, 1, 0, 7, 2]},
    "arK-arK": SERIES,
    "gp_pois_regr-gp_regr": {"x": [-2, 0, 1, 5], "y": rng.normal(size=4)},
    "gp_pois_regr-gp_pois_regr": {"x": [-2, 0, 1, 5], "k": [1, 0, 2, 7]},
    "low_dim_gauss_mix-low_dim_gauss_mix": SERIES,
    "low_dim_gauss_mix_collapse-low_dim_gauss_mix_collapse": SERIES,
    "hmm_example-hmm_example": {"y": [2.9, 9.0, 8.1, 3.3]},
    "seeds_data-seeds_stanified_model": {"n": [1, 4, 0], "N": [5, 9, 3], "x1": [0, 1, 1], "x2": [0, 0, 1]},
    "radon_mn-radon_hierarchical_intercept_centered": {
        "J": 2, "county_idx": [2, 1, 2], "log_radon": rng.normal(size=3), "log_uppm": rng.normal(size=3),
        "floor_measure": [1, 0, 0],
    },
    "diamonds-diamonds": {"X": rng.normal(size=(6, 4)), "Y": rng.normal(8, 1, size=6)},
    "wells_data-wells_dist": {"dist": rng.uniform(0, 9, 4), "switched": [0, 1, 1, 0]},
}  # fmt: skip


def points(name: str, n: int) -> tuple[Problem, list[dict[str, np.ndarray]]]:
    """A problem on made-up data, and values of its latents at random points."""
    posterior = POSTERIORS[name]
    problem = Problem(posterior.model, posterior.data(RAW[name]))
    values = problem.constrain(np.random.default_rng(4).normal(size=(n, problem.dim)))
    return problem, [{site: values[site][i] for site in problem.latents} for i in range(n)]


def test_the_usual_models_have_made_up_data() -> None:
    assert set(MODELS) - set(RAW) == {"earnings-logearn_interaction"}  # `linear`, as mesquite's


@pytest.mark.parametrize(
    "name",
    [
        "eight_schools-eight_schools_noncentered",  # a deterministic site
        "low_dim_gauss_mix-low_dim_gauss_mix",  # a factor, an improper prior, an ordered vector
        "radon_mn-radon_hierarchical_intercept_centered",  # two plates
    ],
)
def test_numpyro_sees_the_same_log_joint(name: str) -> None:
    problem, found = points(name, 3)
    model = as_numpyro(problem.model, problem.data)
    for values in found:
        with jax.enable_x64(True):
            theirs, _ = log_density(model, (), {}, values)
        np.testing.assert_allclose(float(theirs), float(problem.log_joint(values)), rtol=1e-10)


def test_numpyro_sees_masks_scales_factors_and_parameters() -> None:
    def model(y: Any) -> None:
        mu = taut.param("mu", 0.5)
        tau = taut.sample("tau", dist.HalfNormal(2.0))
        with taut.plate("row", len(y)), taut.handlers.mask(mask=np.array([True, False, True])):
            taut.sample("y", dist.Normal(mu, tau), obs=y)
            taut.factor("f", -np.arange(3.0))
        with taut.handlers.scale(scale=3.0):
            taut.sample("z", dist.Normal(tau, 1.0), obs=1.0)
        taut.deterministic("twice", 2 * tau)

    y = np.array([0.3, -9.0, 1.1])
    with jax.enable_x64(True):
        found, trace = log_density(as_numpyro(model, {"y": y}), (), {}, {"mu": 0.2, "tau": 1.3})

    def normal(x: float, scale: float) -> float:
        return -0.5 * (x / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)

    wanted = np.log(2) + normal(1.3, 2.0) + normal(0.1, 1.3) + normal(0.9, 1.3) - 2.0 + 3 * normal(0.3, 1.0)
    np.testing.assert_allclose(float(found), wanted, rtol=1e-12)
    assert float(trace["twice"]["value"]) == pytest.approx(2.6)


@pytest.mark.parametrize("name", [n for n in RAW if n != "hmm_example-hmm_example"])
@pytest.mark.filterwarnings("ignore")
def test_pymc_states_the_same_density(name: str) -> None:
    # Equal up to a constant: differences between points agree, with the Jacobians of PyMC's own transforms left out.
    pm = pytest.importorskip("pymc", reason="only in .venv-bench", exc_type=ImportError)
    from benchmarks.peers.pymc_models import STATED

    problem, found = points(name, 3)
    with pm.Model() as stated:
        STATED[problem.model](**problem.data)
    logp = stated.compile_logp(jacobian=False, mode="FAST_COMPILE")
    theirs = [float(logp(_free(stated, values))) for values in found]
    ours = [float(problem.log_joint(values)) for values in found]
    np.testing.assert_allclose(np.diff(theirs), np.diff(ours), rtol=1e-8, atol=1e-8)


def _free(stated: Any, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of latents as PyMC's own free variables."""
    point = {}
    for variable in stated.free_RVs:
        transform, value = stated.rvs_to_transforms[variable], values[variable.name]
        moved = value if transform is None else transform.forward(value, *variable.owner.inputs).eval()
        point[stated.rvs_to_values[variable].name] = np.asarray(moved)
    return point


def row(peer: str, posterior: str, run: int = 0, **changes: Any) -> dict[str, Any]:
    told = {
        "peer": peer, "posterior": posterior, "run": run, "state": "done", "said": "", "limit": 180.0,
        "date": "2026-01-02", "versions": {"jax": "0.10.2"}, "mean_error": 0.1, "sd_error": 0.2, "seconds_cold": 4.0,
        "seconds_warm": 1.0, "gradients": 20_000,
        "machine": {"processor": "a chip", "cores": "2", "system": "Linux", "python": "3.11.7"},
    }  # fmt: skip
    return told | changes


def test_cells_are_medians_over_runs_and_count_failures() -> None:
    rows = [
        row("taut", "a-b", i, mean_error=e, seconds_cold=s) for i, (e, s) in enumerate([(0.1, 2), (0.5, 3), (0.2, 4)])
    ]
    rows.append(row("taut", "a-b", 3, mean_error=None))  # a fit that is not finite
    cell = cells(rows)["taut", "a-b"]
    assert (cell.mean_error, cell.seconds_cold, cell.spread, cell.failed, cell.runs) == (0.2, 3.0, 2.0, 1, 4)
    assert quantile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], 0.9) == 9.0
    assert quantile([], 0.5) is None


def test_the_page_says_where_taut_is_behind() -> None:
    rows = [row("taut", f"data-m{i}", said="trusted", mean_error=0.03, seconds_cold=2.0) for i in range(2)]
    rows.append(row("numpyro-normal", "data-m0", mean_error=0.3, seconds_cold=4.0, seconds_warm=0.5))
    rows.append(row("numpyro-normal", "data-m1", mean_error=0.005, seconds_cold=1.0, seconds_warm=2.0))
    rows.append({"peer": "pymc-advi", "posterior": "data-m0", "run": 0, "state": "not stated"} | {
        k: rows[0][k] for k in ("date", "machine", "limit")
    })  # fmt: skip
    text = page(rows)
    assert "NumPyro AutoNormal: closer means on 1 of 2 (data m1); less time cold on 1 of 2 (data m1); less time" in text
    assert "warm on 1 of 2 (data m0).\n" in text and "closer sds" not in text
    assert "1.25 (0.50..2.00)" in text  # cold, taut over NumPyro
    assert "a chip, 2 cores" in text and "2026-01-02" in text


def test_models_are_picked_by_name_part_or_all() -> None:
    known = ("x-lin", "x-lin_z", "y-gp")
    assert pick(None, known, ("y-gp",)) == ["y-gp"]
    assert pick(["all"], known, ()) == list(known)
    assert pick(["x-lin"], known, ()) == ["x-lin"] and pick(["lin"], known, ()) == ["x-lin", "x-lin_z"]
