"""The autoencoders' part of ``docs/reproductions.md``: tables beside the papers', and what was expected of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

# Burda et al. (2016), table 1: MNIST, all 60,000 images, nats an image; by layers, bound and k.
PAPER = {
    (1, "VAE"): {1: -86.76, 5: -86.47, 50: -86.35},
    (1, "IWAE"): {1: -86.76, 5: -85.54, 50: -84.78},
    (2, "VAE"): {1: -85.33, 5: -85.01, 50: -84.78},
    (2, "IWAE"): {1: -85.33, 5: -83.89, 50: -82.90},
}
# A careful re-implementation on the same data (nbip/IWAE), its doubly reparametrised gradient among them.
AGAIN = {
    (1, "IWAE", False): {1: -86.35, 5: -85.18, 50: -84.59},
    (2, "IWAE", False): {1: -84.83, 5: -83.48, 50: -82.82},
    (1, "IWAE", True): {1: -86.08, 5: -84.90, 50: -84.32},
}
# Nowozin (2018), table 1, K = 32: what JVI-1 adds to the IWAE, and JVI-2 to JVI-1, for models trained by the ELBO and
# by the IWAE.
JACKKNIFE = {"VAE": (0.56, 0.26), "IWAE": (0.77, 0.27)}
FIRST, SECOND = (0.4, 1.3), (0.15, 0.45)  # where these were expected here

Row = dict[str, Any]


class Difference(NamedTuple):
    """Of two arms on the same images: the mean in nats an image, and its standard error."""

    mean: float
    se: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ± {self.se:.2f}"


def section(rows: Iterable[Row]) -> str:
    """The section in Markdown.

    Args:
        rows: results of `benchmarks.neural.autoencoders`.
    """
    held = {row["arm"]: row for row in rows}
    if not held:
        return ""
    parts = ["## Autoencoders", _facts(held), _likelihoods(held), _expected(held), _jackknife(held)]
    return "\n\n".join(filter(None, parts)) + "\n"


def mean_of(row: Row, measure: str) -> Difference:
    """A measure of one arm over the test images."""
    values = np.asarray(row["test"][measure], float)
    return Difference(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def apart(better: Row, worse: Row, measure: str = "log_likelihood") -> Difference:
    """How much better one arm is than another, image by image."""
    values = np.asarray(better["test"][measure], float) - np.asarray(worse["test"][measure], float)
    return Difference(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def _facts(held: dict[str, Row]) -> str:
    row = next(iter(held.values()))
    train, validation, test = row["images"]
    epochs = sorted({r["epochs"] for r in held.values()})
    took = [r["seconds"] for r in held.values()]
    # Of arms that were trained beside other jobs no time is told.
    told = "" if None in took else f" All arms together trained for {sum(took) / 60:,.0f} minutes."
    share = "a sixth of the papers' data" if train < 10_000 else "the papers' data"
    return (
        "Networks as in Burda et al. (2016): 784-200-200-50, with two stochastic layers 784-200-200-100-100-100-50, "
        f"tanh. {train:,} images to train, {validation:,} to validate, {test:,} to test: **{share}**, so that only "
        "differences between arms compare with theirs, not levels. Dynamic binarisation, batches of 20, Adam from 1e-3 "
        f"down to 1e-4 along a cosine, {', '.join(map(str, epochs))} epochs (theirs: 3,280), one seed.{told}"
    )


def _likelihoods(held: dict[str, Row]) -> str:
    lines = [
        "| layers | bound | k | gradient | log p(x), test | paper | again | ELBO, test | log p, validation |",
        "| ---: | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(held.values(), key=lambda r: (r["layers"], r["bound"] == "IWAE", r["gradient"], r["k"])):
        layers, bound, k, doubly = row["layers"], row["bound"], row["k"], row["gradient"] == "DReG"
        paper = None if doubly else PAPER[layers, bound].get(k)
        again = AGAIN.get((layers, "IWAE", doubly), {}).get(k) if bound == "IWAE" or k == 1 else None
        cells = (
            layers,
            bound if k > 1 else "VAE = IWAE",
            k,
            row["gradient"],
            _estimate(mean_of(row, "log_likelihood")),
            _number(paper),
            _number(again),
            _estimate(mean_of(row, "elbo")),
            f"{np.mean(row['validation']['log_likelihood']):.2f}",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    samples = next(iter(held.values()))["samples"]
    return (
        "\n".join(lines)
        + f"\n\nlog p(x): importance weights of {samples:,} draws of q an image; ± is the standard error over images. "
        "*Paper*: Burda et al., 5,000 draws; *again*: a later and careful re-implementation (nbip/IWAE)."
    )


def _expected(held: dict[str, Row]) -> str:
    """What the papers lead one to expect, and whether it is so here."""
    claims: list[tuple[str, str, str]] = []

    def claim(words: str, better: str, worse: str) -> None:
        if better in held and worse in held:
            found = apart(held[better], held[worse])
            claims.append((words, str(found), _verdict(found)))

    for layers in (1, 2):
        name = "one layer" if layers == 1 else "two layers"
        claim(f"IWAE, {name}: k = 5 above k = 1", f"{layers}-IWAE-5", f"{layers}-VAE-1")
        claim(f"IWAE, {name}: k = 50 above k = 5", f"{layers}-IWAE-50", f"{layers}-IWAE-5")
        for k in (5, 50):
            claim(f"k = {k}, {name}: IWAE above VAE", f"{layers}-IWAE-{k}", f"{layers}-VAE-{k}")
            claim(f"IWAE, k = {k}, {name}: DReG above plain", f"{layers}-IWAE-{k}-DReG", f"{layers}-IWAE-{k}")
    for arm in ("VAE-1", "VAE-5", "VAE-50", "IWAE-5", "IWAE-50", "IWAE-5-DReG", "IWAE-50-DReG"):
        claim(f"{arm.replace('-', ' ')}: two layers above one", f"2-{arm}", f"1-{arm}")
    if not claims:
        return ""
    lines = ["| expected | difference, nats an image | here |", "| --- | ---: | --- |"]
    lines += [f"| {words} | {found} | {verdict} |" for words, found, verdict in claims]
    return (
        "### What was expected\n\n" + "\n".join(lines) + "\n\nDifferences are of the same test images; ± is their "
        "standard error over images, and does not hold what another seed of the training would change.\n\n"
        "Where a plain IWAE falls behind, so does its ELBO: its encoder is the worse one. The signal-to-noise ratio of "
        "the plain gradient of the encoder falls as k grows, that of DReG rises (Rainforth et al. 2018; Tucker et al. "
        "2019), and with it most of what was lost is there again. So few epochs leave all arms short of their end."
    )


def _jackknife(held: dict[str, Row]) -> str:
    particles = next(iter(held.values()))["particles"]
    lines = [
        f"| trained by | ELBO | IWAE({particles}) | JVI-1 | JVI-2 | JVI-1 - IWAE | JVI-2 - JVI-1 | expected |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    far = {}
    for name, row in held.items():
        means = [mean_of(row, measure) for measure in ("elbo", "iwae", "jvi1", "jvi2")]
        first, second = apart_within(row, "jvi1", "iwae"), apart_within(row, "jvi2", "jvi1")
        far[name] = apart_within(row, "log_likelihood", "elbo").mean, first.mean
        inside = FIRST[0] <= first.mean <= FIRST[1], SECOND[0] <= second.mean <= SECOND[1]
        words = (
            "as expected"
            if all(inside)
            else " and ".join(
                f"{what} outside {low}-{high}"
                for what, (low, high), ok in zip(("the first", "the second"), (FIRST, SECOND), inside, strict=True)
                if not ok
            )
        )
        cells = " | ".join(f"{m.mean:.2f}" for m in means)
        lines.append(f"| {name.replace('-', ' ')} | {cells} | {first} | {second} | {words} |")
    paper = "; ".join(f"{a:+.2f} and {b:+.2f} for models trained by the {n}" for n, (a, b) in JACKKNIFE.items())
    return (
        f"### The jackknife (Nowozin 2018), K = {particles}\n\n"
        + "\n".join(lines)
        + f"\n\nIn the paper, on all of MNIST with other networks: {paper}. JVI is an estimate and no bound."
        + _why(far)
    )


def _why(far: dict[str, tuple[float, float]]) -> str:
    """What the size of the correction goes with: pairs of log p(x) - ELBO and of JVI-1 - IWAE, by arm."""
    if len(far) < 5:
        return ""
    rank = float(spearmanr(*np.array(list(far.values())).T)[0])
    worst = max(far, key=lambda name: far[name][0])
    return (
        "\n\nJVI-1 - IWAE is an estimate of what the bound loses, half the relative variance of the weights over K, "
        "and goes with the distance from q to the posterior: its rank correlation with log p(x) - ELBO over these arms "
        "is "
        f"{rank:.2f}. Furthest is {worst.replace('-', ' ')}, with {far[worst][0]:.1f} nats and {far[worst][1]:+.2f}."
    )


def apart_within(row: Row, more: str, less: str) -> Difference:
    """The difference of two measures of one arm, image by image."""
    values = np.asarray(row["test"][more], float) - np.asarray(row["test"][less], float)
    return Difference(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def _verdict(found: Difference) -> str:
    if found.mean > 2 * found.se:
        return "yes"
    return "**no**" if found.mean < -2 * found.se else "lost in the noise"


def _estimate(found: Difference) -> str:
    return f"{found.mean:.2f} ± {found.se:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
