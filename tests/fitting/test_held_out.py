"""Held-out rows: their objective against its closed form, at the same steps however a run is cut, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import taut
from taut import dist
from taut._errors import TautError
from taut.algorithms import SVI, Progress
from taut.data import Batches
from taut.fitting._held_out import overfits
from taut.fitting._smooth import pooled

N, M = 103, 57
RNG = np.random.default_rng(0)
X, X2 = RNG.standard_normal((N, 2)), RNG.standard_normal((M, 2))
W = np.array([1.0, -0.5])
Y, Y2 = X @ W + RNG.standard_normal(N), X2 @ W + RNG.standard_normal(M)


def model(x: Any, y: Any) -> None:
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(x @ w, 1.0), obs=y)


class Breaking:
    """The rows in tables of 30; Ctrl-C comes when they are read for the ``at``-th time."""

    def __init__(self, at: int = 0):
        self.at, self.read = at, 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        self.read += 1
        if self.read == self.at:
            raise KeyboardInterrupt
        for begin in range(0, N, 30):
            yield dict(x=X[begin : begin + 30], y=Y[begin : begin + 30])


def run(data: Any = None, chunk: int = 400, steps: int = 700, **options: Any) -> taut.Fit:
    batches = Batches(Breaking() if data is None else data, size=10, plate="rows")
    svi = SVI(steps=steps, chunk=chunk, tolerance=0.0)
    options = {"held_out": dict(x=X2, y=Y2)} | options
    return taut.fit(model, batches, guide=taut.guides.MeanField(), algorithm=svi, verify=False, draws=400, **options)


@pytest.fixture(scope="module")
def whole() -> taut.Fit:
    return run()


def closed_form(loc: np.ndarray, scale: np.ndarray) -> float:
    """The objective of the held-out rows, which stand for all N, at a mean-field normal."""
    squares = (Y2 - X2 @ loc) ** 2 + X2**2 @ scale**2
    of_rows = np.sum(-0.5 * np.log(2 * np.pi) - 0.5 * squares)
    kl = np.sum(0.5 * (scale**2 + loc**2 - 1.0) - np.log(scale))
    return N / M * of_rows - kl


def test_the_objective_of_held_out_rows_is_its_closed_form(whole: taut.Fit):
    value, se, unit = whole.numbers["held out"]
    params = whole.guide.params
    exact = closed_form(np.asarray(params["loc"]), np.exp(np.asarray(params["log_scale"])))
    # Two draws for each of six batches: the error is itself known to a third, hence five of it.
    assert se is not None and abs(value - exact / N) < 5 * se and se < 0.05
    assert unit == "nats a row" and "held out" in str(whole)


def test_looks_are_taken_four_times_a_stage_and_are_kept(whole: taut.Fit, tmp_path: Any):
    assert whole.held_out[:, 0].tolist() == [100, 200, 300, 400, 500, 600, 700]
    assert np.all(np.isfinite(whole.held_out))
    again = taut.load(whole.save(tmp_path / "fit.taut"))
    np.testing.assert_array_equal(again.held_out, whole.held_out)
    # Where the run ends the best average is looked at, as in the result.
    assert whole.held_out[-1, 1] == pytest.approx(N * whole.numbers["held out"][0], rel=1e-12)


def test_looks_do_not_depend_on_the_chunk(whole: taut.Fit):
    other = run(chunk=7)
    np.testing.assert_array_equal(other.held_out, whole.held_out)
    for ours, theirs in zip(other.state, whole.state, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("at", [15, 48])
def test_a_run_that_is_interrupted_goes_on_with_its_looks(whole: taut.Fit, at: int, tmp_path: Any):
    broken = run(Breaking(at), checkpoint=taut.Checkpoint(tmp_path / "run.state", seconds=0.0))
    assert broken.status == "interrupted" and 0 < len(broken.held_out) < 7
    for again in (run(resume=broken), run(checkpoint=tmp_path / "run.state")):
        np.testing.assert_array_equal(again.held_out, whole.held_out)
        for ours, theirs in zip(again.state, whole.state, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_every_so_many_steps():
    fit = run(steps=300, held_out=taut.HeldOut(Batches(dict(x=X2, y=Y2), size=20, plate="rows"), every=120))
    assert fit.held_out[:, 0].tolist() == [120, 240]
    looks = [step for step in range(1, 2001) if taut.HeldOut(None).is_look(step)]
    assert looks == [100, 200, 300, 400, 500, 600, 700, 800, 1000, 1200, 1400, 1600, 2000]


def test_a_point_that_overfits_is_told_so():
    rng = np.random.default_rng(1)
    x, x2 = rng.standard_normal((40, 30)), rng.standard_normal((400, 30))
    y, y2 = x[:, 0] + rng.standard_normal(40), x2[:, 0] + rng.standard_normal(400)

    def wide(x: Any, y: Any) -> None:
        w = taut.sample("w", dist.Normal(0.0, 10.0).expand([30]).to_event(1))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Normal(x @ w, 1.0), obs=y)

    fit = taut.fit(
        wide,
        Batches(dict(x=x, y=y), size=40, plate="rows"),
        guide=taut.guides.Delta(),
        algorithm=SVI(steps=1600),
        held_out=dict(x=x2, y=y2),
    )
    # The mode of 30 coefficients from 40 rows: far above the truth on these rows, and below it on others.
    (said,) = [note for note in fit.verdict.notes if note.startswith("overfits since step")]
    best = int(np.argmax(fit.held_out[:, 1]))
    assert f"step {int(fit.held_out[best, 0]):,}:" in said and said in " ".join(str(fit).split())
    design = x.T @ x + np.eye(30) / 100
    mode = np.linalg.solve(design, x.T @ y)
    log_prior = np.sum(-0.5 * np.log(2 * np.pi * 100) - mode**2 / 200)
    exact = 40 / 400 * np.sum(-0.5 * np.log(2 * np.pi) - 0.5 * (y2 - x2 @ mode) ** 2) + log_prior
    # Without noise the run is at the mode to within a hundredth of a nat of its own objective.
    assert abs(40 * fit.numbers["held out"][0] - exact) < 0.05 * abs(exact)


def test_what_is_called_overfitting():
    def history(values: list[float], se: float = 0.1) -> list[Progress]:
        return [Progress("svi", 100 * (i + 1), v, se) for i, v in enumerate(values)]

    def looks(values: list[float], se: float = 0.1) -> np.ndarray:
        return np.array([[100.0 * (i + 1), v, se] for i, v in enumerate(values)])

    rising, hump, falling = [-9.0, -7.0, -6.0, -5.0], [-9.0, -7.0, -8.0, -8.5], [-5.0, -6.0, -7.0, -8.0]
    (said,) = overfits(looks(hump), history(rising), rows=10)
    assert said.startswith("overfits since step 200: ") and "fell by 0.15 nats a row" in said and "rose by 0.2 " in said
    assert overfits(looks(rising), history(rising), 10) == ()
    assert overfits(looks(hump), history(falling), 10) == ()
    assert overfits(looks(hump, 2.0), history(rising), 10) == ()
    assert overfits(looks(hump), history(rising, 2.0), 10) == ()


def test_records_are_pooled():
    records = [Progress("svi", 1, -3.0, 0.3), Progress("svi", 2, -1.0, 0.4), Progress("svi", 3, 7.0, np.inf)]
    assert pooled(records) == (-2.0, 0.25)
    assert pooled(records[2:]) == (7.0, np.inf)


def rows(y: Any) -> None:
    with taut.plate("rows", len(y)):
        z = taut.sample("z", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)


def test_what_cannot_be_held_out_is_refused():
    with pytest.raises(TautError) as refused:
        taut.fit(model, dict(x=X, y=Y), held_out=dict(x=X2, y=Y2))
    assert refused.value.code == "bad-combination" and "taut.data.Batches" in str(refused.value)
    with pytest.raises(TautError) as refused:
        run(held_out=Batches(dict(x=X2, y=Y2), size=10, plate="others"))
    assert refused.value.site == "held_out" and "'others'" in str(refused.value)
    with pytest.raises(TautError) as refused:
        batches = Batches(dict(y=Y), size=10, plate="rows")
        taut.fit(rows, batches, guide=taut.guides.MeanField(), algorithm=SVI(steps=200), held_out=dict(y=Y2))
    assert refused.value.site == "held_out" and "every row" in str(refused.value)
    for every in (0, 1.5, True):
        with pytest.raises(TautError) as refused:
            taut.HeldOut(dict(x=X2, y=Y2), every=every)  # pyright: ignore[reportArgumentType]
        assert refused.value.site == "every"
