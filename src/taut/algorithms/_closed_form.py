r"""The ELBO with its KL part in closed form: what the traced model shows to have one is not sampled."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from taut._errors import TautError
from taut.guides import Flat, FullRank, Guide, MeanField, MeanFieldNet
from taut.problem import Program, fill


def closed_sites(program: Program) -> tuple[str, ...]:
    """Latents whose log prior has a closed-form mean under any Gaussian: Normal, on no other latent's word.

    Their log density is a sum of squares of their own coordinates, masked and scaled or not.
    """
    own = {"", "/centredness"}
    return tuple(
        name
        for name, latent in program.latents.items()
        if latent.family == "Normal"
        and all(
            label.startswith("data:") or label in program.params or label in {name + end for end in own}
            for label in program.reach["density"][name]
        )
    )


def check_closed_form(guide: Guide) -> None:
    """Refuse a guide whose entropy and marginal spreads are not known in closed form.

    Raises:
        TautError: ``bad-combination``.
    """
    if not isinstance(guide, MeanField | FullRank | MeanFieldNet):
        raise TautError(
            "bad-combination",
            site="kl",
            found=f'ELBO(kl="analytic") with {type(guide).__name__}',
            expected="a Gaussian guide: taut.guides.MeanField or FullRank",
            remedy="taut.objectives.ELBO(): the KL part is then sampled, which is right for every guide",
        )


def closed_log_weights(program: Program, guide: Guide, draw: Any, model: Any, points: Any, inputs: Any) -> Any:
    r"""Numbers whose mean is the ELBO, and whose noise is that of the sampled sites alone; ``float[particles]``.

    $$\sum_{s \notin A} \log p_s(z_k) + \sum_{s \in A} \mathbb E_q[\log p_s] + H(q)$$

    For a sum of squares $f$ of single coordinates, $\mathbb E_q f = \frac12 [f(m + \sigma) + f(m - \sigma)]$, whatever
    the correlations of $q$.

    Args:
        program: the traced model.
        guide: `MeanField` or `FullRank`.
        draw: its parameters.
        model: unconstrained values of the model's parameters.
        points: draws from it, with a leading axis.
        inputs: `Problem.inputs`.
    """
    closed = closed_sites(program)
    others = [name for name in program.outputs["density"] if name not in closed]

    def terms(point: Flat, names: Collection[str]) -> Any:
        whole = jnp.concatenate([point.coordinates, model]) if program.num_params else point.coordinates
        found = program.evaluate("density", fill(program, whole, point.centredness), *inputs, names=names)
        return sum(found.values(), jnp.zeros(()))

    centredness = points.centredness[0]

    def at(z: Any) -> Flat:
        return Flat(z, centredness)

    loc, spread = draw["loc"], _spread(draw)
    expected = 0.5 * (terms(at(loc + spread), closed) + terms(at(loc - spread), closed))
    entropy = -guide.log_prob(program, draw, at(loc), inputs) + 0.5 * program.dim

    def sampled(point: Flat) -> Any:
        rows = guide.row_densities(program, draw, point, model, inputs)
        return terms(point, [name for name in others if name not in rows]) + sum(rows.values())

    return jax.vmap(sampled)(points) + expected + entropy


def _spread(params: Any) -> Any:
    if "log_scale" in params:
        return jnp.exp(params["log_scale"])
    factor = jnp.tril(params["lower"], -1) + jnp.diag(jnp.exp(params["log_diagonal"]))
    return jnp.sqrt(jnp.sum(factor**2, axis=1))
