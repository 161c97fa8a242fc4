"""The log evidence of a fit as an interval: from weights of q's draws, and from draws of the posterior where needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import jax
import numpy as np

from taut import diagnostics
from taut._errors import TautError
from taut._keys import generator, jax_key
from taut._threads import one_blas_thread
from taut.algorithms import row_log_weights
from taut.diagnostics import CORRECTED, FINITE_VARIANCE, TRUSTED, UNVERIFIED, EvidenceInterval, EvidenceLine, Pool
from taut.fitting._evidence_particles import Moved, can_move, check_annealing, from_particles, move, refuse_to_move
from taut.fitting._refusals import loaded
from taut.fitting._weigh import weigh_solution

if TYPE_CHECKING:
    from taut.fitting._result import Fit

Method = Literal["auto", "weights", "bridge", "smc", "annealing"]

_METHODS = ("auto", "weights", "bridge", "smc", "annealing")
_GROUPS = 8  # fewest groups of particles that tell an error
_MOST_DRAWS = 2**20
_ROUNDING = {"float64": 1e-10, "float32": 1e-6}  # of a sum of log densities, relative


def evidence_of(
    fit: Fit, particles: int = 64, *, method: Method = "auto", key: int | jax.Array = 0
) -> EvidenceInterval:
    r"""An interval that holds $\log Z = \log p(x)$, with the estimates it is made of and the error of each, in nats.

    $$\mathbb E_q \log w \le \mathbb E \log\hat w_K \le \log Z \le \mathbb E_{p(z \mid x)} \log\hat w_K$$

    with $\hat w_K$ the mean of K weights $w = p/q$: the `ELBO` and the `IWAE` from below; from above the EUBO, where
    one of the K draws is the posterior's. Near it are the jackknife (`JVI`), importance sampling and SMC, which bound
    nothing. An end is an estimate that holds, three standard errors further out.

    What needs weights of finite variance is left out of the ends where k-hat is above 1/2, and said. Then, and where
    the verdict does not rest on q, particles are carried from q to the posterior once more. They bound the evidence
    from above if they came to rest; if nothing does, the interval is open and says so. No estimate sees a mode that no
    draw reached. Where rows of a plate are independent, logarithms are taken row by row.

    Args:
        particles: K.
        method: ``"auto"``; ``"weights"`` of q's draws alone, no density is evaluated (but where rows are independent);
            ``"smc"``; ``"bridge"``, from SMC's particles to q; or ``"annealing"``, of the particles back to a Gaussian,
            a bound from above that stays tight where q is far.
        key: an integer or a JAX key.

    Returns:
        `EvidenceInterval`; ``print`` shows a table.

    Raises:
        TautError: ``no-model`` for a loaded fit with a method that moves draws; ``bad-combination`` for a point, and
            for such a method with a guide that particles cannot start from, or more than 500 latents to anneal back.

    Source: Burda, Grosse, Salakhutdinov (2016) for IWAE; Nowozin (2018) for JVI; Brekelmans et al. (2022) for the EUBO
    of many draws; Grosse, Ghahramani, Adams (2015) for annealing both ways.

    Example:
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 0.5), obs=y)
        >>> found = taut.fit(model, dict(y=10.0)).evidence()
        >>> exact = -0.5 * 10.0**2 / 1.25 - 0.5 * np.log(2 * np.pi * 1.25)
        >>> exact in found, found.width < 1e-6
        (True, True)
    """
    if method not in _METHODS:
        raise TautError(
            "bad-argument",
            site="method",
            found=f"method={method!r}",
            expected="one of " + ", ".join(map(repr, _METHODS)),
            remedy="fit.evidence()",
        )
    rng = generator(key, 4000)
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        pool = _pool(fit, particles, key, rng)
        light = pool.khat < FINITE_VARIANCE
        moved = None
        if method not in ("auto", "weights") or (method == "auto" and not (light and _confirmed(fit))):
            moved = _moved(fit, method, key)
        lines = [_backed(line, fit) for line in diagnostics.from_weights(pool)]
        if moved is not None:
            assert fit.problem is not None and fit.solution is not None
            lines += from_particles(fit.problem, fit.solution, moved, pool.joint, method, key, rng)
        elif fit.verdict.level == CORRECTED and fit.log_weights is None and "log evidence" in fit.numbers:
            value, se, _ = fit.numbers["log evidence"]
            lines.append(EvidenceLine("SMC, when the fit was made", "near", value, se or math.inf, True))
    if _misses_modes(fit):
        lines = [line if line.side == "below" else replace(line, holds=False, rests_on="all modes") for line in lines]
    best = {"bridge": "bridge", "weights": "importance"}.get(method, "SMC")
    finite = [abs(line.value) for line in lines if math.isfinite(line.value)]
    return diagnostics.interval(
        lines,
        slack=_ROUNDING.get(fit.facts.get("precision", ""), 1e-10) * max(1.0, *finite, 1.0),
        best=best,
        warnings=tuple(_warnings(fit, pool, moved, lines)),
        notes=tuple(_notes(fit, pool)),
        title=fit.title,
    )


def _confirmed(fit: Fit) -> bool:
    """Whether particles have confirmed q and the evidence of its weights."""
    return fit.verdict.level == TRUSTED and fit.verdict.evidence_trusted


def _misses_modes(fit: Fit) -> bool:
    """Whether q is known to cover only some modes, or orders of components: estimates are of a part of the evidence."""
    return any(check.name in ("modes", "orders") and not check.passed for check in fit.verdict.checks)


def _backed(line: EvidenceLine, fit: Fit) -> EvidenceLine:
    """A line from above that weights of q's draws give is believed where particles confirmed q, or under warning."""
    if line.side != "above" or not line.holds or _confirmed(fit) or fit.verdict.level == UNVERIFIED:
        return line
    return replace(line, holds=False, rests_on="a q that the verdict trusts")


def pool_of(fit: Fit, key: int | jax.Array = 0, least: int = 0) -> np.ndarray:
    """Log weights of q's draws: by row where rows are independent, else those of the verdict, or more if they are few.

    Args:
        fit: a fit; a loaded one gives what it kept.
        key: an integer or a JAX key, of fresh draws.
        least: how many at least.

    Returns:
        ``float64[N]``, or ``float64[N, rows]``.

    Raises:
        TautError: ``bad-combination`` for a point, which has none.
    """
    kept = fit.guide_log_weights if fit.log_weights is None else fit.log_weights
    if kept is None:
        raise TautError(
            "bad-combination",
            found=f"the evidence of a {fit.guide} guide, whose draws have no weights",
            expected="a q with a density",
            remedy="taut.fit(model, data).evidence()",
        )
    problem, solution = fit.problem, fit.solution
    if problem is None or solution is None:
        return kept
    fresh = jax.random.fold_in(jax_key(key), 4001)
    by_row = row_log_weights(problem, solution, max(len(kept), least), fresh, least=least)
    if by_row is not None:
        return by_row
    if least <= len(kept):
        return kept
    more = weigh_solution(problem, solution, least, fresh).log_weights
    assert more is not None
    return more.ravel()


def _pool(fit: Fit, particles: int, key: int | jax.Array, rng: np.random.Generator) -> Pool:
    """Log weights in groups of K."""
    kept = fit.guide_log_weights if fit.log_weights is None else fit.log_weights
    most = _MOST_DRAWS // _GROUPS if fit.problem is not None or kept is None else len(kept) // _GROUPS
    if isinstance(particles, bool) or not isinstance(particles, int) or not 1 <= particles <= most:
        raise TautError(
            "bad-argument",
            site="particles",
            found=f"particles={particles!r}",
            expected=f"a whole number from 1 to {most:,}",
            remedy="fit.evidence(particles=64)",
        )
    found = pool_of(fit, key, particles * _GROUPS)
    # Where the sites are very many, fewer draws are made than were asked for.
    return diagnostics.pooled(found, min(particles, len(found) // _GROUPS), rng)


def _moved(fit: Fit, method: Method, key: int | jax.Array) -> Moved | None:
    """Particles carried from q to the posterior; ``None`` where that cannot be done and was not asked for."""
    if fit.problem is None or fit.solution is None:
        if method != "auto":
            raise loaded(f"fit.evidence(method={method!r})")
        return None
    if not can_move(fit.solution):
        if method != "auto":
            raise refuse_to_move(fit.solution, method)
        return None
    if method == "annealing":
        check_annealing(fit.problem)
    return move(fit.problem, fit.solution, key)


def _warnings(fit: Fit, pool: Pool, moved: Moved | None, lines: list[EvidenceLine]) -> Iterator[str]:
    if fit.solution is not None and fit.solution.flat:
        yield f"The posterior does not fall off along {', '.join(fit.solution.flat)}: it may have no finite evidence."
    if fit.verdict.level not in (TRUSTED, CORRECTED, UNVERIFIED):
        yield f"The fit is {fit.verdict.headline}"
    if not pool.khat < FINITE_VARIANCE:
        yield (
            f"k-hat is {pool.khat:.2f}, above 1/2: the weights of q's draws have no finite variance. The errors of "
            "JVI, importance sampling and the reweighted EUBO say nothing, and CUBO-2 is infinite in truth; ELBO and "
            "IWAE still bound from below."
        )
    if moved is not None and moved.trouble:
        yield f"SMC from q to the posterior {moved.trouble}: its draws bound nothing from above."
    above = [line for line in lines if line.side == "above" and line.holds]
    if not above:
        yield "No estimate from above holds: the evidence may be larger than any number here." + (
            " A loaded fit has no density to move draws by: taut.fit(model, data).evidence() has." * (not fit.problem)
        )
    elif fit.verdict.level == UNVERIFIED and moved is None:
        yield (
            "Nothing but weights of q's own draws backs the end from above: they cannot show what q never reaches. "
            'fit.evidence(method="smc") looks.'
        )


def _notes(fit: Fit, pool: Pool) -> Iterator[str]:
    rows = pool.grouped.shape[2]
    if rows > 1:
        yield f"Logarithms are taken in each of {rows:,} independent rows and summed."
    if any(kind == "param" for kind in fit.kinds.values()):
        yield "The evidence is that of the model at the fitted values of its parameters."
