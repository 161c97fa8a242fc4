"""Local latents under subsampled plates: rows are chosen, counted and learnt rightly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import taut
from taut import dist, guides
from taut._errors import TautError
from taut._precision import scope
from taut.algorithms import SVI, Run
from taut.core import Handler, Site
from taut.guides import Flat
from taut.problem import Problem, log_joint

N, B = 50, 10
stats: Any = scipy.stats  # its stubs take frozen continuous distributions for discrete ones
S, T = 0.7, 1.3
Y = 2 + np.random.default_rng(0).normal(0.0, np.hypot(S, T), N)


def rows_model(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 10.0))
    with taut.plate("rows", N, subsample_size=B) as rows:
        z = taut.sample("z", dist.Normal(mu, T))
        taut.sample("y", dist.Normal(z, S), obs=y[rows])


def exact_mean_field() -> tuple[np.ndarray, np.ndarray]:
    """The mean-field optimum of a Gaussian of precision P: its mean, and 1 / sqrt(diag P)."""
    p = np.diag(np.full(N + 1, 1 / S**2 + 1 / T**2))
    p[0, 0] = 1 / 100 + N / T**2
    p[0, 1:] = p[1:, 0] = -1 / T**2
    return np.linalg.solve(p, np.concatenate([[0.0], Y / S**2])), 1 / np.sqrt(np.diag(p))


class Rows(Handler):
    """Give named plates the rows of a partition's part."""

    def __init__(self, rows: dict[str, Any]):
        super().__init__()
        self.rows = rows

    def before(self, site: Site) -> Site:
        return replace(site, value=self.rows[site.name]) if site.kind == "plate" and site.name in self.rows else site


def weight(problem: Problem, guide: guides.Guide, params: Any, noise: Any) -> float:
    """log p - log q of one draw at given noise."""
    assert isinstance(guide, guides.NoiseGuide)
    with scope("float64"):
        point, log_q = guide.push(problem.program, params, jnp.asarray(noise), problem.inputs)
        assert isinstance(point, Flat)
        again = guide.log_prob(problem.program, params, point, problem.inputs)
        np.testing.assert_allclose(log_q, again, rtol=1e-12)
        return float(log_joint(problem.program, point.coordinates, point.centredness, *problem.inputs) - log_q)


def test_mean_field_over_batches_finds_the_exact_optimum():
    fit = taut.fit(rows_model, {"y": Y}, guide=guides.MeanField(), algorithm=SVI(), draws=4000)
    mean, sd = exact_mean_field()
    # The rows' noise leaves the average within a tenth of an sd; N/B missing anywhere would be a factor of sqrt 5.
    np.testing.assert_allclose(fit.params["loc"], mean, atol=0.15 * sd.max())
    np.testing.assert_allclose(np.exp(fit.params["log_scale"]), sd, rtol=0.05)
    assert fit["z"].mean.shape == (N,)
    # Weighed on all rows: the ELBO of the optimum in closed form, log Z - KL, KL = (sum log P_jj - log det P) / 2.
    p_diag = 1 / sd**2
    log_z = stats.multivariate_normal.logpdf(Y, np.zeros(N), (S**2 + T**2) * np.eye(N) + 100.0)
    log_det = N * np.log(1 / S**2 + 1 / T**2) + np.log(p_diag[0] - N / T**4 / (1 / S**2 + 1 / T**2))
    elbo = log_z - 0.5 * (np.log(p_diag).sum() - log_det)
    assert abs(fit.elbo - elbo) < 5 * fit.numbers["ELBO"][1] + 0.05  # type: ignore[operator]


# name: model over given rows (or all), plates' parts, names of its data
def nested(y: Any, rows: Any = None, times: Any = None) -> None:
    parts = {} if rows is None else {"rows": rows, "times": times}
    with Rows(parts):
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("times", 6, dim=-1) as j:
            a = taut.sample("a", dist.LogNormal(mu, 1.0))
            with taut.plate("rows", 8, dim=-2) as i:
                # An event dimension, behind two plates; a scale that makes it hierarchical.
                z = taut.sample("z", dist.Normal(mu, a[:, None] * jnp.ones(2)).to_event(1))
                w = taut.sample("w", dist.Dirichlet(jnp.ones(3)))
                taut.sample("y", dist.Normal(z.sum(-1) + w[..., 0], 1.0), obs=y[i][:, j])
        with taut.plate("rows", 8, dim=-2) as i:
            b = taut.sample("b", dist.Exponential(1.0))
            taut.factor("tilt", -b * mu**2)


@pytest.mark.parametrize("centredness", [1.0, 0.0])
@pytest.mark.parametrize("guide", ["MeanField", "Delta"])
def test_batches_of_a_partition_average_to_the_whole(centredness: float, guide: str):
    # Two subsampled plates, one inside of the other's dimension, several sites, event dimensions, moving supports:
    # the mean over a partition of (log p - log q) is that of all rows, with the same noise for the same rows.
    rng = np.random.default_rng(1)
    y = rng.standard_normal((8, 6))
    full = Problem(nested, {"y": y})
    member = getattr(guides, guide)(centredness)
    params = {n: rng.normal(0.0, 0.5, v.shape) for n, v in member.init(full, 0).items()}
    noise = rng.standard_normal(full.dim)
    parts_i, parts_j = np.split(rng.permutation(8), 4), np.split(rng.permutation(6), 2)
    values = []
    for i in parts_i:
        for j in parts_j:
            batch = Problem(nested, {"y": y, "rows": i, "times": j}, subsample=True)
            assert set(batch.program.outputs["rows"]) == {"rows", "times"}
            assert {n: v.shape for n, v in member.init(batch, 0).items()} == {n: v.shape for n, v in params.items()}
            here = np.concatenate(
                [
                    noise[full.layout["mu"]],
                    noise[full.layout["a"]][j],
                    noise[full.layout["z"]].reshape(8, 6, 2)[np.ix_(i, j)].ravel(),
                    noise[full.layout["w"]].reshape(8, 6, 2)[np.ix_(i, j)].ravel(),
                    noise[full.layout["b"]][i],
                ]
            )
            values.append(at(batch, member, params, here))
    np.testing.assert_allclose(np.mean(values), at(full, member, params, noise), rtol=1e-11, atol=1e-9)


def at(problem: Problem, guide: guides.Guide, params: Any, noise: np.ndarray) -> float:
    if isinstance(guide, guides.NoiseGuide):
        return weight(problem, guide, params, noise)
    with scope("float64"):
        point, _ = guide.sample_and_log_prob(problem.program, params, jax.random.key(0), problem.inputs)
        assert isinstance(point, Flat)
        return float(log_joint(problem.program, point.coordinates, point.centredness, *problem.inputs))


def test_each_row_is_the_bound_of_its_own_logarithm():
    # No shared latent: IWAE goes row by row over a batch, and its optimum is the exact posterior of each row.
    def model(y: Any) -> None:
        with taut.plate("rows", N, subsample_size=B) as rows:
            z = taut.sample("z", dist.Normal(0.0, T))
            taut.sample("y", dist.Normal(z, S), obs=y[rows])

    problem = Problem(model, {"y": Y}, subsample=True)
    svi = SVI(objective=taut.objectives.IWAE(4))
    objective, _ = svi.pair(problem, guides.MeanField())
    assert "by row" in str(objective)
    variance = 1 / (1 / S**2 + 1 / T**2)
    exact = {"loc": variance * Y / S**2, "log_scale": np.full(N, 0.5 * np.log(variance))}
    from_exact = Problem(model, {"y": Y})
    point, log_q = guides.MeanField().draws(from_exact, exact, 4, np.random.default_rng(0))
    log_p, _ = from_exact.kernel()(point.coordinates, np.ones(N))
    np.testing.assert_allclose(log_p - log_q, stats.norm.logpdf(Y, 0, np.hypot(S, T)).sum(), atol=1e-9)


def test_host_draws_stand_at_the_rows_of_the_problem():
    problem = Problem(rows_model, {"y": Y}, subsample=True)
    rng = np.random.default_rng(0)
    params = {"loc": rng.normal(size=N + 1), "log_scale": rng.normal(size=N + 1)}
    point, log_q = guides.MeanField().draws(problem, params, 3, rng)
    for row in range(3):
        one = Flat(point.coordinates[row], point.centredness)
        with scope("float64"):
            again = guides.MeanField().log_prob(problem.program, params, one, problem.inputs)
        np.testing.assert_allclose(log_q[row], again, rtol=1e-12)
    assert guides.MeanField().named(problem, params)["z"]["loc"].shape == (N,)


@pytest.mark.parametrize("guide", [guides.FullRank(), guides.LowRank(2), guides.GaussianMixture(2)], ids=str)
def test_families_that_tie_rows_together_are_refused(guide: guides.Guide):
    with pytest.raises(TautError) as refused:
        taut.fit(rows_model, {"y": Y}, guide=guide, algorithm=SVI(steps=10))
    assert (refused.value.code, refused.value.site) == ("bad-combination", "z")
    assert "MeanField" in refused.value.remedy and "rows" in refused.value.remedy


def test_a_broken_step_names_the_site_in_its_own_rows():
    def model(y: Any) -> None:
        with taut.plate("rows", N, subsample_size=B) as rows:
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(z, 1.0), obs=y[rows])
            taut.factor("wall", jnp.log(1.0 - 0.0 * z - jnp.abs(jax.lax.stop_gradient(z)) / 40.0))

    problem = Problem(model, {"y": Y + 100.0}, subsample=True)
    solution = Run()(SVI(steps=3000), problem, guides.MeanField(), 0)
    assert solution.status == "nonfinite"
    assert "'wall'" in solution.notes[0]
