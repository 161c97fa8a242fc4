"""The networks' part of ``docs/reproductions.md``, from their results; nothing is computed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.neural.networks import OUT
from benchmarks.neural.regression import GRID, INSIDE, OUTSIDE
from benchmarks.neural.scoring import paired

Told = Mapping[str, Any]
PLAIN = "bbb"  # Bayes by Backprop as in the paper

# Blundell et al. (2015): table 1, test error in percent by width of the two layers; table 2, after pruning.
WIDTHS = (400, 800, 1200)
THEIRS = {
    "SGD": (1.83, 1.84, 1.88),
    "SGD, dropout": (1.51, 1.33, 1.36),
    "BBB, Gaussian": (1.82, 1.99, 2.04),
    "BBB, scale mixture": (1.36, 1.34, 1.32),
}
PRUNED = {0.0: 1.24, 0.5: 1.24, 0.75: 1.24, 0.95: 1.29, 0.98: 1.39}
# Antoran's PyTorch reproduction with 1,200 units: error in percent, log-likelihood of 10,000 test images in nats.
AGAIN = {
    "MAP": (1.58, -572.9),
    "MC dropout": (1.37, -435.0),
    "BBB, Gaussian": (2.60, -1100.0),
    "BBB, Gaussian, local reparametrisation": (2.61, -1086.0),
    "BBB, scale mixture": (2.38, -1008.0),
}
_REGRESSION = {"bbb": "Bayes by Backprop", "map": "MAP", "dropout": "MC dropout", "laplace": "last-layer Laplace"}


def section(told: Told, picture: str | None = None) -> str:
    """Markdown of this part.

    Args:
        told: what `benchmarks.neural.networks` wrote.
        picture: where the picture lies, as a link; none without.
    """
    parts = ["## Bayes by Backprop", _facts(told), _arms(told), _reading(told), "### In the papers", _papers(told)]
    if any("pruning" in row for row in told["arms"].values()):
        parts += ["### Pruning by signal to noise", _pruning(told)]
    if "regression" in told:
        parts += ["### Sure where there are data", _regression(told["regression"])]
    if picture is not None:
        parts.append(f"![Test error as weights are removed; what arms say of a function away from data]({picture})")
    return "\n\n".join(parts) + "\n"


def draw(told: Told, path: Path) -> None:
    """The picture of this part: pruning curves, and standard deviations of the regression's function."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "taut", "font.size": 9}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
        for row in (row for row in told["arms"].values() if "pruning" in row):
            curve = row["pruning"]
            x, y, e = ([point[key] for point in curve] for key in ("removed", "error", "error_se"))
            left.errorbar([100 * v for v in x], y, e, label=row["label"], capsize=2, linewidth=1)
        left.set(xlabel="weights removed, %", ylabel="test error, %", yscale="log")
        left.legend(frameon=False, fontsize=7)
        for name, row in told.get("regression", {}).items():
            if row["ratio"][0] is not None:
                right.plot(GRID, row["sd"], label=_REGRESSION[name], linewidth=1)
        right.axvspan(*INSIDE, color="0.9", zorder=0, label="data")
        right.set(xlabel="x", ylabel="sd of the function", yscale="log")
        right.legend(frameon=False, fontsize=7)
        for axes, ticks in ((left, (3, 5, 10, 20, 40)), (right, (0.03, 0.1, 0.3, 1, 2))):
            axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_yticks([], minor=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def _facts(told: Told) -> str:
    s = told["settings"]
    train, validation, test = s["rows"]
    epochs = sorted({row["epochs"] for row in told["arms"].values()})
    reduced = " This is the reduced set, a fifth of the epochs." if s["reduced"] else ""
    return (
        f"Two layers of {s['units']} rectified units, {train:,} training images where the paper has 60,000 "
        f"({100 * train / 60_000:.0f} %), so that larger errors than the paper's are expected; {validation:,} for "
        f"validation, {test:,} for test. Pixels are divided by 126. {'/'.join(map(str, epochs))} epochs, batches of "
        f"{s['size']}, single precision, the same first weights. Prior, step size and width of Bayes by Backprop were "
        "chosen among about ten settings by the error of the validation images, those of IVON and MAP among two each, "
        "the others' not at all: the comparison leans towards Bayes by Backprop. Predictions are means over "
        f"{s['draws']} networks; the mean is inside of the logarithm. ± is the standard error over images.{reduced}"
    )


def _arms(told: Told) -> str:
    rows = [
        "| arm | error, % | against MAP | log-likelihood, nats | ECE | Brier | ELBO, nats a row | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    base = told["arms"].get("map")
    for name, row in told["arms"].items():
        test = row["test"]
        cells = [
            row["label"],
            f"{test['error']:.1f} ± {test['error_se']:.1f}",
            "" if base is None or name == "map" else "{:+.1f} ± {:.1f}".format(*_against(test, base["test"], told)),
            f"{test['log_likelihood']:.3f} ± {test['log_likelihood_se']:.3f}",
            f"{test['ece']:.3f} ± {test['ece_se']:.3f}",
            f"{test['brier']:.3f}",
            f"{row['elbo']:.2f}" if "elbo" in row else "",
            f"{row['seconds']:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _against(test: Told, base: Told, told: Told) -> tuple[float, float]:
    rows = told["settings"]["rows"][2]
    return paired(test["wrong"], base["wrong"], rows)


def _reading(told: Told) -> str:
    said = (
        "*Against MAP* is the difference of errors on the same images. Points and dropout have no ELBO. Seconds are "
        "wall time, of a machine that may have done other work beside."
    )
    climbed, plain = told["arms"].get("bbb-bound"), told["arms"].get(PLAIN)
    if not climbed or not plain or climbed["elbo"] < plain["elbo"] or climbed["test"]["error"] < plain["test"]["error"]:
        return said
    return said + (
        "\n\nThe bound and the error do not go together here. A weight that follows its prior costs nothing, and with "
        "so few images a wide network has the highest bound where many do: "
        f"{climbed['elbo']:.2f} nats a row and {climbed['test']['error']:.1f} % where the bound was "
        f"climbed further, {plain['elbo']:.2f} nats and {plain['test']['error']:.1f} % where q began narrow and, "
        "within these epochs, stayed so."
    )


def _papers(told: Told) -> str:
    rows = [
        "Blundell et al. (2015), table 1: test error in % with 60,000 training images, by units of a layer.",
        "",
        "| | " + " | ".join(map(str, WIDTHS)) + " |",
        "| --- |" + " ---: |" * len(WIDTHS),
        *(f"| {name} | " + " | ".join(f"{v:.2f}" for v in values) + " |" for name, values in THEIRS.items()),
        "",
        "A public reproduction of it (J. Antorán, 1,200 units), which came out less well for Bayes by Backprop:",
        "",
        "| | error, % | log-likelihood, nats an image |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {error:.2f} | {total / 10_000:.4f} |" for name, (error, total) in AGAIN.items()),
    ]
    return "\n".join(rows)


def _pruning(told: Told) -> str:
    arms = {name: row for name, row in told["arms"].items() if "pruning" in row}
    shares = [point["removed"] for point in next(iter(arms.values()))["pruning"]]
    rows = [
        "Test error in % after the weights of least |mean| / sd are set to zero.",
        "",
        "| removed | " + " | ".join(f"{100 * share:g} %" for share in shares) + " |",
        "| --- |" + " ---: |" * len(shares),
    ]
    for row in arms.values():
        cells = (f"{point['error']:.1f} ± {point['error_se']:.1f}" for point in row["pruning"])
        rows.append(f"| {row['label']} | " + " | ".join(cells) + " |")
    theirs = (f"{PRUNED[share]:.2f}" if share in PRUNED else "" for share in shares)
    rows.append("| Blundell et al., table 2 (1,200 units, 60,000 images) | " + " | ".join(theirs) + " |")
    return "\n".join(rows)


def _regression(found: Told) -> str:
    rows = [
        "The regression of [`examples/bayes_by_backprop.py`](../examples/bayes_by_backprop.py) (figure 5 of the "
        f"paper): standard deviation of the function where the data lie ({INSIDE[0]:g} to {INSIDE[1]:g}) and away.",
        "",
        f"| | among the data | at {OUTSIDE[0]:g} | at {OUTSIDE[1]:g} | ratios |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in found.items():
        ratio = " and ".join("-" if v is None else f"{v:.1f}" for v in row["ratio"])
        sds = " | ".join(f"{v:.2f}" for v in (row["inside"], *row["outside"]))
        rows.append(f"| {_REGRESSION[name]} | {sds} | {ratio} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(section(json.loads(OUT.read_text())))
