"""Pictures of a fit, on white: each takes a fit and returns a matplotlib Figure.

``taut.plots.evidence(fit).savefig("evidence.png")``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from taut import report
from taut._errors import TautError
from taut._keys import generator
from taut.diagnostics import evidence_curve
from taut.fitting import Fit, pool_of
from taut.nn import VAE, GaussianLikelihood

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "evidence",
    "forest",
    "loss",
    "marginals",
    "pairs",
    "reconstructions",
    "samples",
    "traversal",
    "weights",
]


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


def reconstructions(
    fit: Fit, x: Any, *, vae: VAE | None = None, layer: int = 1, columns: int = 10, shape: Sequence[int] | None = None
) -> Figure:
    """Rows of data as images, and below each what a `taut.nn.VAE` makes of its code.

    Args:
        fit: of an autoencoder.
        x: rows, ``(n, *row)``; a picture holds 40 or so.
        vae: the autoencoder, for a fit that was loaded.
        layer: the stochastic layer of the code, 1 next to the data.
        columns: images side by side.
        shape: height and width of an image; by default that of a row, or the square of that many pixels.

    Raises:
        TautError: ``missing-extra`` without matplotlib; ``bad-argument`` for rows that are no images;
            ``bad-combination`` for a fit of another model.
    """
    vae = _autoencoder(fit, vae)
    x = vae.intensities(x)
    again = report.as_images(vae.reconstruct(fit, x, layer=layer), shape)
    images = report.as_images(x, shape)
    between = _between(vae, images, again)
    columns = min(columns, len(images))
    lines = -(-len(images) // columns)
    grid = np.full((2 * lines, columns, *images.shape[1:]), np.nan)
    for k, (first, second) in enumerate(zip(images, again, strict=True)):
        grid[2 * (k // columns), k % columns], grid[2 * (k // columns) + 1, k % columns] = first, second
    return _on_white(report.mosaic(grid, labels=("data", "reconstruction") * lines, between=between))


def samples(
    fit: Fit,
    n: int = 60,
    *,
    vae: VAE | None = None,
    drawn: bool = False,
    columns: int = 12,
    shape: Sequence[int] | None = None,
    key: int | jax.Array = 0,
) -> Figure:
    """Fresh images from a `taut.nn.VAE`: the mean of each given its latents, or its pixels drawn, too.

    Args:
        fit: of an autoencoder.
        n: how many.
        vae, columns, shape: as for `reconstructions`.
        drawn: draw the pixels.
        key: an integer or a JAX key.

    Raises:
        TautError: as `reconstructions`.
    """
    vae = _autoencoder(fit, vae)
    images = report.as_images(vae.sample(fit, n, key, drawn=drawn), shape)
    columns = min(columns, n)
    lines = -(-n // columns)
    grid = np.full((lines * columns, *images.shape[1:]), np.nan)
    grid[:n] = images
    grid = grid.reshape(lines, columns, *images.shape[1:])
    return _on_white(report.mosaic(grid, between=_between(vae, images)))


def traversal(
    fit: Fit,
    x: Any = None,
    *,
    units: Sequence[int] | None = None,
    layer: int = 1,
    steps: int = 11,
    reach: float = 3.0,
    vae: VAE | None = None,
    shape: Sequence[int] | None = None,
) -> Figure:
    """What single latents do: each line moves one of them, the others stay where they are.

    Args:
        fit: of an autoencoder.
        x: one row of data, whose code the others stay at; by default they are zero.
        units: which latents, from 0; by default the ten that change the image most.
        layer: their stochastic layer, 1 next to the data.
        steps: images of a line.
        reach: from minus to plus this many standard deviations of the prior N(0, 1).
        vae, shape: as for `reconstructions`.

    Raises:
        TautError: as `reconstructions`; ``bad-argument`` for latents that there are not.
    """
    vae = _autoencoder(fit, vae)
    width = vae.latents[layer - 1] if layer in range(1, len(vae.latents) + 1) else 0
    one = None if x is None else np.asarray(x)
    if one is not None and vae.row is not None and one.size == int(np.prod(vae.row)):
        one = one.reshape(1, *vae.row)
    centre = np.zeros(width) if one is None else vae.encode(fit, one, layer=layer)[0]
    unknown = [unit for unit in units or () if unit not in range(width)]
    if unknown:
        raise TautError(
            "bad-argument",
            site="units",
            found=f"latent {unknown[0]}",
            expected=f"numbers from 0 to {width - 1}",
            remedy="units=[0, 1, 2]",
        )
    values = np.linspace(-reach, reach, steps)
    codes = np.tile(centre, (width, steps, 1))
    codes[np.arange(width), :, np.arange(width)] = values
    wanted = list(range(width)) if units is None else [int(unit) for unit in units]
    flat = vae.decode(fit, codes[wanted].reshape(-1, width), layer=layer)
    lines = flat.reshape(len(wanted), steps, *flat.shape[1:])
    note = ""
    if units is None and width > 10:
        moved = lines.reshape(width, steps, -1).var(axis=1).sum(axis=1)
        order = np.argsort(-moved)[:10]
        lines, wanted = lines[order], order.tolist()
        note = f"the 10 of {width} latents that change the image most"
    images = report.as_images(lines.reshape(-1, *lines.shape[2:]), shape)
    grid = images.reshape(len(wanted), steps, *images.shape[1:])
    name = vae.sites[layer - 1]
    labels = [f"{name}[{unit}]" for unit in wanted]
    ticks = values.tolist(), "value of the latent"
    return _on_white(report.mosaic(grid, labels=labels, between=_between(vae, images), note=note, ticks=ticks))


def _autoencoder(fit: Fit, given: VAE | None) -> VAE:
    found = given or getattr(getattr(fit.problem, "model", None), "__self__", None)
    if not isinstance(found, VAE):
        raise TautError(
            "bad-combination",
            found="a fit that does not hold its autoencoder" if fit.problem is None else f"a fit of {fit.title}",
            expected="a fit of the model of a taut.nn.VAE",
            remedy="vae=vae",
        )
    return found


def _between(vae: VAE, *images: np.ndarray) -> tuple[float, float]:
    """What is black and what is white: 0 and 1, or for any numbers the least and the greatest."""
    if not isinstance(vae.likelihood, GaussianLikelihood):
        return 0.0, 1.0
    return min(float(part.min()) for part in images), max(float(part.max()) for part in images)


def _on_white(figure: Figure) -> Figure:
    figure.set_facecolor("white")
    return figure
