"""Mistakes with shapes and data, cases 18 to 30: one sentence before the first step, or the right number."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taut
from benchmarks.synthetic.targets import TARGETS
from taut import dist, guides, objectives, testing
from taut._errors import TautError
from taut.algorithms import SVI, Laplace
from taut.core import PlateFrame, Site, log_density
from taut.problem import Problem

RNG = np.random.default_rng(0)


def refused(code: str, make: Callable[[], Any], *words: str) -> TautError:
    with pytest.raises(TautError) as caught:
        make()
    assert caught.value.code == code, str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    return caught.value


# 18: rows against columns.

X = RNG.standard_normal(100)
LINE = 2.0 * X + 0.1 * RNG.standard_normal(100)


def line(x: Any, y: Any) -> None:
    slope = taut.sample("slope", dist.Normal(0.0, 10.0))
    with taut.plate("rows", 100):
        taut.sample("y", dist.Normal(slope * x, 0.1), obs=y)


def line_without_plate(x: Any, y: Any) -> None:
    slope = taut.sample("slope", dist.Normal(0.0, 10.0))
    taut.sample("y", dist.Normal(slope * x, 0.1).to_event(1), obs=y)


def helper(x: Any, y: Any) -> None:
    def likelihood(name: str, mean: Any) -> None:
        with taut.plate("outer", 1, dim=-2), taut.plate("rows", 100, dim=-1):
            taut.sample(name, dist.Normal(mean, jnp.ones(100)), obs=y)

    likelihood("y", taut.sample("slope", dist.Normal(0.0, 10.0)) * x)


@pytest.mark.parametrize("model", [line, line_without_plate, helper])
@pytest.mark.parametrize("x, y", [(X, LINE[:, None]), (X, LINE[None, :, None]), (X, LINE[:99]), (X, LINE[0])])
def test_case_18_data_of_another_shape_than_the_distribution(model: Any, x: Any, y: Any):
    error = refused("data-shape", lambda: Problem(model, dict(x=x, y=y)), f"{y.shape}", "100")
    assert error.site == "y" and error.source is not None and error.source.startswith("test_shapes_and_data.py")


def test_case_18_a_column_of_means():
    error = refused("data-shape", lambda: Problem(line, dict(x=X[:, None], y=LINE)), "(100, 100)", "(100,)")
    assert error.site == "y"


def test_case_18_the_right_shape_finds_the_slope():
    fit = taut.fit(line, dict(x=X, y=LINE), verify=False)
    # Least squares, shrunk by a prior of sd 10: nothing of it shows. 16,000 draws know the mean to 1e-4.
    assert float(fit["slope"].mean) == pytest.approx(X @ LINE / (X @ X), abs=1e-3)


# 19: dimensions that belong to nobody.


def free(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    taut.sample("y", dist.Normal(mu + jnp.zeros(100), 1.0), obs=y)


def half_free(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("columns", 4):
        taut.sample("y", dist.Normal(mu * jnp.ones((25, 1)), 1.0), obs=y.reshape(25, 4))


def inner_latent(y: Any) -> None:
    """The latent's vector meets the plate's rows: 3 x 100 numbers where one of the two was meant."""
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 100):
        taut.sample("y", dist.Normal(mu, 1.0).expand([3, 100]))
        taut.sample("z", dist.Normal(mu, 1.0), obs=y)


def free_factor(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", 100):
        taut.factor("y", -((y[:, None] - mu - y) ** 2))


@pytest.mark.parametrize(
    "model, dim", [(free, -1), (half_free, -2), (inner_latent, -2), (free_factor, -2)], ids=lambda v: str(v)[:20]
)
def test_case_19_a_dimension_in_no_plate(model: Any, dim: int):
    error = refused("unowned-dimension", lambda: Problem(model, dict(y=X)), f"dimension {dim}", "taut.plate(")
    assert error.site == "y" and 'allow="unowned-dimension"' in error.remedy
    assert model in (half_free, free_factor, inner_latent) or ".to_event(1)" in error.remedy


def test_case_19_a_vector_of_latents_needs_no_plate():
    """Three coefficients are three unknown numbers, with or without to_event; an alarm would be a false one."""

    def model(y: Any, event: bool) -> None:
        b = taut.sample("b", dist.Normal(jnp.zeros(3), 1.0).to_event(int(event)))
        with taut.plate("rows", 100):
            taut.sample("y", dist.Normal(b.sum(), 1.0), obs=y)

    at = {"b": np.array([0.1, -0.4, 2.0])}
    plain, event = (Problem(model, dict(y=X, event=e)).log_joint(at) for e in (False, True))
    assert float(plain) == pytest.approx(float(event), rel=1e-12)


def test_case_19_opt_outs_and_owned_dimensions():
    def allowed(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(mu + jnp.zeros(100), 1.0), obs=y, allow="unowned-dimension")

    def owned(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0).expand([1]))
        with taut.plate("a", 25, dim=-2), taut.plate("b", 4, dim=-1):
            taut.sample("y", dist.Normal(mu, 1.0), obs=y.reshape(25, 4))
        taut.factor("all of it", -(y**2))

    def event(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(jnp.zeros(3), 1.0).to_event(1))
        taut.sample("y", dist.Normal(mu[0] + jnp.zeros(100), 1.0).to_event(1), obs=y)

    for model in (allowed, owned, event):
        Problem(model, dict(y=X))


# 20: plates.


@pytest.mark.parametrize("second", [dict(size=7), dict(size=5, dim=-2), dict(size=5, subsample_size=2)])
@pytest.mark.parametrize("nested", [False, True])
def test_case_20_a_plate_is_opened_again_with_another_size(second: dict[str, int], nested: bool):
    def inside() -> None:
        with taut.plate("rows", **second):
            taut.sample("b", dist.Normal(0.0, 1.0))

    def model() -> None:
        with taut.plate("rows", 5):
            taut.sample("a", dist.Normal(0.0, 1.0))
        if nested:
            with taut.plate("others", 2, dim=-3):
                inside()
        else:
            inside()

    error = refused("plate-reuse", lambda: Problem(model, {}, subsample=True), "one plate per name")
    assert error.site == "rows"


# 21 to 23, 26: batches.

N, B = 10_000, 100
ROWS = RNG.standard_normal(N) + 0.5


def mean_of(y: Any) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


def test_case_21_batches_fed_by_a_loop():
    svi, guide = SVI(steps=400, chunk=10), guides.MeanField()
    problem = Problem(mean_of, dict(y=ROWS[:B]))
    state, _ = svi.step(problem, guide, svi.init(problem, guide, 0))
    state, _ = svi.step(Problem(mean_of, dict(y=ROWS[:B])), guide, state)  # equal data are the same data
    following = Problem(mean_of, dict(y=ROWS[B : 2 * B]))
    error = refused("batch-total", lambda: svi.step(following, guide, state), "full size", "subsample_size=100")
    assert error.site == "y"
    svi.step(following, guide, state._replace(data=None))  # on purpose: not compared


@pytest.mark.parametrize("size", [None, "all"])
def test_case_21_a_plate_of_unknown_size(size: Any):
    def model(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", size, subsample_size=B):
            taut.sample("y", dist.Normal(mu, 1.0), obs=y)

    error = refused("plate-size", lambda: Problem(model, dict(y=ROWS[:B])))
    assert error.site == "rows"


def batched(y: Any, batch: int) -> None:
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y), subsample_size=batch) as rows:
        taut.sample("y", dist.Normal(mu, 1.0), obs=y[rows])


@pytest.mark.parametrize("rows, algorithm", [(N, None), (1_000, SVI(steps=3_200))], ids=["whole", "batches"])
def test_case_21_and_26_the_posterior_counts_every_row_once(rows: int, algorithm: Any):
    y = ROWS[:rows]
    guide = None if algorithm is None else guides.MeanField()
    fit = taut.fit(batched, dict(y=y, batch=B), guide=guide, algorithm=algorithm, verify=False, draws=1_000)
    # N(sum / (N + 1), 1 / (N + 1)): sd 0.0100 for 10,000. A mean in place of a sum gives 0.707, one batch for all
    # 0.0995. The sd of 1,000 draws is known to 2 %, their mean to sd / 30.
    sd = (rows + 1) ** -0.5
    assert float(fit["mu"].sd) == pytest.approx(sd, rel=0.12)
    assert float(fit["mu"].mean) == pytest.approx(y.sum() / (rows + 1), abs=0.3 * sd)


def term(model: Callable[..., Any], data: dict[str, Any], values: dict[str, Any], rows: Any) -> float:
    """The log joint at given latents with the plate standing at given rows."""
    size = len(data["y"])
    standing = Site("plate", "rows", fn=PlateFrame("rows", size, len(rows), -1), value=np.asarray(rows))
    with (
        taut._precision.scope("float64"),
        taut.handlers.trace() as sites,
        taut.handlers.substitute(data=values),
        taut.handlers.replay(trace={"rows": standing}),
    ):
        model(**data)
        return float(sum(jnp.sum(log_density(s)) for s in sites.values() if s.kind == "sample"))


def test_case_22_rows_that_are_no_multiple_of_the_batch():
    y = ROWS[:100]
    data, values = dict(y=y, batch=40), {"mu": np.asarray(0.3)}
    whole = term(batched, data, values, np.arange(100))
    prior = -0.5 * 0.3**2 - 0.5 * np.log(2 * np.pi)
    likelihood = np.sum(-0.5 * (y - 0.3) ** 2 - 0.5 * np.log(2 * np.pi))
    assert whole == pytest.approx(prior + likelihood, rel=1e-10)
    # One batch of 40 counts 2.5 times.
    first = np.sum(-0.5 * (y[:40] - 0.3) ** 2 - 0.5 * np.log(2 * np.pi))
    assert term(batched, data, values, np.arange(40)) == pytest.approx(prior + 2.5 * first, rel=1e-10)
    # An epoch of batches of 40, 40 and 20, each weighed by its share of rows.
    epoch = [np.arange(0, 40), np.arange(40, 80), np.arange(80, 100)]
    total = sum(len(rows) / 100 * term(batched, data, values, rows) for rows in epoch)
    assert total == pytest.approx(whole, abs=1e-6)
    # And a step's own batches are 40 rows, each 2.5 times.
    problem = Problem(batched, data, subsample=True)
    rows = np.asarray(problem.program.evaluate("rows", {}, *problem.inputs)["rows"])
    assert rows.shape == (40,) and len(set(rows.tolist())) == 40


def test_case_23_guide_and_model_stand_at_the_same_rows():
    n, batch = 60, 20
    y = np.linspace(-3.0, 3.0, n)

    def model(y: Any) -> None:
        with taut.plate("rows", n, subsample_size=batch) as rows:
            z = taut.sample("z", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(z, 1.0), obs=y[rows])

    def guide() -> None:
        loc = taut.param("loc", jnp.zeros(n))
        scale = taut.param("scale", jnp.ones(n), constraint=dist.constraints.positive)
        with taut.plate("rows", n, subsample_size=batch) as rows:
            taut.sample("z", dist.Normal(loc[rows], scale[rows]))

    fit = taut.fit(model, dict(y=y), guide=guide, algorithm=SVI(), verify=False, draws=1_000)
    # Each row has its own posterior, N(y / 2, 1/2); rows that were mixed up would all have mean 0.
    found = fit["z"].mean
    assert np.max(np.abs(found - y / 2)) < 0.15
    assert np.corrcoef(found, y)[0, 1] > 0.99


@pytest.mark.parametrize(
    "data",
    [
        lambda: dict(y=(y for y in ROWS)),
        lambda: dict(y=iter([ROWS[:B], ROWS[B : 2 * B]])),
        lambda: dict(y=map(float, ROWS)),
        lambda: dict(y=zip(ROWS, ROWS)),
        lambda: dict(y={"inner": (y for y in ROWS)}),
    ],
)
def test_case_24_an_iterator_as_data(data: Any):
    refused("data-iterator", lambda: taut.fit(mean_of, data()), "subsample_size", "np.concatenate")


def test_case_24_an_iterator_that_the_model_reads_itself():
    stream = iter([ROWS[:B], ROWS[B:]])

    def model() -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        with taut.plate("rows", B):
            taut.sample("y", dist.Normal(mu, 1.0), obs=next(stream))

    error = refused("data-iterator", lambda: taut.fit(model))
    assert error.site == "stream" and next(stream).shape == (B,)  # nothing was taken


# 25.


@pytest.mark.parametrize(
    "weights, word", [([0.5, 0.5, 0.5], "1.5"), ([0.2, 0.2], "0.4"), ([1.5, -0.5], "-0.5"), ([np.nan, 1.0], "nan")]
)
def test_case_25_weights_that_do_not_sum_to_one(weights: Any, word: str):
    refused("kl-weights", lambda: objectives.KLWeights(weights), word, "sum to 1")


@pytest.mark.parametrize("batches", [1, 2, 127, 128, 129, 1000])
def test_case_25_blundells_weights_for_any_number_of_batches(batches: int):
    weights = np.asarray(objectives.Blundell(batches).weights, np.float32)
    assert np.all(np.isfinite(weights)) and weights.sum(dtype=np.float32) == pytest.approx(1.0, abs=1e-6)
    exact = [2 ** (batches - i) / (2**batches - 1) for i in range(1, min(batches, 20) + 1)]  # whole numbers of Python
    np.testing.assert_allclose(weights[:20], exact, rtol=1e-6)


# 26: the KL term of a network is counted once, whatever the batch.


def network(x: Any, y: Any, batch: int) -> None:
    w1 = taut.sample("w1", dist.Normal(jnp.zeros((1, 4)), 1.0).to_event(2))
    w2 = taut.sample("w2", dist.Normal(jnp.zeros(4), 1.0).to_event(1))
    with taut.plate("rows", len(y), subsample_size=batch) as rows:
        taut.sample("y", dist.Normal(jnp.tanh(x[rows][:, None] @ w1) @ w2, 1.0), obs=y[rows])


@pytest.mark.parametrize("batch", [32, 100, 512])
def test_case_26_the_parts_of_any_partition_add_up(batch: int):
    n = 1_000
    x, y = ROWS[:n], ROWS[n : 2 * n]
    values = {"w1": RNG.standard_normal((1, 4)), "w2": RNG.standard_normal(4)}
    data = dict(x=x, y=y, batch=batch)
    whole = term(network, data, values, np.arange(n))
    order = RNG.permutation(n)
    parts = [order[i : i + batch] for i in range(0, n, batch)]
    total = sum(len(rows) / n * term(network, data, values, rows) for rows in parts)
    assert total == pytest.approx(whole, rel=1e-10)


def test_case_27_sums_over_dimensions_are_the_librarys():
    y = ROWS[:100]

    def event(y: Any) -> None:
        z = taut.sample("z", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(z, jnp.ones(100)).to_event(1), obs=y)

    for model in (event, mean_of):
        fit = taut.fit(model, dict(y=y), verify=False)
        latent = "z" if model is event else "mu"
        # sd 1 / sqrt(101) = 0.0995, known to 0.6 % from 16,000 draws; a mean over the dimensions gives 0.707.
        assert float(fit[latent].sd) == pytest.approx(101**-0.5, rel=0.03)


# 28 and 29: values.

PIXELS = np.clip(RNG.random((6, 4)), 0.01, 0.99)


def pixels(x: Any, make: Any = dist.Bernoulli, **allow: Any) -> None:
    z = taut.sample("z", dist.Normal(0.0, 1.0))
    with taut.plate("images", len(x)):
        taut.sample("x", make(logits=z * jnp.ones(4)).to_event(1), obs=x, **allow)


def halved(x: Any) -> None:
    pixels(x / 255.0)


@pytest.mark.parametrize("model, data", [(pixels, PIXELS), (halved, PIXELS * 255.0), (lambda x: pixels(x), PIXELS)])
def test_case_28_grey_pixels_under_a_bernoulli(model: Any, data: Any):
    error = refused("soft-targets", lambda: Problem(model, dict(x=data)), "24 of 24", f"{PIXELS.max():g}")
    assert error.site == "x" and f"{PIXELS.min():g}" in error.found
    for way in (
        "x > 0.5" if "x > 0.5" in error.remedy else "> 0.5",
        "dist.ContinuousBernoulli",
        'allow="soft-targets"',
    ):
        assert way in error.remedy


def test_case_28_the_three_ways():
    Problem(pixels, dict(x=(PIXELS > 0.5).astype(float)))
    Problem(lambda x: pixels(x, dist.ContinuousBernoulli), dict(x=PIXELS))
    problem = Problem(lambda x: pixels(x, allow="soft-targets"), dict(x=PIXELS))
    assert any("not a likelihood" in note and "not comparable" in note for note in problem.notes)
    # The cross-entropy, and nothing else.
    expected = np.sum(PIXELS * np.log(0.5) + (1 - PIXELS) * np.log(0.5)) - 0.5 * np.log(2 * np.pi)
    assert float(problem.log_joint({"z": 0.0})) == pytest.approx(expected)


def test_case_28_values_beyond_one_are_something_else():
    refused("data-support", lambda: Problem(pixels, dict(x=PIXELS * 255.0)), "24 of 24")


def test_case_28_the_continuous_bernoulli_is_a_density():
    logits = np.array([-30.0, -2.0, -0.06, -0.01, 0.0, 0.04, 3.0, 100.0])
    grid = (np.arange(200_000) + 0.5) / 200_000
    with taut._precision.scope("float64"):
        fn = dist.ContinuousBernoulli(logits=jnp.asarray(logits))
        density = np.exp(np.asarray(fn.log_prob(jnp.asarray(grid)[:, None])))
        draws = np.asarray(fn.sample(jax.random.key(0), (40_000,)))
        mean = np.asarray(fn.mean)
    # The midpoint rule errs by (h l)^2 / 24 < 2e-8.
    np.testing.assert_allclose(density.mean(0), 1.0, atol=1e-7)
    np.testing.assert_allclose((grid[:, None] * density).mean(0), mean, atol=1e-6)
    np.testing.assert_allclose(draws.mean(0), mean, atol=5 * 0.29 / 200)
    assert np.all((draws >= 0) & (draws <= 1))


def test_case_29_missing_values():
    y = ROWS[:100].copy()
    y[[17, 40, 99]] = np.nan
    error = refused("data-nonfinite", lambda: Problem(mean_of, dict(y=y)), "3 NaN of 100", "first at [17]", "mask")
    assert error.site == "y"


def test_case_29_masked_missing_values_are_dropped_rows():
    y = ROWS[:100].copy()
    y[[17, 40, 99]] = np.nan

    def masked(y: Any) -> None:
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        sigma = taut.sample("sigma", dist.LogNormal(0.0, 1.0))
        with taut.plate("rows", len(y)), taut.handlers.mask(mask=~jnp.isnan(y)):
            taut.sample("y", dist.Normal(mu, sigma), obs=y)

    points = RNG.standard_normal((20, 2))
    found = [Problem(masked, dict(y=data)).kernel()(points, np.ones(2)) for data in (y, y[~np.isnan(y)])]
    assert np.all(np.isfinite(found[0][1]))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-12)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-10)


# 30: the same program on other data.


def test_case_30_new_data_of_equal_shapes_compile_nothing():
    first = taut.fit(mean_of, dict(y=ROWS[:50]), verify=False)
    second = taut.fit(mean_of, dict(y=ROWS[50:100] + 3.0), verify=False)
    assert second.numbers["compilations"][0] == 0 and first.numbers["compilations"][0] >= 0
    for fit, y in ((first, ROWS[:50]), (second, ROWS[50:100] + 3.0)):
        # The sd of a mean of 16,000 draws of sd 0.14 is 0.0011.
        assert float(fit["mu"].mean) == pytest.approx(y.sum() / 51, abs=0.006)


def test_case_30_a_hundred_fits_keep_memory_flat():
    def go(shift: float) -> Any:
        return taut.fit(mean_of, dict(y=ROWS[:50] + shift), algorithm=Laplace(), verify=False, draws=1_000)

    go(0.0)
    go(1.0)
    alive = len(jax.live_arrays())
    total = sum(go(0.01 * i).numbers["compilations"][0] for i in range(100))
    assert total == 0
    assert len(jax.live_arrays()) <= alive + 5


# No false alarms.


@pytest.mark.parametrize("name", list(TARGETS))
def test_synthetic_targets_pass_without_a_word(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Problem(TARGETS[name].model, TARGETS[name].data)


@pytest.mark.parametrize("make", testing.EXACT, ids=lambda make: make.__name__)
def test_exact_problems_pass_without_a_word(make: Any):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().problem()


def test_the_examples_pass_without_a_word(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "examples"))
    demo = importlib.import_module("demo")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Problem(demo.schools, demo.SCHOOLS)
        Problem(demo.panel, demo.grunfeld())
    for name in ("demo", "eight_schools"):
        monkeypatch.delitem(sys.modules, name)
