"""Amortised and semi-amortised guides: exact where the encoder can be, with a known gap where it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import taut
from taut import dist, guides
from taut._errors import TautError
from taut._precision import scope
from taut.algorithms import SVI, Run, Solution
from taut.core import Handler, Site
from taut.fitting._amortisation import amortisation_gap, encode
from taut.guides import Flat
from taut.problem import Problem, log_joint

# Probabilistic PCA with orthogonal directions: the posterior of a row is N(A y, diag v), exactly linear and diagonal.
N, B, D, K, S = 40, 10, 2, 3, 0.6
RNG = np.random.default_rng(0)
W = np.linalg.qr(RNG.normal(size=(K, D)))[0] * np.array([1.5, 0.8])
Y = RNG.normal(size=(N, D)) @ W.T + S * RNG.normal(size=(N, K))
V = 1 / (1 + np.sum(W**2, axis=0) / S**2)
A = V[:, None] * W.T / S**2
COV: Any = W @ W.T + S**2 * np.eye(K)
LOG_Z = stats.multivariate_normal.logpdf(Y, np.zeros(K), COV).sum()


def pca(y: Any, n: int = N) -> None:
    with taut.plate("rows", n, subsample_size=B) as rows:
        z = taut.sample("z", dist.Normal(jnp.zeros(D), 1.0).to_event(1))
        taut.sample("y", dist.Normal(z @ W.T, S).to_event(1), obs=None if y is None else y[rows])


def linear(p: Any, y: Any) -> Any:
    return p["A"] @ y, p["log_scale"]


def constant(p: Any, y: Any) -> Any:
    return p["loc"], p["log_scale"]


FIRST = {"A": np.zeros((D, K)), "log_scale": np.zeros(D)}
SAME = {"loc": np.zeros(D), "log_scale": np.zeros(D)}


def solution(guide: guides.Amortised, **params: Any) -> tuple[Problem, Solution]:
    """A guide at parameters of the test's choice, by the names that its own parameters have."""
    problem = Problem(pca, {"y": Y})
    own = guide.bind(problem).init(problem, 0)
    return problem, Solution(guide, own | {f"encoder['{n}']": v for n, v in params.items()}, np.zeros(0), "converged")


@pytest.fixture(scope="module")
def fit() -> Any:
    return taut.fit(pca, {"y": Y}, guide=guides.Amortised("rows", linear, init=FIRST), algorithm=SVI(), draws=2000)


def test_a_linear_encoder_is_exact_for_a_linear_posterior(fit: Any):
    # Zero variance at the optimum: batches of 10 rows find parameters, evidence and gap to rounding.
    np.testing.assert_allclose(fit.params["encoder['A']"], A, atol=1e-5)
    np.testing.assert_allclose(np.exp(2 * fit.params["encoder['log_scale']"]), V, rtol=1e-5)
    assert fit.elbo == pytest.approx(LOG_Z, abs=1e-6)
    assert abs(fit.amortisation_gap().gap) < 1e-6
    assert any(note.startswith("amortisation gap") for note in fit.verdict.notes)


def test_new_rows_are_encoded_and_predicted(fit: Any):
    new = np.array([[1.0, -1.0, 0.5], [0.0, 2.0, 1.0]])
    z = fit.encode({"y": new, "n": 2}, n=2000)["z"]
    assert z.shape == (2000, 2, D)
    se = np.sqrt(V / 2000)
    assert np.all(np.abs(z.mean(0) - new @ A.T) < 5 * se)
    np.testing.assert_allclose(z.var(0), np.tile(V, (2, 1)), rtol=5 * np.sqrt(2 / 2000))
    drawn = fit.predict({"y": new, "n": 2}, n=2000, new_rows="encode")["y"]
    spread = W @ np.diag(V) @ W.T + S**2 * np.eye(K)
    assert np.all(np.abs(drawn.mean(0) - new @ A.T @ W.T) < 5 * np.sqrt(np.diag(spread) / 2000))
    assert np.abs(np.cov(drawn[:, 0].T) - spread).max() < 5 * spread.max() * np.sqrt(2 / 2000)
    with pytest.raises(TautError) as refused:
        fit.predict({"y": new, "n": 2}, n=10)
    assert refused.value.code == "plate-shape" and "encode" in refused.value.remedy


@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_the_gap_of_a_constant_encoder_is_the_rows_kl(scale: float):
    # Best normals are the posteriors, so the gap is sum_i KL(q || p_i): a closed form of two normals.
    loc = np.array([0.3, -0.2])
    guide = guides.Amortised("rows", constant, init=SAME)
    problem, found = solution(guide, loc=loc, log_scale=0.5 * np.log(V) + np.log(scale))
    gap = amortisation_gap(problem, found, 1)
    kl = 0.5 * np.sum((Y @ A.T - loc) ** 2 / V) + 0.5 * N * D * (scale**2 - 1 - 2 * np.log(scale))
    assert abs(gap.gap - kl) < 5 * gap.se + 1e-3
    assert gap.rows == N and gap.per_row == pytest.approx(gap.gap / N)


def test_steps_close_the_gap():
    # Near the optimum both rates of a bounded natural-gradient step are 1/2: 16 times less in nats for two steps.
    gaps = []
    for steps in (1, 3, 6, 14):
        guide = guides.SemiAmortised("rows", constant, init=SAME, steps=steps)
        gaps.append(amortisation_gap(*solution(guide), 1).gap)
    assert gaps[0] > 4 * gaps[1] > 16 * gaps[2]
    assert abs(gaps[3]) < 1e-3


def test_refinement_learns_with_the_models_own_parameters():
    # y_i ~ N(z_i, s), z_i ~ N(0, 1): the evidence has its maximum at 1 + s^2 = mean y^2, whatever the encoder.
    y = np.random.default_rng(1).normal(0.0, 2.0, N)

    def model(y: Any) -> None:
        s = taut.param("s", 1.0, constraint=dist.constraints.positive)
        with taut.plate("rows", N):
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(z, s), obs=y)

    guide = guides.SemiAmortised("rows", lambda p, y: (p["m"], p["s"]), init={"m": 0.0, "s": 0.0}, steps=6, draws=2)
    best = np.mean(y**2)
    exact = stats.norm.logpdf(y, 0, np.sqrt(best)).sum()
    found = taut.fit(model, {"y": y}, guide=guide, algorithm=SVI(steps=3200), draws=2000)
    assert found["s"].mean == pytest.approx(np.sqrt(best - 1), rel=0.02)
    assert found.elbo == pytest.approx(exact, abs=0.05)


class Rows(Handler):
    """Give the plate the rows of a partition's part."""

    def __init__(self, rows: Any):
        super().__init__()
        self.rows = rows

    def before(self, site: Site) -> Site:
        return replace(site, value=self.rows) if site.name == "rows" and self.rows is not None else site


@pytest.mark.parametrize("member", [guides.Amortised, guides.SemiAmortised])
def test_batches_of_a_partition_average_to_the_whole(member: Any):
    # A global latent with a full-rank family, two local sites, one with a simplex, an inner plate left of nothing.
    def model(y: Any, rows: Any = None) -> None:
        mu = taut.sample("mu", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
        with Rows(rows), taut.plate("rows", 6, dim=-2) as i, taut.plate("times", 3, dim=-1):
            z = taut.sample("z", dist.Normal(mu[0], 1.0))
            w = taut.sample("w", dist.Dirichlet(jnp.ones(3)))
            taut.sample("y", dist.Normal(z + mu[1] * w[..., 0], 1.0), obs=y[i])

    rng = np.random.default_rng(2)
    y = rng.standard_normal((6, 3))
    first = {"W": 0.3 * rng.standard_normal((18, 3)), "b": 0.2 * rng.standard_normal(18)}
    guide = member("rows", lambda p, y: p["W"] @ y + p["b"], takes="y", init=first, globals=guides.FullRank())
    full = Problem(model, {"y": y})
    whole = guide.bind(full)
    params = whole.init(full, 0)
    noise = rng.standard_normal((6, 3, 3))
    rest = rng.standard_normal(2)

    def weight(problem: Problem, rows: Any) -> float:
        here = guide.bind(problem)
        eps = np.concatenate([noise[rows, :, 0].ravel(), noise[rows, :, 1:].ravel(), rest])
        with scope("float64"):
            point, log_q = here.push(problem.program, params, jnp.asarray(eps), problem.inputs)
            again = here.log_prob(problem.program, params, point, problem.inputs)
            np.testing.assert_allclose(log_q, again, rtol=1e-12)
            by_site = here.log_prob_by_site(problem.program, params, point, problem.inputs)
            assert by_site is None  # the full-rank part does not fall apart
            return float(log_joint(problem.program, point.coordinates, point.centredness, *problem.inputs) - log_q)

    values = []
    for rows in np.split(rng.permutation(6), 3):
        values.append(weight(Problem(model, {"y": y, "rows": rows}, subsample=True), rows))
    np.testing.assert_allclose(np.mean(values), weight(full, np.arange(6)), rtol=1e-10)
    named = guide.named(full, params)
    assert list(named) == ["mu", "z", "w"] and named["w"]["loc"].shape == (6, 3, 2)


def test_importance_weights_are_taken_row_by_row():
    problem = Problem(pca, {"y": Y}, subsample=True)
    guide = guides.bind(guides.Amortised("rows", linear, init=FIRST), problem)
    objective, _ = SVI(objective=taut.objectives.IWAE(4)).pair(problem, guide)
    assert "by row" in str(objective)


def test_an_equinox_module_is_the_same_as_its_function():
    eqx = pytest.importorskip("equinox")
    module = eqx.nn.MLP(K, 2 * D, 4, 1, key=jax.random.key(0))
    leaves, structure = jax.tree.flatten(eqx.filter(module, eqx.is_inexact_array))
    rest = eqx.filter(module, eqx.is_inexact_array, inverse=True)

    def plain(p: Any, y: Any) -> Any:
        return eqx.combine(jax.tree.unflatten(structure, p), rest)(y)

    problem = Problem(pca, {"y": Y})
    outcomes = []
    for guide in (guides.Amortised("rows", module), guides.Amortised("rows", plain, init=leaves)):
        bound = guide.bind(problem)
        params = bound.init(problem, 0)
        point, log_q = bound.draws(problem, params, 3, np.random.default_rng(0))
        outcomes.append((point.coordinates, log_q))
        assert bound == guide.bind(problem) and hash(bound) == hash(guide.bind(problem))
    np.testing.assert_allclose(outcomes[0][0], outcomes[1][0], rtol=1e-12)
    np.testing.assert_allclose(outcomes[0][1], outcomes[1][1], rtol=1e-12)
    bound = guides.Amortised("rows", module).bind(problem)
    assert "encoder.layers[0].weight" in bound.init(problem, 0)
    # Equal modules make equal guides; other equations make others.
    assert bound == guides.Amortised("rows", eqx.nn.MLP(K, 2 * D, 4, 1, key=jax.random.key(1))).bind(problem)
    other = eqx.nn.MLP(K, 2 * D, 4, 1, activation=jnp.tanh, key=jax.random.key(0))
    assert bound != guides.Amortised("rows", other).bind(problem)


def test_outputs_may_be_named_and_sites_may_be_left_to_another_family():
    def model(y: Any) -> None:
        with taut.plate("rows", N, subsample_size=B) as rows:
            a = taut.sample("a", dist.Normal(0.0, 1.0))
            b = taut.sample("b", dist.Exponential(1.0))
            taut.sample("y", dist.Normal(a, b), obs=y[rows])

    y = Y[:, 0]
    problem = Problem(model, {"y": y}, subsample=True)
    both = guides.Amortised(
        "rows", lambda p, y: {"b": (p["m"], p["s"]), "a": (y, p["s"])}, init={"m": 0.5, "s": -1.0}
    ).bind(problem)
    named = both.named(Problem(model, {"y": y}), {"encoder['m']": np.array(0.5), "encoder['s']": np.array(-1.0)})
    np.testing.assert_allclose(named["a"]["loc"], y)
    np.testing.assert_allclose(named["b"]["loc"], 0.5)
    one = guides.Amortised("a", lambda p, y: (p["m"] * y, p["s"]), init={"m": 0.5, "s": -1.0}).bind(problem)
    assert one.init(problem, 0)["globals.loc"].shape == (N,)
    with scope("float64"):
        point, log_q = one.sample_and_log_prob(problem.program, one.init(problem, 0), key(), problem.inputs)
        again = one.log_prob(problem.program, one.init(problem, 0), point, problem.inputs)
    np.testing.assert_allclose(log_q, again, rtol=1e-12)
    assert isinstance(point, Flat) and point.coordinates.shape == (2 * B,)


def key() -> Any:
    return jax.random.key(3)


def two_plates(y: Any) -> None:
    with taut.plate("rows", 6, subsample_size=3, dim=-2) as i, taut.plate("times", 4, subsample_size=2, dim=-1) as j:
        z = taut.sample("z", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(z, 1.0), obs=y[i][:, j])


def outside(y: Any) -> None:
    with taut.plate("rows", N, subsample_size=B) as rows:
        a = taut.sample("a", dist.Normal(0.0, 1.0))
        b = taut.sample("b", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(a + b, 1.0), obs=y[rows])


REFUSED: dict[str, tuple[Any, Any, Any, str, str]] = {
    "no parameters": (pca, Y, lambda: guides.Amortised("rows", lambda y: (y, y)), "bad-argument", "init"),
    "integers": (pca, Y, lambda: guides.Amortised("rows", linear, init={"A": np.arange(3)}), "bad-argument", "init"),
    "wrong width": (pca, Y, lambda: guides.Amortised("rows", linear, init=FIRST | {"log_scale": np.zeros(3)}),
                    "bad-argument", "loc, log_scale"),
    "unknown data": (pca, Y, lambda: guides.Amortised("rows", linear, init=FIRST, takes="x"), "bad-argument", "takes"),
    "unknown plate": (pca, Y, lambda: guides.Amortised("row", linear, init=FIRST), "site-missing", "rows"),
    "two choices of rows": (two_plates, np.zeros((6, 4)), lambda: guides.Amortised("rows", constant, init=SAME),
                            "bad-combination", "subsample_size"),
    "others tied together": (outside, Y[:, 0], lambda: guides.Amortised(
        "a", constant, init={"loc": 0.0, "log_scale": 0.0}, globals=guides.FullRank()), "bad-combination", "MeanField"),
    "family that is none": (pca, Y, lambda: guides.Amortised("rows", linear, init=FIRST, globals=guides.Delta()),  # type: ignore[arg-type]
                            "bad-argument", "globals"),
    "steps": (pca, Y, lambda: guides.SemiAmortised("rows", linear, init=FIRST, steps=0), "bad-argument", "steps"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_the_line_that_mends_it(name: str):
    model, y, make, code, remedy = REFUSED[name]
    with pytest.raises(TautError) as refused:
        guides.bind(make(), Problem(model, {"y": y}, subsample=True))
    assert refused.value.code == code
    assert remedy in refused.value.remedy


def test_an_encoder_is_asked_only_of_those_who_have_one():
    problem = Problem(pca, {"y": Y})
    mean_field = Solution(guides.MeanField(), guides.MeanField().init(problem, 0), np.zeros(0), "converged")
    with pytest.raises(TautError) as refused:
        amortisation_gap(problem, mean_field)
    assert refused.value.code == "bad-combination" and "Amortised" in refused.value.remedy
    guide = guides.SemiAmortised("rows", constant, init=SAME)
    problem, found = solution(guide)
    with pytest.raises(TautError) as refused:
        encode(problem, found, {}, {"y": None, "n": 2}, 0)
    assert refused.value.code in ("data-missing", "bad-argument")


def test_a_second_run_compiles_nothing():
    counts = []
    for _ in range(2):
        guide = guides.Amortised("rows", lambda p, y: (1.5 * p["A"] @ y, p["log_scale"]), init=FIRST)
        before = taut.problem.compilations()
        Run()(SVI(steps=400), Problem(pca, {"y": Y}, subsample=True), guide, 0)
        counts.append(taut.problem.compilations() - before)
    assert counts[0] > 0 == counts[1]
