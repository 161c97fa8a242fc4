"""The evidence from above: draws of the posterior annealed back to a Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut._keys import generator
from taut._precision import real_dtype, scope
from taut.algorithms._smc_moves import Frames, hmc, tuned
from taut.algorithms._smc_target import Components, Target
from taut.algorithms._starts import lower_factor
from taut.guides import Flat, FullRank, Guide
from taut.problem import Problem

_TRAJECTORY = 1.57
_STEP_NATS = 0.002  # by which a step of temperature may lift the mean
_MOST_STEPS = 600


class Reversed(NamedTuple):
    """What annealing back found. log_weights: of each chain, nats, whose mean lies above log Z, ``(P,)``. steps: of
    temperature. gradients: used. finished: whether q was reached."""

    log_weights: np.ndarray
    steps: int
    gradients: int
    finished: bool


def reverse_anneal(
    problem: Problem,
    model_params: np.ndarray,
    states: np.ndarray,
    centredness: np.ndarray,
    key: int | jax.Array = 0,
    *,
    chains: int = 256,
    most_gradients: int = 1_000_000,
) -> Reversed:
    r"""Carry draws of the posterior back to a Gaussian g along $p^\beta g^{1-\beta}$: $\mathbb E W \ge \log Z$.

    $$W = \sum_t (\beta_t - \beta_{t-1}) \log\frac{p(z_t)}{g(z_t)},\qquad \mathbb E\, e^{-W} = 1/Z$$

    with $z_T$ a draw of the posterior and each $z_t$ moved at its temperature. g has the moments of half of the
    particles, the chains begin at the others: a q that is narrow would be left at once, and never come back to.
    Hierarchies are taken as they come or non-centred, where g is nearer. The bound holds however badly the chains mix,
    but only from draws of the posterior: where these miss a part of mass $1 - \pi$, it may lie below by $-\log\pi$.
    A step of temperature is as long as it lifts the mean by 0.002 nats.

    Args:
        problem: the problem on its full data.
        model_params: unconstrained values of the model's own parameters.
        states: draws of the posterior, ``(T, P, D)`` or with the parameters beside them: T moments of P particles.
        centredness: the coordinates that they are in.
        key: an integer or a JAX key.
        chains: most of them.
        most_gradients: no move is begun beyond it.

    Returns:
        `Reversed`.

    Source: Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo.
    """
    rng = generator(key, 3400)
    target, points, centredness = _nearest(problem, model_params, states[..., : problem.dim], centredness)
    components, others = target.components, points[-1, 1::2]
    z = others[np.linspace(0, len(others) - 1, min(chains, len(others))).astype(int)]
    frames = Frames(components.factors, np.zeros(len(z), int))
    cloud = target.cloud(z, centredness, with_q=True)
    beta, steps, step = 1.0, 0, problem.dim**-0.25
    total = np.zeros(len(z))
    while beta > 0.0:
        ratio = cloud.log_p - cloud.log_q
        if not np.isfinite(ratio).all() or steps >= _MOST_STEPS or target.gradients > most_gradients:
            return Reversed(total, steps, target.gradients, False)
        delta = _cooling(beta, ratio)
        total += delta * ratio
        beta, steps = beta - delta, steps + 1
        if beta > 0.0:
            cloud, accepted = hmc(
                lambda rows: target.cloud(rows, centredness, with_q=True), cloud, beta, frames, step, _TRAJECTORY, rng
            )
            step = tuned(step, float(accepted.mean()))
    return Reversed(total, steps, target.gradients, True)


def _nearest(
    problem: Problem, model_params: np.ndarray, states: np.ndarray, centredness: np.ndarray
) -> tuple[Target, np.ndarray, np.ndarray]:
    """The Gaussian that half of the particles shape, in the coordinates where it is nearest to them; these particles
    and coordinates."""
    found = []
    for lam in (centredness, problem.centredness(0.0)) if problem.hierarchical.any() else (centredness,):
        z = states.reshape(-1, problem.dim)
        if lam is not centredness:
            z = found[0][1].swapped(z, centredness, lam)
        points = z.reshape(states.shape)
        if not np.isfinite(points).all():
            continue
        target = Target(problem, model_params, Components(FullRank(), FullRank.from_moments(*_moments(points[:, ::2]))))
        cloud = target.cloud(points[-1, ::2], lam, with_q=True)
        found.append((float(np.mean(cloud.log_p - cloud.log_q)), target, points, lam))
    best = min(found, key=lambda one: one[0] if np.isfinite(one[0]) else np.inf)
    return best[1:]


def _moments(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and factor of a Gaussian; correlations are shrunk as far as few particles leave them to chance."""
    rows, particles = states.reshape(-1, states.shape[2]), states.shape[1]
    d = rows.shape[1]
    mean = rows.mean(0)
    centred = rows - mean
    variance = np.maximum((centred**2).mean(0), 1e-300)
    weight = d / (particles + d)
    return mean, lower_factor((1 - weight) * (centred.T @ centred) / len(rows) + weight * np.diag(variance))


def _cooling(beta: float, ratio: np.ndarray) -> float:
    r"""The longest step down at which $\mathrm{KL}(\pi_\beta \| \pi_{\beta - \delta}) = \delta\,\mathbb E\,\ell +
    \log\mathbb E e^{-\delta\ell}$ stays small, $\ell = \log p/q$."""
    centred = ratio - ratio.mean()

    def lost(delta: float) -> float:
        return float(np.logaddexp.reduce(-delta * centred) - np.log(len(centred)))

    if lost(beta) <= _STEP_NATS:
        return beta
    low, high = 0.0, beta
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if lost(middle) <= _STEP_NATS else (low, middle)
    return high


def log_weights_at(
    problem: Problem,
    guide: Guide,
    params: Mapping[str, Any],
    model_params: np.ndarray,
    points: np.ndarray,
    centredness: np.ndarray,
) -> np.ndarray:
    """``log p - log q`` at points on the real line, ``float64[n]``.

    Args:
        problem: the problem on its full data.
        guide: a family on the real line.
        params: its parameters.
        model_params: unconstrained values of the model's own parameters.
        points: ``(n, D)``, or with the parameters beside them.
        centredness: the coordinates that they are in.
    """
    z = np.asarray(points, float)[:, : problem.dim]
    own = np.asarray(model_params, float)
    rows = np.concatenate([z, np.broadcast_to(own, (len(z), len(own)))], axis=1)
    log_p, _ = problem.kernel()(rows, centredness)
    with scope(problem.precision):
        here = {name: jnp.asarray(value, real_dtype()) for name, value in params.items()}
        lam = jnp.asarray(centredness, real_dtype())
        density = jax.jit(jax.vmap(lambda u: guide.log_prob(problem.program, here, Flat(u, lam), problem.inputs)))
        log_q = np.asarray(density(jnp.asarray(z, real_dtype())), float)
    return np.asarray(log_p, float) - log_q
