"""Independent Student-t margins on the real line: posteriors with tails heavier than a normal's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from taut._draws import pool
from taut._errors import TautError
from taut.guides._gaussian import by_site, flat, host_place
from taut.guides._guide import Flat, NoiseGuide
from taut.guides._local import at_place, each_counts, place, wide_dim, wide_layout, wide_shape
from taut.guides._start import Start, first_loc
from taut.problem import Problem, Program

_INITIAL_SCALE = 0.1  # as narrow as the Gaussians begin
_INITIAL_DF = 8.0
# Below this the largest of a few thousand draws is past what floating point can square.
_LEAST_DF = 0.5
# From here on the series of the normalising constant is exact to 1e-14, in single precision to its last digit.
_LARGE_DF = 300.0


@dataclass(frozen=True)
class StudentT(NoiseGuide):
    r"""Independent Student-t variables on the real line: $q(z) = \prod_j t_{\nu_j}(z_j; m_j, s_j)$.

    A draw takes two normals $a, b$ per coordinate and follows all parameters smoothly, the degrees of freedom too:

    $$z = m + s\, a \sqrt{\frac{\nu}{r^2} \Big(e^{r^2 / \nu} - 1\Big)}, \qquad r^2 = a^2 + b^2,$$

    which is exactly Student-t, and tends to the normal $m + s\,a$ as $\nu \to \infty$.

    Parameters: ``loc`` $m$, ``log_scale`` $\log s$, and where they are learned ``log_df``, each ``float[D]``, with
    $\nu = 0.5 + e^{\text{log\_df}}$. A normal posterior sends $\nu$ off to infinity: for such, `MeanField` is exact.

    Args:
        df: degrees of freedom $\nu$ of all coordinates; learned for each by default.
        centredness: 1 is the model as written, 0 non-centres hierarchical latents; a tuple sets each coordinate.
        start: where to begin; near the origin by default.

    Raises:
        TautError: ``bad-argument`` for degrees of freedom that are not a positive number.

    Source: Bailey (1994), Polar generation of random variates with the t-distribution, for the map.

    Example:
        >>> def model():
        ...     taut.sample("x", dist.StudentT(3.0, 1.0, 2.0))
        >>> fit = taut.fit(model, guide=taut.guides.StudentT())
        >>> round(float(0.5 + np.exp(fit.params["log_df"][0])), 4), fit.verdict.level
        (3.0, 'trusted')
    """

    df: float | None = None
    centredness: float | tuple[float, ...] = 1.0
    start: Start | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        number = self.df is None or (isinstance(self.df, int | float) and not isinstance(self.df, bool))
        if not number or (self.df is not None and not self.df > 0):
            raise TautError(
                "bad-argument",
                site="df",
                found=f"StudentT(df={self.df!r})",
                expected="a positive number, or None to learn it",
                remedy="taut.guides.StudentT(df=4.0)",
            )

    @property
    def follows_rows(self) -> bool:
        """See `Guide`."""
        return True

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """Narrow margins where the start says."""
        dim = wide_dim(problem.program)
        loc = first_loc(self.start, problem, self.centredness, key, dim)
        return self.from_gaussian(problem, loc, np.full(dim, _INITIAL_SCALE))

    def from_gaussian(self, problem: Problem, loc: np.ndarray, factor: np.ndarray) -> dict[str, Any]:
        """See `NoiseGuide`: its best independent scales, and tails a little heavier than a normal's."""
        found = {"loc": np.asarray(loc, float), "log_scale": np.log(independent_scales(factor))}
        return found if self.df is not None else {**found, "log_df": np.full(len(loc), math.log(_INITIAL_DF))}

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`: two normals per coordinate."""
        return 2 * program.dim

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`."""
        there = place(program, inputs)
        here = at_place(there, params)
        df = self._df(here)
        t = _from_normals(noise[: program.dim], noise[program.dim :], df, jnp)
        terms = _log_density(t, df, jax.lax.lgamma) - here["log_scale"]
        z = here["loc"] + jnp.exp(here["log_scale"]) * t
        return flat(program, self.centredness, z, there=there), jnp.sum(terms * each_counts(there))

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        return jnp.sum(self._terms(program, params, point, inputs))

    def log_prob_by_site(
        self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any] | None:
        """See `Guide`: over each site's coordinates."""
        terms = self._terms(program, params, point, inputs)
        return {n: terms[program.layout[n]].reshape(s.coordinate_shape) for n, s in program.latents.items()}

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`."""
        noise, there = pool(rows, 2 * problem.dim, rng), host_place(problem)
        here = at_place(there, {name: np.asarray(value, float) for name, value in params.items()})
        df = self._df(here, np)
        t = _from_normals(noise[:, : problem.dim], noise[:, problem.dim :], df, np)
        terms = (_log_density(t, df, gammaln, np) - here["log_scale"]) * each_counts(there)
        z = here["loc"] + np.exp(here["log_scale"]) * t
        return flat(problem.program, self.centredness, z, np, there), terms.sum(1)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`; ``scale`` is $s$, and ``df`` stands beside it."""
        found = by_site(problem, np.asarray(params["loc"]), np.exp(np.asarray(params["log_scale"])))
        df, layout = self._df(params, np), wide_layout(problem.program)
        for name, latent in problem.latents.items():
            found[name]["df"] = df[layout[name]].reshape(wide_shape(problem.program, latent))
        return found

    def _df(self, params: Mapping[str, Any], backend: Any = jnp) -> Any:
        if self.df is not None:
            return backend.full(np.shape(params["loc"]), float(self.df))
        return _LEAST_DF + backend.exp(params["log_df"])

    def _terms(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any) -> Any:
        there = place(program, inputs)
        here = at_place(there, params)
        t = (point.coordinates - here["loc"]) * jnp.exp(-here["log_scale"])
        return (_log_density(t, self._df(here), jax.lax.lgamma) - here["log_scale"]) * each_counts(there)


def independent_scales(factor: np.ndarray) -> np.ndarray:
    r"""Scales of the independent normals nearest to $\mathcal N(m, CC^\top)$: $s_j = (\Sigma^{-1})_{jj}^{-1/2}$."""
    factor = np.asarray(factor, float)
    if factor.ndim == 1:
        return factor
    inverse = np.linalg.solve(factor, np.eye(len(factor)))
    return 1 / np.sqrt(np.sum(inverse**2, axis=0))


def _from_normals(a: Any, b: Any, df: Any, backend: Any) -> Any:
    ratio = (a * a + b * b) / df
    # expm1(x) / x tends to 1, and 0 / 0 must be met neither in the value nor in its slope.
    small = ratio < 1e-6
    safe = backend.where(small, 1.0, ratio)
    return a * backend.where(small, 1 + 0.25 * ratio, backend.sqrt(backend.expm1(safe) / safe))


def _log_density(t: Any, df: Any, log_gamma: Any, backend: Any = jnp) -> Any:
    half = 0.5 * (df + 1)
    # Past this the two logarithms are so large that their difference is lost, and an optimiser would follow its noise.
    large = df > _LARGE_DF
    safe, far = backend.where(large, 1.0, df), 1 / backend.where(large, df, _LARGE_DF)
    gammas = log_gamma(0.5 * (safe + 1)) - log_gamma(0.5 * safe) - 0.5 * backend.log(0.5 * safe)
    constant = backend.where(large, -0.25 * far + far**3 / 24, gammas) - 0.5 * math.log(2 * math.pi)
    return constant - half * backend.log1p(t * t / df)
