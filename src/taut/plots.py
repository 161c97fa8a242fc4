"""Pictures of a fit, on white: each takes a fit and returns a matplotlib Figure.

``taut.plots.evidence(fit).savefig("evidence.png")``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax

from taut import report
from taut._keys import generator
from taut.diagnostics import evidence_curve
from taut.fitting import Fit, pool_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["evidence", "forest", "loss", "marginals", "pairs", "weights"]


def evidence(fit: Fit, most: int = 512, *, key: int | jax.Array = 0) -> Figure:
    r"""The estimate of $\log Z$ against the number of particles K, for the jackknife of orders 0 (IWAE), 1 and 2.

    All K share one pool of log-weights, dealt into groups; bands are plus and minus two standard errors. Curves that
    have met, and stay flat, tell that K suffices; they meet nowhere where the weights have no finite variance, and the
    picture says so.

    Args:
        fit: a fit with log-weights; a loaded one too.
        most: largest K; less where the draws are too few for 8 groups.
        key: an integer or a JAX key; it orders the draws.

    Returns:
        A figure; nats against K. The fit's own estimate is a line in it where the verdict trusts that.

    Raises:
        TautError: ``missing-extra`` without matplotlib; ``bad-combination`` for a point, which has no weights.

    Example:
        >>> taut.plots.evidence(fit)                    # doctest: +SKIP
    """
    curve = evidence_curve(pool_of(fit, key), most, generator(key, 4100))
    value, se, _ = fit.numbers.get("log evidence", (float("nan"), None, ""))
    known = (value, se) if fit.verdict.evidence_trusted else None
    return _on_white(report.evidence(curve, fit.title, known))


def marginals(fit: Fit, most: int = 24) -> Figure:
    """Histograms of single scalars with their 5-50-95 % intervals, in the model's own space.

    Args:
        fit: any fit.
        most: how many scalars at most; the figure says what it leaves out.
    """
    return _on_white(report.marginals(fit.content(), most))


def pairs(fit: Fit, most: int = 6) -> Figure:
    """Scatter plots of the most correlated pairs of latents.

    Args:
        fit: any fit.
        most: how many pairs at most.
    """
    return _on_white(report.pairs(fit.content(), most))


def weights(fit: Fit) -> Figure:
    """Importance weights of q's draws: a histogram of their logarithms, and their tail with k-hat.

    Args:
        fit: any fit.
    """
    return _on_white(report.weights(fit.content()))


def loss(fit: Fit) -> Figure:
    """The objective along the run, in nats, with its noise band.

    Args:
        fit: any fit.
    """
    return _on_white(report.objective(fit.content()))


def forest(fit: Fit, most: int = 400) -> Figure | None:
    """Median and 5-95 % interval of every element of long sites, in their order; ``None`` if no site is long.

    Args:
        fit: any fit.
        most: elements drawn for each site at most.
    """
    figure = report.forest(fit.content(), most)
    return None if figure is None else _on_white(figure)


def _on_white(figure: Figure) -> Figure:
    figure.set_facecolor("white")
    return figure
