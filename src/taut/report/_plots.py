"""Pictures of a fit: marginals, pairs, weights, the objective, long sites. Each returns a matplotlib Figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from taut.report import _ink
from taut.report._content import Content
from taut.report._digits import clean, estimate
from taut.report._ink import GUIDE, MUTED, RULE, WEIGHTED
from taut.report._pick import Picked, Scalar, matching, pick, remark
from taut.report._rows import WHOLE
from taut.report._summary import Weights, figures, normalise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WEAK = 0.2  # a correlation below this is not worth a picture


def marginals(content: Content, most: int = 24) -> Figure:
    """Histograms of single scalars: guide draws filled, corrected draws as a line, the 5-50-95 % interval below.

    Axes reach from the 0.5 % to the 99.5 % quantile.

    Args:
        content: what to show.
        most: how many scalars at most; the figure says what it leaves out.
    """
    picked = pick(content, most)
    if not picked.scalars:
        return _ink.blank(_nothing(picked, "no scalar with finite, varying draws"))
    weights = normalise(content.log_weights)
    fig, axes = _ink.panels(len(picked.scalars), 4, 1.35)
    for ax, scalar in zip(axes, picked.scalars, strict=True):
        _marginal(ax, scalar, weights, content.covers)
    moved = any(scalar.guide is not None for scalar in picked.scalars)
    _ink.legend(fig, _ink.key(weights is not None, moved=moved), remark(picked))
    return fig


def pairs(content: Content, most: int = 6) -> Figure:
    """Scatter plots of the most correlated pairs of latents: guide draws, and draws resampled by their weights.

    Args:
        content: what to show.
        most: how many pairs at most. Correlations are looked for among 60 scalars, and the figure says so.
    """
    picked = pick(content, 60, kinds=("latent",))
    scalars = picked.scalars
    if len(scalars) < 2:
        return _ink.blank(_nothing(picked, "fewer than two latents with finite, varying draws"))
    weights = normalise(content.log_weights)
    table = np.stack([s.draws for s in scalars])
    w = weights.values if weights is not None else np.full(table.shape[1], 1.0 / table.shape[1])
    # A handful of effective draws correlates with anything: then the guide's own correlations are the ones to show.
    usable = content.covers == "reweighted" and weights is not None and weights.ess >= 25
    top = _strongest(table, w if usable else np.full_like(w, 1.0 / len(w)), most)
    fig, axes = _ink.panels(len(top), 3, 2.3)
    few = np.linspace(0, table.shape[1] - 1, min(table.shape[1], 1000)).astype(int)
    for ax, (i, j, r) in zip(axes, top, strict=True):
        style: dict[str, Any] = {"s": 5, "linewidths": 0, "rasterized": True}
        before, after = (scalars[i].guide, scalars[j].guide), (table[i, few], table[j, few])
        if before[0] is not None and before[1] is not None:
            ax.scatter(before[0][:1000], before[1][:1000], color=GUIDE, alpha=0.35, **style)
            ax.scatter(*after, color=WEIGHTED, alpha=0.4, **style)
        else:
            ax.scatter(*after, color=GUIDE, alpha=0.35, **style)
        if weights is not None:
            again = _resample(weights.values, 700)
            ax.scatter(table[i, again], table[j, again], color=WEIGHTED, alpha=0.4, **style)
        ax.set_xlim(*_range(table[i], weights, 0.003))
        ax.set_ylim(*_range(table[j], weights, 0.003))
        _ink.axis_labels(ax, _short(scalars[i].label), _short(scalars[j].label))
        _ink.title(ax, f"r = {r:.2f}".replace("-", "−"))
    count = len(scalars) * (len(scalars) - 1) // 2
    note = f"the most correlated of {count:,} pairs: at most {most}, and only the first below |r| = {WEAK}"
    note += f" among {len(scalars)} of {picked.total:,} latent scalars" if len(scalars) < picked.total else ""
    moved = any(scalar.guide is not None for scalar in scalars)
    _ink.legend(fig, _ink.key(weights is not None, dots=True, moved=moved), note)
    return fig


def weights(content: Content) -> Figure:
    """Importance weights: their logarithms as a histogram, and the sorted weights on two logarithmic axes.

    Weights are in multiples of their mean. On the right a tail of shape k falls with slope -k; the line has
    slope -0.7, beyond which reweighting is not to be relied on (Vehtari et al. 2024, JMLR 25:72).
    """
    logs = content.guide_log_weights if content.covers == "moved" else content.log_weights
    found = normalise(logs)
    if found is None:
        none = logs is None
        return _ink.blank("no importance weights were computed" if none else "no log weight is finite")
    relative = found.values * len(found.values)
    positive = relative[relative > 0]
    fig, (left, right) = _ink.panels(2, 2, 2.5)
    logs = np.log(positive)
    low, high = np.quantile(logs, 0.002), logs.max()
    edges = np.linspace(low, high, 45) if high - low > 1e-9 else np.linspace(-1, 1, 46)
    left.hist(logs, bins=list(edges), color=GUIDE, alpha=0.45, linewidth=0)
    left.axvline(0, color=MUTED, linewidth=0.8, dashes=(3, 3))
    left.set_yticks([])
    left.spines["left"].set_visible(False)
    _ink.axis_labels(left, "log weight, zero = mean weight")
    rank = np.arange(1, len(positive) + 1)
    ordered = np.sort(positive)[::-1]
    right.loglog(rank, ordered, color=GUIDE, linewidth=1.6)
    tail = np.array([1.0, max(len(positive) / 5, 2.0)])
    right.loglog(tail, ordered[0] * tail**-0.7, color=MUTED, linewidth=0.8, dashes=(3, 3))
    right.set_ylim(max(ordered[-1], ordered[0] * 1e-6) * 0.8, ordered[0] * 1.6)
    right.annotate("slope -0.7", (tail[1], ordered[0] * tail[1] ** -0.7), xytext=(4, 0), textcoords="offset points",
                   fontsize=7.5, color=MUTED, va="center", annotation_clip=True)  # fmt: skip
    right.set_xlim(0.9, len(positive) * 1.2)
    _ink.log_ticks(right)
    _ink.axis_labels(right, "rank", "weight / mean weight")
    words = [f"effective draws {found.ess:,.{0 if found.ess >= 10 else 1}f} of {len(relative):,}"]
    if "k-hat" in content.numbers:
        words.insert(0, f"k-hat {estimate(*content.numbers['k-hat'])}")
    _ink.title(left, ",  ".join(words))
    largest = 100 * found.values.max()
    share = f"{largest:.0f}%" if largest >= 10 else f"{largest:.2g}%"
    _ink.title(right, f"largest weight {share} of the total")
    zero = len(relative) - len(positive)
    _ink.legend(fig, [], f"{zero:,} draws have no weight ({found.dropped:,} NaN or +inf)" if zero else "")
    return fig


def objective(content: Content) -> Figure:
    """The objective along the run with its noise band, plus and minus two standard errors, in nats; beside it that of
    rows that were held out.

    Where the start dwarfs the end, a second panel shows the last half on its own scale.
    """
    history = content.history
    steps = np.asarray(history.steps, dtype=np.float64) if history is not None else np.empty(0)
    elbo = np.asarray(history.elbo, dtype=np.float64) if history is not None else np.empty(0)
    kept = np.isfinite(elbo)
    if history is None or not kept.any():
        return _ink.blank("no history of the objective" if not len(elbo) else "no value of the objective is finite")
    error = np.nan_to_num(np.asarray(history.se, dtype=np.float64), nan=0.0, posinf=0.0)[kept]
    steps, elbo = steps[kept], elbo[kept]
    window = len(elbo) // 50 if len(elbo) >= 200 else 1
    line = _running_mean(elbo, window)
    late = np.arange(len(elbo)) >= len(elbo) // 2
    held = np.asarray(history.held_out, float).reshape(-1, 3)
    held = held[np.isfinite(held[:, :2]).all(axis=1)]
    whole, end = np.ptp(elbo), np.ptp(elbo[late]) + 4 * np.median(error[late])
    zoomed = late.sum() >= 5 and whole > 4 * end
    fig, axes = _ink.panels(2 if zoomed else 1, 2 if zoomed else 1, 2.5)
    for ax, part in zip(axes, (np.ones_like(late), late), strict=False):
        x, y, e, smooth = steps[part], elbo[part], error[part], line[part]
        ax.fill_between(x, smooth - 2 * e, smooth + 2 * e, color=GUIDE, alpha=0.2, linewidth=0)
        if window > 1:
            ax.plot(x, y, color=GUIDE, linewidth=0.5, alpha=0.4)
        ax.plot(x, smooth, color=GUIDE, linewidth=1.4, marker="o" if len(x) < 30 else "", markersize=2.5)
        seen = held[held[:, 0] >= x[0]] if part is late else held
        if len(seen):
            bars = 2 * np.nan_to_num(seen[:, 2], posinf=0.0)
            ax.errorbar(seen[:, 0], seen[:, 1], bars, color=WEIGHTED, linewidth=1.0, marker="o", markersize=3, zorder=3)
        _ink.ticks(ax, 5, 5)
        _ink.axis_labels(ax, "gradient evaluations")
    _ink.title(axes[0], f"{clean(history.label)}, nats")
    if zoomed:
        _ink.title(axes[1], "the last half")
    lost = int(np.count_nonzero(~kept))
    band = "" if not error.any() else "band: plus and minus two standard errors of one evaluation"
    mean = f"line: running mean of {window} values" if window > 1 else ""
    gone = f"{lost:,} of {len(kept):,} values are not finite and left out" if lost else ""
    entries = [("the fit's rows", GUIDE, ","), ("held-out rows, standing for as many", WEIGHTED, "o")]
    _ink.legend(fig, _ink.line_key(entries) if len(held) else [], "; ".join(filter(None, (mean, band, gone))))
    return fig


def forest(content: Content, most: int = 400) -> Figure | None:
    """Median and 5-95 % interval of every element of long sites, in their order; None if no site is long.

    Args:
        content: what to show.
        most: elements drawn per site at most; the figure says what it leaves out. At most four sites are drawn.
    """
    long = [n for n, s in content.sites.items() if s.size > WHOLE and s.kind != "param" and np.ptp(s.values) > 0]
    if not long:
        return None
    found = normalise(content.log_weights) if content.covers == "reweighted" else None
    fig, axes = _ink.panels(min(len(long), 4), 1, 1.7, extra=0.2)
    colour = GUIDE if found is None else WEIGHTED
    for ax, name in zip(axes, long, strict=False):
        site = content.sites[name]
        shown = min(site.size, most)
        draws = np.asarray(site.values).reshape(len(site.values), -1)[:, :shown]
        low, middle, high = figures(draws, matching(found, draws))[:, 2:].T
        x = np.arange(shown)
        dot = float(np.clip(400.0 / shown, 1.0, 3.5))
        ax.axhline(0, color=RULE, linewidth=0.8, zorder=0)
        ax.vlines(x, low, high, color=colour, linewidth=dot / 3, alpha=0.75)
        ax.plot(x, middle, "o", color=colour, markersize=dot)
        ax.set_xlim(-1, shown)
        shape = " x ".join(map(str, site.shape))
        left = f", the first {shown:,} drawn" if shown < site.size else ""
        _ink.title(ax, f"{_short(clean(name))}  ({shape}){left}")
    note = f"{len(long) - 4} more long sites are not drawn" if len(long) > 4 else ""
    _ink.legend(fig, [], note)
    return fig


def _marginal(ax: Axes, scalar: Scalar, found: Weights | None, covers: str) -> None:
    w = matching(found, scalar.draws)
    low, high = _range(scalar.draws, found, 0.005)
    if scalar.guide is not None:
        ends = _range(scalar.guide, None, 0.005)
        low, high = min(low, ends[0]), max(high, ends[1])
    bins = int(np.clip(1.6 * len(scalar.draws) ** (1 / 3), 15, 45))
    edges = np.linspace(low, high, bins + 1)
    filled = scalar.draws if scalar.guide is None else scalar.guide
    guide = np.histogram(filled, edges)[0] / len(filled)
    ax.stairs(guide, edges, fill=True, color=GUIDE, alpha=0.35, linewidth=0)
    top = guide.max()
    if w is not None or scalar.guide is not None:
        shares = np.full(len(scalar.draws), 1.0 / len(scalar.draws)) if w is None else w
        height = np.histogram(scalar.draws, edges, weights=shares)[0]
        ax.stairs(height, edges, color=WEIGHTED, linewidth=1.0, baseline=None)
        top = max(top, min(height.max(), 2.5 * top))  # one heavy draw must not flatten the guide
    of_table = w if covers == "reweighted" else None
    five, half, ninety_five = figures(scalar.draws[:, None], of_table)[0, 2:]
    colour = GUIDE if of_table is None and scalar.guide is None else WEIGHTED
    ax.plot([five, ninety_five], [-0.09 * top] * 2, color=colour, linewidth=1.4, solid_capstyle="butt")
    ax.plot([half], [-0.09 * top], "o", color=colour, markersize=3)
    ax.set_ylim(-0.2 * top, 1.05 * top)
    ax.set_xlim(low, high)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    _ink.title(ax, _short(scalar.label))


def _range(draws: np.ndarray, found: Weights | None, tail: float) -> tuple[float, float]:
    """The span that holds all but ``tail`` on each side, of the guide's draws and of the reweighted ones."""
    ends = [figures(draws[:, None], None, (tail, 1 - tail))[0, 2:]]
    if (w := matching(found, draws)) is not None:
        ends.append(figures(draws[:, None], w, (tail, 1 - tail))[0, 2:])
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    return (low, high) if high > low else (draws.min(), draws.max())


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over the ``window`` values around each; half as many at the ends."""
    if window == 1:
        return values
    begin = (window - 1) // 2
    # Not differences of a cumulative sum: a start at -1e15 would drown the end.
    sums, counts = (np.convolve(v, np.ones(window))[begin : begin + len(v)] for v in (values, np.ones(len(values))))
    return sums / counts


def _strongest(table: np.ndarray, w: np.ndarray, most: int) -> list[tuple[int, int, float]]:
    centred = table - (table @ w)[:, None]
    sd = np.sqrt(np.square(centred) @ w)
    centred = centred / np.where(sd > 0, sd, 1.0)[:, None]
    r = (centred * w) @ centred.T
    i, j = np.triu_indices(len(r), 1)
    order = np.argsort(-np.abs(r[i, j]), kind="stable")[:most]
    found = [(int(i[o]), int(j[o]), float(r[i[o], j[o]])) for o in order]
    return [pair for pair in found if abs(pair[2]) >= WEAK] or found[:1]


def _resample(w: np.ndarray, count: int) -> np.ndarray:
    """Systematic resampling: indices of ``count`` draws in proportion to their weights, the same every time."""
    points = (np.arange(count) + 0.5) / count
    return np.minimum(np.searchsorted(np.cumsum(w), points), len(w) - 1)


def _short(label: str) -> str:
    return label if len(label) <= 30 else f"{label[:14]}..{label[-14:]}"


def _nothing(picked: Picked, words: str) -> str:
    return "; ".join(filter(None, (words, remark(picked))))
