"""Discrete latents after a fit: probabilities, draws and most probable values, against brute force and quadrature."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy import special

import taut
from taut import dist
from taut._errors import TautError
from taut.algorithms import SVI
from taut.diagnostics import CORRECTED, NOT_TRUSTED, TRUSTED
from taut.fitting._relabelling import orders

logsumexp: Any = special.logsumexp

stats: Any = scipy.stats
MOVES = np.array([[0.8, 0.2], [0.3, 0.7]])
Y = np.array([0.3, -1.0, 1.9, 0.6, 1.2])
PATHS = np.array(list(itertools.product(range(2), repeat=len(Y))))


def normal(x: Any, loc: Any, scale: Any = 1.0) -> Any:
    return stats.norm.logpdf(x, loc, scale)


def chain(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(1.0, 1.0))
    z: Any = 0
    for t in range(len(y)):
        z = taut.sample(f"z_{t}", dist.Categorical(jnp.asarray(MOVES)[z]))
        taut.sample(f"y_{t}", dist.Normal(mu * z, 0.7), obs=y[t])


def of_paths(mu: float) -> np.ndarray:
    """The log joint of every path of the chain, at one value of the continuous latent."""
    before = np.concatenate([np.zeros((len(PATHS), 1), int), PATHS[:, :-1]], axis=1)
    return (np.log(MOVES[before, PATHS]) + normal(Y, mu * PATHS, 0.7)).sum(1)


def path_posterior() -> tuple[np.ndarray, float]:
    """Probabilities of paths and the log evidence, with the continuous latent integrated out on a grid."""
    grid = np.linspace(-6.0, 8.0, 4001)
    joint = np.stack([of_paths(m) + normal(m, 1.0) for m in grid]) + np.log(grid[1] - grid[0])
    evidence = logsumexp(joint)
    return np.exp(logsumexp(joint, axis=0) - evidence), float(evidence)


@pytest.fixture(scope="module")
def fit() -> taut.Fit:
    return taut.fit(chain, dict(y=Y))


def test_the_evidence_is_that_of_quadrature_over_the_sum(fit: taut.Fit):
    _, evidence = path_posterior()
    assert fit.verdict.level in (TRUSTED, CORRECTED) and abs(fit.log_evidence - evidence) < 0.01
    assert any("summed out exactly" in note for note in fit.verdict.notes) and "summed" in fit.facts["discrete"]


def test_probabilities_are_averaged_over_the_posterior(fit: taut.Fit):
    exact = path_posterior()[0] @ PATHS
    found = np.array([fit.probabilities(f"z_{t}")[1] for t in range(len(Y))])
    # Probabilities vary by less than .3 from draw to draw, 1,000 draws: four standard errors.
    assert np.all(np.abs(found - exact) < 4 * 0.3 / np.sqrt(1000))
    assert np.isclose(fit.probabilities("z_2").sum(), 1.0)


def test_draws_are_joint(fit: taut.Fit):
    exact, _ = path_posterior()
    draws = fit.draws(16_000)
    seen = np.stack([draws[f"z_{t}"] for t in range(len(Y))], axis=1)
    shares = np.array([np.mean(np.all(seen == path, axis=1)) for path in PATHS])
    assert np.all(np.abs(shares - exact) < 4 * np.sqrt(exact / 16_000) + 0.004)  # .004: what q is off by at most
    # Each path is drawn for its own mu, whose mean given a path has a closed form; particles count for a quarter.
    for path in (PATHS[0], PATHS[-1]):
        precision = 1.0 + path.sum() / 0.49
        mu = draws["mu"][(seen == path).all(1)]
        assert abs(mu.mean() - (1.0 + (path @ Y) / 0.49) / precision) < 4 * mu.std() / np.sqrt(len(mu) / 4)
    assert fit["z_0"].values.dtype == np.int32


def test_the_most_probable_path_is_that_of_brute_force(fit: taut.Fit):
    exact, _ = path_posterior()
    found = [int(fit.most_probable(f"z_{t}")) for t in range(len(Y))]
    assert found == PATHS[exact.argmax()].tolist()


def test_paths_given_the_rest_are_exact(fit: taut.Fit):
    """Viterbi and the forward and backward sums at single values of the continuous latent."""
    assert fit.problem is not None
    for mu in (-0.5, 0.4, 1.0, 2.0):
        log_p = of_paths(mu)
        known = {"mu": np.full(1, mu)}
        best = fit.problem.assignments.most_probable(known, 1)
        assert [int(best[f"z_{t}"]) for t in range(len(Y))] == PATHS[log_p.argmax()].tolist()
        found = fit.problem.assignments.probabilities(known, 1)
        exact = np.exp(log_p - logsumexp(log_p)) @ PATHS
        assert np.allclose([found[f"z_{t}"][1] for t in range(len(Y))], exact, atol=1e-12)


def test_rows_predictions_and_what_is_computed_from_them():
    y = np.array([-2.1, -1.8, 0.1, 2.2, 1.7])

    def model(y: Any) -> None:
        shift = taut.sample("shift", dist.Normal(0.0, 1.0))
        with taut.plate("rows", 5):
            side = taut.sample("side", dist.Bernoulli(0.4))
            centre = taut.deterministic("centre", shift + 2.0 * (2 * side - 1))
            taut.sample("y", dist.Normal(centre, 1.0), obs=y)

    fit = taut.fit(model, dict(y=y))
    grid = np.linspace(-5.0, 5.0, 4001)
    parts = np.stack([normal(y, grid[:, None] - 2.0) + np.log(0.6), normal(y, grid[:, None] + 2.0) + np.log(0.4)])
    log_p = normal(grid, 0.0) + logsumexp(parts, axis=0).sum(1)
    weight = np.exp(log_p - logsumexp(log_p))
    exact = weight @ np.exp(parts[1] - logsumexp(parts, axis=0))
    assert np.all(np.abs(fit.probabilities("side")[:, 1] - exact) < 4 * 0.2 / np.sqrt(1000))
    assert fit.most_probable("side").tolist() == (exact > 0.5).astype(int).tolist()
    draws = fit.draws(4000)
    assert np.array_equal(draws["centre"], draws["shift"][:, None] + 2.0 * (2 * draws["side"] - 1))
    # A new observation of a row stands around that row's own centre.
    again = fit.predict()["y"]
    mean = weight @ (grid[:, None] + 2.0 * (2 * np.exp(parts[1] - logsumexp(parts, axis=0)) - 1))
    assert np.all(np.abs(again.mean(0) - mean) < 4 * again.std(0) / np.sqrt(4000) + 0.01)
    with pytest.raises(TautError) as caught:
        fit.probabilities("shift")
    assert caught.value.code == "site-missing" and "side" in caught.value.expected


def test_a_guide_that_leaves_the_discrete_latent_out_has_it_summed():
    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        coin = taut.sample("coin", dist.Bernoulli(0.5))
        taut.sample("y", dist.Normal(mu + 3.0 * coin, 1.0), obs=y)

    def guide() -> None:
        scale = taut.param("scale", 1.0, constraint=dist.constraints.positive)
        taut.sample("mu", dist.Normal(taut.param("loc", 0.0), scale))

    fit = taut.fit(model, dict(y=3.4), guide=guide, algorithm=SVI(steps=50), verify=False)
    odds = normal(3.4, 3.0, np.sqrt(2.0)) - normal(3.4, 0.0, np.sqrt(2.0))
    assert "coin" in fit and "summed out" in fit.facts["discrete"]
    problem = fit.problem
    assert problem is not None and list(problem.latents) == ["mu"]
    log_p, _ = problem.kernel().at_values({"mu": np.linspace(-8, 8, 2001)}, np.zeros(0))
    exact = np.log(0.5) + normal(3.4, 0.0, np.sqrt(2.0)) + np.log1p(np.exp(odds))
    assert abs(logsumexp(log_p) + np.log(16 / 2000) - exact) < 1e-6


def test_exchangeable_components_are_both_covered_or_not_trusted():
    y = np.concatenate([np.linspace(-3.0, -1.0, 6), np.linspace(1.0, 3.0, 8)])

    def model(y: Any) -> None:
        with taut.plate("components", 2):
            mu = taut.sample("mu", dist.Normal(0.0, 5.0))
        with taut.plate("rows", len(y)):
            z = taut.sample("z", dist.Categorical(jnp.array([0.5, 0.5])))
            taut.sample("y", dist.Normal(mu[z], 1.0), obs=y)

    fit = taut.fit(model, dict(y=y))
    if fit.verdict.level == TRUSTED:
        # Both labellings: a share of .5 each, within the error of 16,000 draws and of a mixture's weights.
        assert abs(np.mean(fit["mu"].values[:, 0] < 0) - 0.5) < 0.03
        assert np.all(np.abs(fit.probabilities("z") - 0.5) < 0.06)


def three(y: Any, w: Any = None) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 5.0).expand([3]).to_event(1))
    moves = taut.sample("moves", dist.Dirichlet(jnp.ones((3, 3))).to_event(1))
    chance = taut.sample("chance", dist.Dirichlet(jnp.ones(3))) if w is None else w
    with taut.plate("rows", len(y)):
        a = taut.sample("a", dist.Categorical(chance))
        b = taut.sample("b", dist.Categorical(moves[a]))
        taut.sample("y", dist.Normal(mu[a] + mu[b], 0.3), obs=y)


def test_the_orders_that_draws_hold_are_counted():
    """Draws made by hand: of all orders alike, of the three cyclic ones, of one; and a model without exchange."""
    y, rng, n = np.array([-6.0, -5.7, 0.1, 6.2]), np.random.default_rng(0), 6000
    cycles = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    every = np.array(list(itertools.permutations(range(3))))

    def draws(ways: np.ndarray) -> dict[str, np.ndarray]:
        way = ways[rng.integers(len(ways), size=n)]
        mu = np.take_along_axis(np.array([-3.0, 0.0, 3.0]) + 0.1 * rng.normal(size=(n, 3)), way, 1)
        return {"mu": mu, "moves": rng.dirichlet(np.ones(3), (n, 3)), "chance": rng.dirichlet(np.ones(3), n)}

    problem = taut.Problem(three, dict(y=y))
    # Half a sum of six shares' differences from 1/6: 0, 1/2, 5/6, to the noise of 6,000 draws.
    for ways, held, off in ((every, 6, 0.0), (cycles, 3, 0.5), (every[:1], 1, 5 / 6)):
        found = orders(problem, draws(ways), np.zeros(0))
        assert found is not None and found.components == (0, 1, 2) and (found.name == "mu" or off == 0.0)
        assert (found.number, found.held) == (6, held) and abs(found.off - off) < 0.03
    # Two components alike and one apart; all apart.
    for w, number in ((np.array([0.2, 0.2, 0.6]), 2), (np.array([0.1, 0.2, 0.7]), None)):
        kept = draws(every[:1])
        del kept["chance"]
        found = orders(taut.Problem(three, dict(y=y, w=w)), kept, np.zeros(0))
        assert (None if found is None else found.number) == number
        assert found is None or found.components == (0, 1)


def test_orders_of_components_that_stand_in_sites_of_their_own():
    y, rng, n = np.array([-2.0, -1.5, 1.0]), np.random.default_rng(1), 4000

    def model(y: Any) -> None:
        mu = jnp.stack([taut.sample(f"mu_{k}", dist.Normal(0.0, 3.0)) for k in range(2)])
        share = taut.sample("share", dist.Beta(2.0, 2.0))
        with taut.plate("rows", len(y)):
            z = taut.sample("z", dist.Bernoulli(share))
            taut.sample("y", dist.Normal(mu[z], 1.0), obs=y)

    problem = taut.Problem(model, dict(y=y))
    side = rng.integers(2, size=n)
    for first, off in ((side, 0.0), (np.zeros(n, int), 0.5)):
        mu = np.array([-2.0, 1.0]) + 0.1 * rng.normal(size=(n, 2))
        mu, share = np.where(first[:, None] == 1, mu[:, ::-1], mu), rng.beta(2.0, 5.0, size=n)
        share = np.where(first == 1, 1.0 - share, share)
        found = orders(problem, {"mu_0": mu[:, 0], "mu_1": mu[:, 1], "share": share}, np.zeros(0))
        # Half of the differences of two shares from 1/2, to the noise of 4,000 draws.
        assert found is not None and found.number == 2 and abs(found.off - off) < 0.04
        assert found.name in ("mu_0, mu_1", "share")


def test_three_exchangeable_components_are_not_trusted_with_half_of_their_orders():
    y = np.concatenate([np.linspace(-5.0, -3.0, 6), np.linspace(0.0, 1.0, 5), np.linspace(4.0, 6.0, 8)])

    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 5.0).expand([3]).to_event(1))
        with taut.plate("rows", len(y)):
            z = taut.sample("z", dist.Categorical(jnp.ones(3) / 3))
            taut.sample("y", dist.Normal(mu[z], 0.7), obs=y)

    fit = taut.fit(model, dict(y=y))
    shares = np.unique(np.argsort(fit["mu"].values, axis=1), axis=0, return_counts=True)[1] / len(fit["mu"].values)
    if len(shares) < 6 or shares.min() < 0.05:
        assert fit.verdict.level == NOT_TRUSTED and "may change places" in fit.verdict.headline
        assert np.isinf(fit.evidence().high)
    else:
        assert fit.verdict.level in (TRUSTED, CORRECTED)


def test_orders_of_components_that_are_summed_by_hand_are_counted():
    """Three components of equal density: whatever the fit, it holds all six orders or is not trusted."""
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(m, 1.0, 40) for m in (-4.0, 0.0, 4.0)])

    def model(y: Any) -> None:
        w = taut.sample("w", dist.Dirichlet(jnp.ones(3)))
        with taut.plate("k", 3):
            mu = taut.sample("mu", dist.Normal(0.0, 5.0))
            s = taut.sample("s", dist.LogNormal(0.0, 0.5))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.MixtureSameFamily(dist.Categorical(w), dist.Normal(mu, s)), obs=y)

    fit = taut.fit(model, dict(y=y))
    check = next(c for c in fit.verdict.checks if c.name == "orders")
    shares = dict.fromkeys(itertools.permutations(range(3)), 0)
    for draw in fit.draws(4000)["mu"]:
        shares[tuple(int(i) for i in np.argsort(draw))] += 1
    off = sum(abs(n / 4000 - 1 / 6) for n in shares.values()) / 2
    assert check.passed == (off < 0.25)
    assert check.passed or fit.verdict.level == "not trusted"
