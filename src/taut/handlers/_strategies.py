"""Strategies of `taut.handlers.reparam`: by which numbers on the real line a latent is found."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from taut import dist
from taut._errors import TautError
from taut.core import Site, user_line

# Declares a parameter of the model: the end of its name, its initial value, its constraint.
Learn = Callable[[str, float, Any], Any]


class Reparam(abc.ABC):
    """A choice of coordinates for a latent; the latent itself, its name and its density stay what they are.

    Members write `chart`. The law, which the conformance suite checks: coordinates distributed as the chart says make
    values distributed as the model says.
    """

    # What the strategy is for, in words.
    takes: str

    @abc.abstractmethod
    def chart(self, fn: Any, learn: Learn) -> dist.Chart | None:
        """The coordinates of a distribution; ``None`` where the strategy does not fit it.

        Args:
            fn: the distribution.
            learn: declares a parameter that is learned with the fit.
        """

    def __call__(self, site: Site, learn: Learn) -> dist.Chart:
        """The coordinates of a site.

        Raises:
            TautError: ``bad-combination`` where the strategy does not fit the site.
        """
        late = isinstance(site.fn, dist.Late) and not isinstance(self, _Waves)
        found = None if late else self.chart(site.fn, learn)
        if found is not None:
            return found
        family = type(dist.unwrapped(site.fn)).__name__
        raise TautError(
            "bad-combination",
            site=site.name,
            source=site.source,
            found=f"taut.handlers.{type(self).__name__} for {family}"
            + (" inside of a loop" if late else f" of shape {tuple(site.fn.shape())}"),
            expected=self.takes,
            remedy=f"leave {site.name!r} out of the config; "
            'taut.handlers.reparam(model, "auto") takes for each site what fits',
        )


@dataclass(frozen=True)
class LocScale(Reparam):
    r"""Location and scale: $x = m + s^{1 - \lambda}(u - \lambda m)$ with centredness $\lambda \in [0, 1]$.

    $\lambda = 1$ is the model as written (centred), $\lambda = 0$ non-centred. Without this strategy hierarchical
    location-scale latents have a centredness that the algorithm chooses.

    Args:
        centred: $\lambda$, one number or an array that broadcasts to the latent; or ``"learned"``: a parameter
            ``"<name>_centred"`` in (0, 1) that maximises the ELBO along with the guide.

    Source: Gorinova, Moore, Hoffman (2020), Automatic reparameterisation of probabilistic programs.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model():
        ...     tau = taut.sample("tau", dist.HalfNormal(1.0))
        ...     taut.sample("x", dist.Normal(0.0, tau))
        >>> flat = taut.Problem(taut.handlers.reparam(model, {"x": taut.handlers.LocScale(0.0)}))
        >>> values = flat.constrain([[0.5, 1.5]])
        >>> bool(values["x"][0] == values["tau"][0] * 1.5)
        True
    """

    centred: float | Literal["learned"] | Any = "learned"
    takes = (
        "a family with a location and a scale, such as Normal, StudentT, or a transform of one, such as LogNormal; "
        "centred is one number or an array that broadcasts to the latent"
    )

    def __post_init__(self) -> None:
        if isinstance(self.centred, str):
            valid = self.centred == "learned"
        else:
            given = np.asarray(self.centred, float)
            valid = bool(np.all((given >= 0) & (given <= 1)))
            # A choice is immutable and hashable: tuples in the place of an array.
            object.__setattr__(self, "centred", _tuples(given.tolist()))
        if not valid:
            raise TautError(
                "bad-argument",
                site="centred",
                source=user_line(),
                found=f"LocScale(centred={self.centred!r})",
                expected='a number from 0 (non-centred) to 1 (centred), or "learned"',
                remedy='taut.handlers.LocScale(0.0), or taut.handlers.LocScale("learned")',
            )

    def chart(self, fn: Any, learn: Learn) -> dist.Chart | None:
        """See `Reparam`."""
        if dist.centred_chart(fn, 1.0) is None:
            return None
        if isinstance(self.centred, str):
            return dist.centred_chart(fn, learn("centred", 0.5, dist.constraints.unit_interval))
        given = np.asarray(self.centred)
        return dist.centred_chart(fn, given) if _fits(given.shape, fn.shape()) else None


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _fits(shape: tuple[int, ...], latent: tuple[int, ...]) -> bool:
    """Whether an array broadcasts to a latent's shape without making it wider."""
    try:
        return np.broadcast_shapes(shape, latent) == tuple(latent)
    except ValueError:
        return False


@dataclass(frozen=True)
class Transformed(Reparam):
    """A `TransformedDistribution` by the coordinates of the distribution that it starts from, a walk by its steps.

    Source: Hoffman et al. (2019), NeuTra-lizing bad geometry, for maps in general.

    Example:
        >>> import taut
        >>> taut.handlers.Transformed()
        Transformed()
    """

    takes = "a TransformedDistribution whose base has coordinates of its own, or a GaussianRandomWalk"

    def chart(self, fn: Any, learn: Learn) -> dist.Chart | None:
        """See `Reparam`."""
        return dist.base_chart(fn)


@dataclass(frozen=True)
class Folded(Reparam):
    """A half family or a folded one as the absolute value of a number: $x = |u|$, which may pass through 0.

    For latents whose posterior reaches 0. There are two $u$ for each $x$: the fit has a mode on either side.

    Example:
        >>> import taut
        >>> taut.handlers.Folded()
        Folded()
    """

    takes = "HalfNormal, HalfCauchy, or dist.FoldedDistribution"

    def chart(self, fn: Any, learn: Learn) -> dist.Chart | None:
        """See `Reparam`."""
        return dist.folded_chart(fn)


@dataclass(frozen=True)
class Circular(Reparam):
    r"""An angle as the direction of a point in the plane, $x = \mathrm{atan2}(u_2, u_1)$: no cut at $\pm\pi$.

    The radius $|u|$ is log-normal around 1 and independent of everything else, so the angle keeps its density.

    Args:
        spread: standard deviation of $\log |u|$.

    Example:
        >>> import taut
        >>> taut.handlers.Circular()
        Circular(spread=0.25)
    """

    spread: float = 0.25
    takes = "a distribution on the circle, such as VonMises"

    def __post_init__(self) -> None:
        if not self.spread > 0:
            raise TautError(
                "bad-argument",
                site="spread",
                source=user_line(),
                found=f"Circular(spread={self.spread})",
                expected="a positive number",
                remedy="taut.handlers.Circular()",
            )

    def chart(self, fn: Any, learn: Learn) -> dist.Chart | None:
        """See `Reparam`."""
        return dist.plane_chart(fn, self.spread)


@dataclass(frozen=True)
class ProjectedNormal(Reparam):
    """A direction by the normal vector that points there; these are its usual coordinates too.

    Example:
        >>> import taut
        >>> taut.handlers.ProjectedNormal()
        ProjectedNormal()
    """

    takes = "dist.ProjectedNormal"

    def chart(self, fn: Any, learn: Learn) -> dist.Chart | None:
        """See `Reparam`."""
        base = dist.unwrapped(fn)
        return dist.direction_chart(fn) if type(base) is dist.ProjectedNormal else None


@dataclass(frozen=True, eq=False)
class Conjugate(Reparam):
    """Coordinates in which the prior times a guessed conjugate likelihood is standard, and the posterior nearly so.

    The guess shapes coordinates alone: whatever it is, the posterior is the model's.

    Args:
        likelihood: what the data say of the latent, as a distribution of the prior's family over it: for 30 successes
            and 10 failures ``dist.Beta(31, 11)``, for one reading ``dist.Normal(reading, error)``.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     x = taut.sample("x", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(x, 0.5), obs=y)
        >>> strategy = taut.handlers.Conjugate(dist.Normal(10.0, 0.5))
        >>> problem = taut.Problem(taut.handlers.reparam(model, {"x": strategy}), dict(y=10.0))
        >>> round(float(problem.constrain([[0.0]])["x"][0]), 6)
        8.0
    """

    likelihood: Any
    takes = (
        "prior and likelihood both Normal, both MultivariateNormal, both Gamma, both Beta, or both Dirichlet, the "
        "likelihood of a shape that broadcasts to the latent's"
    )

    def chart(self, fn: Any, learn: Learn) -> dist.Chart | None:
        """See `Reparam`."""
        shape = getattr(self.likelihood, "shape", tuple)
        return dist.updated_chart(fn, self.likelihood) if _fits(shape(), fn.shape()) else None


@dataclass(frozen=True)
class _Waves(Reparam):
    dim: int = -1
    takes = "a latent with that dimension whose values move freely there"

    def __post_init__(self) -> None:
        if self.dim >= 0:
            raise TautError(
                "bad-argument",
                site="dim",
                source=user_line(),
                found=f"{type(self).__name__}(dim={self.dim})",
                expected="a negative dimension, counted from the right",
                remedy=f"taut.handlers.{type(self).__name__}(dim=-1)",
            )

    def __call__(self, site: Site, learn: Learn) -> dist.Chart:
        """See `Reparam`; rows of a batch have no waves."""
        drawn = [p.name for p in site.plates if p.length != p.size and p.dim - site.fn.event_dim == self.dim]
        if not drawn:
            return super().__call__(site, learn)
        raise TautError(
            "bad-combination",
            site=site.name,
            source=site.source,
            found=f"taut.handlers.{type(self).__name__} along the subsampled plate {drawn[0]!r}",
            expected="a dimension that is there as a whole in every step: the waves of a batch of rows are others in "
            "each batch",
            remedy=f"open {drawn[0]!r} without subsample_size, or leave {site.name!r} out of the config",
        )


@dataclass(frozen=True)
class Haar(_Waves):
    """A series by its Haar wavelets along a dimension: orthonormal, of any length; for jumps.

    Args:
        dim: the dimension of time, negative.

    Example:
        >>> import taut
        >>> taut.handlers.Haar()
        Haar(dim=-1)
    """

    def chart(self, fn: Any, learn: Learn) -> dist.Chart | None:
        """See `Reparam`."""
        return dist.wave_chart(fn, dist.Steps(), self.dim)


@dataclass(frozen=True)
class DCT(_Waves):
    """A series by its cosines along a dimension: orthonormal, of any length; for smooth series.

    Args:
        dim: the dimension of time, negative.
        smooth: how much more high frequencies are stretched; 0 leaves the map orthonormal, 1 suits random walks. The
            volume is kept whatever it is.

    Example:
        >>> import taut
        >>> taut.handlers.DCT()
        DCT(dim=-1, smooth=0.0)
    """

    smooth: float = 0.0

    def chart(self, fn: Any, learn: Learn) -> dist.Chart | None:
        """See `Reparam`."""
        return dist.wave_chart(fn, dist.Cosines(self.smooth), self.dim)


def automatic(fn: Any) -> Reparam | None:
    """The strategy that suits a family, ``None`` where its usual coordinates do.

    Hierarchies of location-scale families are left alone: their centredness is chosen by the algorithm, from what the
    scale depends on. Half families are left on the logarithmic scale, where a fit has one mode.
    """
    base = dist.unwrapped(fn)
    if type(base) in (dist.TransformedDistribution, dist.GaussianRandomWalk) and dist.base_chart(fn) is not None:
        return Transformed()
    return Circular() if dist.describe(base.support) == "circular" else None
