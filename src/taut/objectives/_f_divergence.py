"""An f-divergence by any convex function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from taut._errors import TautError
from taut._precision import scope
from taut.objectives._objective import Bound, Objective, averaged, whole_particles

# Ratios p/q at which convexity is checked, and the share of the values by which rounding may break it.
_RATIOS = np.exp(np.linspace(math.log(1e-6), math.log(1e6), 241))
_ROUNDING = 1e-9


@dataclass(frozen=True)
class FDivergence(Objective):
    r"""The evidence less an f-divergence, $\log Z - D_f(p \,\|\, q)$ with
    $D_f(p \,\|\, q) = \mathbb E_q\big[f\big(\tfrac{p(z \mid x)}{q(z)}\big)\big]$.

    ``f`` is convex with $f(1) = 0$ and takes the ratio **posterior over guide**, so that

    | ``f(u)`` | divergence |
    | --- | --- |
    | ``-jnp.log(u)`` | $\mathrm{KL}(q \,\|\, p)$: the `ELBO` |
    | ``u * jnp.log(u)`` | $\mathrm{KL}(p \,\|\, q)$, forward |
    | ``(u - 1) ** 2`` | chi-square of p on q |
    | ``(jnp.sqrt(u) - 1) ** 2`` | squared Hellinger |

    The ratio is estimated by $u_k = K \tilde w_k$, of mean one, and the estimate is
    $\log \frac1K \sum_k w_k - \frac1K \sum_k f(u_k)$. By Jensen's inequality the second part is never negative, so it
    is a lower bound for every $K$, highest where q is the posterior.

    Args:
        f: the function of one array, elementwise, in `jax.numpy`.
        particles: draws $K$; with one there is no divergence to see, and the estimate is the `ELBO`'s.
        averaged_over: independent estimates whose mean is taken.

    Raises:
        TautError: ``bad-argument`` if ``f(1)`` is not 0, or ``f`` is not convex on ratios from 1e-6 to 1e6.

    Source: Csiszár (1967); Wan, Li, Chen (2020), f-Divergence variational inference.

    Example:
        >>> hellinger = taut.objectives.FDivergence(lambda u: (jnp.sqrt(u) - 1) ** 2, particles=2)
        >>> round(float(hellinger.reduce(jnp.log(jnp.array([1.0, 3.0])))), 4)
        0.625
    """

    f: Callable[[Any], Any]
    particles: int = 32
    averaged_over: int = 1
    bound: ClassVar[Bound | None] = "lower"

    def __post_init__(self) -> None:
        whole_particles(self)
        _check_convex(self.f)

    def __str__(self) -> str:
        """See `Objective`."""
        name = getattr(self.f, "__name__", "f").replace("<lambda>", "f")
        return f"evidence less the f-divergence of p on q by {name}, from {self.particles} draws{averaged(self)}"

    def reduce(self, log_weights: Any) -> Any:
        """See `Objective`."""
        x = jnp.asarray(log_weights)
        mean = logsumexp(x, axis=0) - math.log(self.particles)
        # A ratio that underflows to 0 would make an infinite f of a weight that is merely tiny.
        least = 0.9 * math.log(float(jnp.finfo(x.dtype).tiny))
        ratio = jnp.exp(jnp.maximum(x - mean, least))
        return mean - jnp.mean(self.f(ratio), axis=0)


def _check_convex(f: Callable[[Any], Any]) -> None:
    """Refuse a function that is not convex, or not zero at one; Jensen's inequality would have no ground."""
    # An objective may be built while something is traced: what is checked is a number all the same.
    with scope("float64"), jax.ensure_compile_time_eval():
        try:
            values = np.asarray(jax.vmap(f)(jnp.asarray(_RATIOS)))
            centre = float(f(jnp.asarray(1.0)))
        except TypeError as error:
            raise _refusal(f"f cannot take an array: {error}", "a function of one array, in jax.numpy") from error
    if values.shape != _RATIOS.shape:
        raise _refusal(f"f returns shape {values.shape[1:]} for a number", "a number for every ratio")
    if not abs(centre) < 1e-6:
        raise _refusal(
            f"f(1) = {centre:.4g}",
            "f(1) = 0: where q is the posterior the divergence is 0",
            f"lambda u: f(u) - {centre:.4g}",
        )
    slopes = np.diff(values) / np.diff(_RATIOS)
    slack = _ROUNDING * (1 + np.abs(values[1:-1])) * (1 / np.diff(_RATIOS)[1:] + 1 / np.diff(_RATIOS)[:-1])
    bent = np.diff(slopes) + slack < 0
    if not np.all(np.isfinite(values)) or bent.any():
        at = _RATIOS[1:-1][bent]
        what = f"f bends down at a ratio of {at[0]:.3g}" if len(at) else "f is not finite on ratios from 1e-6 to 1e6"
        raise _refusal(what, "a convex function of the ratio posterior/guide")


def _refusal(found: str, expected: str, remedy: str = "lambda u: u * jnp.log(u)") -> TautError:
    return TautError(
        "bad-argument", site="f", found=found, expected=expected, remedy=f"taut.objectives.FDivergence({remedy})"
    )
