"""Figures of classifiers against sums by hand, and the page that shows them; no network is trained here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taut
from benchmarks.neural import networks, networks_page
from benchmarks.neural.arms import ARMS, classifier
from benchmarks.neural.images import Images, Rows
from benchmarks.neural.scoring import paired, scores, wrong
from taut import nn

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(size=(5, 40, 3)) * 2.0, RNG.integers(0, 3, 40)


def test_scores_are_those_of_the_mean_of_probabilities():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
    mean = p.mean(axis=0)
    own = np.log(mean[np.arange(40), LABELS])
    found = scores(LOGITS, LABELS)
    right = mean.argmax(axis=1) == LABELS
    np.testing.assert_allclose(found["error"], 100 * np.mean(~right))
    np.testing.assert_allclose(found["error_se"], 100 * np.std(~right) / np.sqrt(40))
    np.testing.assert_allclose(found["log_likelihood"], own.mean())
    np.testing.assert_allclose(found["log_likelihood_se"], own.std(ddof=1) / np.sqrt(40))
    brier = np.sum((mean - np.eye(3)[LABELS]) ** 2, axis=1)
    np.testing.assert_allclose((found["brier"], found["brier_se"]), (brier.mean(), brier.std(ddof=1) / np.sqrt(40)))
    assert wrong(LOGITS, LABELS) == np.flatnonzero(~right).tolist()
    # The mean of logarithms would be lower: Jensen.
    assert found["log_likelihood"] > np.log(p)[:, np.arange(40), LABELS].mean()


def test_the_difference_on_the_same_rows_is_that_of_pairs():
    first, second = RNG.random(200) < 0.2, RNG.random(200) < 0.1
    each = first.astype(float) - second
    difference, se = paired(np.flatnonzero(first).tolist(), np.flatnonzero(second).tolist(), 200)
    np.testing.assert_allclose(difference, 100 * each.mean())
    np.testing.assert_allclose(se, 100 * each.std() / np.sqrt(200))


@pytest.mark.parametrize("name", sorted(ARMS))
def test_every_arm_begins_at_its_module(name: str):
    # Small in everything but its words: the arm's own prior, guide and objective on six images of four pixels.
    import equinox as eqx
    import jax

    module: Any = eqx.nn.MLP(4, 3, 5, 2, key=jax.random.key(0))
    x, y = RNG.normal(size=(6, 4)).astype(np.float32), np.array([0, 1, 2, 0, 1, 2], np.int32)
    arm = ARMS[name]
    problem = taut.Problem(classifier(module, arm.prior), dict(x=x, y=y), precision="float32")
    guide = arm.guide(nn.AtModule("net", module))
    state = arm.algorithm(10).init(problem, guide, 0)
    leaves = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(module, eqx.is_array))])
    order = np.concatenate([np.ravel(getattr(layer, k)) for layer in module.layers for k in ("weight", "bias")])
    assert sorted(leaves.tolist()) == sorted(order.tolist())
    np.testing.assert_allclose(np.asarray(state.learned.guide["loc"]), order, rtol=1e-6)
    assert arm.draws == ("log_scale" in state.learned.guide or name == "dropout")


def told() -> dict[str, Any]:
    def row(label: str, error: float, missed: list[int], **more: Any) -> dict[str, Any]:
        test = dict(error=error, error_se=0.7, log_likelihood=-0.2, log_likelihood_se=0.02, ece=0.01, ece_se=0.002)
        return dict(label=label, epochs=10, seconds=60.0, test=test | dict(brier=0.08, wrong=missed)) | more

    curve = [dict(removed=s, error=5.0 + s, error_se=0.7) for s in networks.REMOVED]
    arms = {
        "map": row("MAP", 0.3, [1, 2, 3]),
        "bbb": row("BBB, normal prior", 0.4, [2, 3, 4, 5], elbo=-1.25, pruning=curve),
    }
    settings = dict(rows=[8000, 1000, 1000], size=125, units=400, draws=32, seed=0, reduced=False)
    grid = [0.1] * len(networks_page.GRID)
    regression = {
        "bbb": dict(inside=0.05, outside=[2.0, 1.0], ratio=[40.0, 20.0], sd=grid),
        "map": dict(inside=0.0, outside=[0.0, 0.0], ratio=[None, None], sd=grid),
    }
    return {"settings": settings, "arms": arms, "regression": regression}


def test_the_page_tells_the_results(tmp_path: Path):
    page = networks_page.section(json.loads(json.dumps(told())), "pictures/networks.svg")
    assert "8,000 training images where the paper has 60,000 (13 %)" in page
    # Errors on rows 4 and 5 against one on row 1: 1 in 1,000 more, sd sqrt(3 / 1000) = 0.0547, / sqrt(1000) = 0.17 %.
    assert (
        "| BBB, normal prior | 0.4 ± 0.7 | +0.1 ± 0.2 | -0.200 ± 0.020 | 0.010 ± 0.002 | 0.080 | -1.25 | 60 |" in page
    )
    assert "| BBB, Gaussian | 1.82 | 1.99 | 2.04 |" in page
    assert "| BBB, normal prior | 5.0 ± 0.7 | 5.5 ± 0.7 |" in page
    assert "| Bayes by Backprop | 0.05 | 2.00 | 1.00 | 40.0 and 20.0 |" in page and "| - and - |" in page
    assert page.count("pictures/networks.svg") == 1 and "do not go together" not in page
    # What is said of the bound is said where the figures say it.
    for elbo, error, said in ((-1.0, 0.9, True), (-1.0, 0.1, False), (-2.0, 0.9, False)):
        more = told()
        climbed = more["arms"]["bbb"] | {"elbo": elbo}
        climbed["test"] = climbed["test"] | {"error": error}
        more["arms"]["bbb-bound"] = climbed
        assert ("do not go together" in networks_page.section(more)) == said
    networks_page.draw(told(), tmp_path / "networks.svg")
    picture = (tmp_path / "networks.svg").read_text()
    assert "weights removed, %" in picture and "BBB, normal prior" in picture and len(picture) < 100_000


def test_results_of_other_arms_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = Images(*(Rows(np.zeros((n, 28, 28), np.uint8), np.zeros(n, np.uint8)) for n in (8, 1, 1)))
    monkeypatch.setattr(networks, "load", lambda path: images)
    monkeypatch.setattr(networks, "measure", lambda name, *_: {name: told()["arms"]["map"] | {"label": name}})
    monkeypatch.setattr(networks, "line", lambda name, row: name)
    out = tmp_path / "found.json"
    for name in ("map", "bbb"):
        assert networks.main([name, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert list(found["arms"]) == ["map", "bbb"] and found["settings"]["rows"] == [8, 1, 1]
    with pytest.raises(SystemExit):
        networks.main(["nothing", "--out", str(out)])
