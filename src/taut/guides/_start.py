"""Where a guide begins: strategies that give its centre, in the coordinates that it is fitted in."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from scipy.optimize import minimize

from taut._errors import TautError
from taut._keys import generator
from taut.guides._unconstrain import checked, unconstrain
from taut.problem import Problem

_BOX = 2.0  # half width of the box on the real line that starts are drawn from
_APART = 1e-2  # ends of climbs nearer than this are one mode
_MARGIN = 20.0  # nats: modes further below the highest hold no mass
_NARROW = 0.1  # half width of the default start of one guide


class Start(abc.ABC):
    """A way to choose where a fit begins. Starts are frozen and hashable."""

    @abc.abstractmethod
    def points(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """Points on the real line, ``float[n, dim]`` with ``1 <= n <= count``; equal ones are not repeated.

        Args:
            problem: the problem.
            centredness: the coordinates that the points are wanted in, ``float[dim + num_params]``.
            rng: generator.
            count: most points.
        """

    def apart(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """As many points as are wanted, for the components of a mixture: repeated ones are moved at random."""
        points = self.points(problem, centredness, rng, count)
        missing = rng.choice(len(points), count - len(points))
        return np.concatenate([points, points[missing] + rng.uniform(-1, 1, (len(missing), problem.dim))])


@dataclass(frozen=True)
class PriorMedian(Start):
    """The median of the prior, coordinate by coordinate on the real line; the data are not looked at.

    Args:
        draws: prior draws that it is taken from.

    Example:
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(3.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> problem = taut.Problem(model, dict(y=10.0))
        >>> guide = taut.guides.MeanField(start=taut.guides.PriorMedian(draws=1001))
        >>> bool(abs(guide.init(problem, key=0)["loc"][0] - 3.0) < 0.2)
        True
    """

    draws: int = 101

    def points(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Start`: one point."""
        return np.median(_prior(problem, centredness, rng, self.draws), axis=0)[None]


@dataclass(frozen=True)
class PriorSample(Start):
    """Draws from the prior: another one for every start."""

    def points(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Start`: as many points as are wanted."""
        return _prior(problem, centredness, rng, count)


@dataclass(frozen=True)
class FromData(Start):
    """The median of the prior, then a few quasi-Newton steps up the log joint: near the data, short of a mode.

    A few steps are enough to leave a prior that is far wider than the likelihood, and too few to fall into the spike
    that a hierarchy has where its scale vanishes.

    Args:
        steps: most L-BFGS steps.
    """

    steps: int = 10

    def points(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Start`: one point."""
        begin = PriorMedian().points(problem, centredness, rng, count)[0]
        return _climb(problem, centredness, begin, self.steps)[0][None]


@dataclass(frozen=True)
class Mode(Start):
    """The highest mode that some climbs from random points reach, in the guide's own coordinates.

    Args:
        climbs: how many L-BFGS climbs; the highest end is the start.
    """

    climbs: int = 4

    def points(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Start`: one point."""
        ends, heights = self._ends(problem, centredness, rng, self.climbs)
        return ends[[int(np.argmax(heights))]]

    def apart(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Start`: the highest end, then each time the one farthest from those taken."""
        ends, heights = self._ends(problem, centredness, rng, self.climbs * count)
        good = ends[heights > heights.max() - _MARGIN]
        taken = [ends[int(np.argmax(heights))]]
        while len(taken) < count:
            distance = np.min([np.linalg.norm(good - one, axis=1) for one in taken], axis=0)
            far = int(np.argmax(distance))
            if distance[far] < _APART:
                taken.append(taken[rng.integers(len(taken))] + rng.uniform(-1, 1, problem.dim))
            else:
                taken.append(good[far])
        return np.stack(taken)

    def _ends(
        self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, climbs: int
    ) -> tuple[np.ndarray, np.ndarray]:
        box = rng.uniform(-_BOX, _BOX, (climbs, problem.dim))
        ends = [_climb(problem, centredness, begin, 1000) for begin in box]
        return np.stack([end[0] for end in ends]), np.array([end[1] for end in ends])


@dataclass(frozen=True, init=False)
class At(Start):
    """Given values in the model's own space; latents that are not given begin where they always do.

    Args:
        values: by latent, arrays of the shape that the model draws. All of them must lie in the support.

    Raises:
        TautError: when the fit begins: ``site-missing`` for a name that is no latent, ``bad-argument`` for a wrong
            shape or a value outside of the support.

    Example:
        >>> def model(y):
        ...     sigma = taut.sample("sigma", dist.HalfNormal(1.0))
        ...     taut.sample("y", dist.Normal(0.0, sigma), obs=y)
        >>> problem = taut.Problem(model, dict(y=1.0))
        >>> guide = taut.guides.MeanField(start=taut.guides.At({"sigma": 2.0}))
        >>> round(float(np.exp(guide.init(problem, key=0)["loc"][0])), 4)
        2.0
    """

    entries: tuple[tuple[str, tuple[int, ...], tuple[float, ...]], ...]

    def __init__(self, values: Mapping[str, Any]):
        arrays = {name: np.asarray(value, float) for name, value in values.items()}
        entries = tuple((n, a.shape, tuple(float(x) for x in a.ravel())) for n, a in sorted(arrays.items()))
        object.__setattr__(self, "entries", entries)

    def values(self) -> dict[str, np.ndarray]:
        """The values by name."""
        return {name: np.reshape(flat, shape) for name, shape, flat in self.entries}

    def points(self, problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Start`: one point where all latents are given, else as many as are wanted."""
        values = checked(problem, self.values())
        rows = 1 if set(values) == set(problem.latents) else count
        base = np.zeros((rows, problem.dim))
        base[1:] = rng.uniform(-_BOX, _BOX, (rows - 1, problem.dim))
        given = {name: np.broadcast_to(value, (rows, *np.shape(value))) for name, value in values.items()}
        return unconstrain(problem, given, base, centredness)


def first_loc(
    start: Start | None,
    problem: Problem,
    centredness: float | tuple[float, ...],
    key: int | jax.Array,
    dim: int | None = None,
) -> np.ndarray:
    """The centre of a fresh guide, ``float[dim]``: what its start says, by default near the origin.

    Args:
        start: the strategy.
        problem: the problem.
        centredness: the guide's own.
        key: an integer or a JAX key.
        dim: how many coordinates, where the guide has parameters for more rows than the problem shows at once.

    Raises:
        TautError: ``bad-argument``, and ``bad-combination`` for a start of rows that are not all seen.
    """
    rng = generator(key)
    loc = rng.uniform(-_NARROW, _NARROW, problem.dim if dim is None else dim)
    if start is None:
        return loc
    if not isinstance(start, Start):
        raise TautError(
            "bad-argument",
            site="start",
            found=f"start={start!r}",
            expected="a start of taut.guides: PriorMedian, PriorSample, FromData, Mode or At",
            remedy="start=taut.guides.PriorMedian()",
        )
    if len(loc) != problem.dim:
        raise TautError(
            "bad-combination",
            site="start",
            found=f"start={type(start).__name__} with latents of a subsampled plate",
            expected="a start for rows that are all seen at once",
            remedy="start=None, or a plate without subsample_size",
        )
    return start.points(problem, coordinates_of(problem, centredness), rng, 1)[0]


def coordinates_of(problem: Problem, centredness: float | tuple[float, ...]) -> np.ndarray:
    """A guide's centredness as a vector, ``float[dim + num_params]``."""
    return np.asarray(centredness, float) if isinstance(centredness, tuple) else problem.centredness(centredness)


def _prior(problem: Problem, centredness: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    drawn = problem.predict(size=count, key=int(rng.integers(2**31)))
    values = {name: np.asarray(drawn[name]) for name in problem.latents}
    return unconstrain(problem, values, np.zeros((count, problem.dim)), centredness)


def _climb(problem: Problem, centredness: np.ndarray, begin: np.ndarray, steps: int) -> tuple[np.ndarray, float]:
    """Where L-BFGS ends, and the log joint there."""
    point = learned(problem)

    def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = problem.kernel()(np.concatenate([z, point])[None], centredness)
        # A point of zero density is worse than any other, and the line search turns back from it.
        return (-float(value[0]), -gradient[0, : problem.dim]) if np.isfinite(value[0]) else (1e300, np.zeros_like(z))

    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": steps, "ftol": 1e-13, "gtol": 1e-7})
    return found.x, -float(found.fun)


def learned(problem: Problem) -> np.ndarray:
    """First values of the model's own parameters on the real line, ``float[num_params]``."""
    if not problem.num_params:
        return np.zeros(0)
    (inits,) = problem.kernel().constants(("init",))
    return np.concatenate([inits[name].ravel() for name in problem.params])
