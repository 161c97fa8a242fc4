r"""The ELBO with its KL part in closed form: what the traced model shows to have one is not sampled.

On the real line the log prior of many families is, in each coordinate, $f(u) = c + a u + b e^{r u}$: for a Normal or a
LogNormal a square (the limit $r \to 0$), $r = 1$ for Gamma, Exponential and chi-square, 2 for HalfNormal and Rayleigh,
-1 for InverseGamma, $k$ for Weibull, $-1/\beta$ for Gumbel. Under a normal marginal $\mathcal N(m, s^2)$ then

$$\mathbb E f = f(m) + f''(m) \frac{e^{r^2 s^2 / 2} - 1}{r^2}, \qquad r = \frac{f'''(m)}{f''(m)},$$

with derivatives of the traced density itself, so that no family is written down twice.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from taut._errors import TautError
from taut.guides import Flat, FullRank, Guide, MeanField, MeanFieldNet
from taut.guides import Program as GuideProgram
from taut.problem import Program, fill

# Families of the form above, by the map from the real line under which they have it.
_FORMS = {
    "identity": ("Normal", "Gumbel"),
    "exp": (
        "LogNormal",
        "Gamma",
        "Exponential",
        "Chi2",
        "HalfNormal",
        "Rayleigh",
        "InverseGamma",
        "Weibull",
    ),
}
# Rates below this are taken as none: the square's own formula, with its first correction.
_FLAT = 1e-3


def closed_sites(program: Program, guide: Guide) -> tuple[str, ...]:
    """Latents whose log prior has a mean in closed form under the guide.

    Those of the families above, on no other latent's word; with independent normals (`MeanField`) on any other
    latent's word, too: given a draw of the others, their own coordinates are still normal.
    """
    return tuple(
        name
        for name, latent in program.latents.items()
        if latent.family in _FORMS.get(latent.transform, ())
        and (
            isinstance(guide, MeanField | MeanFieldNet)
            or all(_own(program, name, label) for label in program.reach["density"][name])
        )
    )


def _own(program: Program, name: str, label: str) -> bool:
    """Whether what a density depends on is the site itself, data, or a learned parameter."""
    return label.startswith("data:") or label in program.params or label in {name, f"{name}/centredness"}


def check_closed_form(guide: Guide) -> None:
    """Refuse a guide whose entropy and marginal spreads are not known in closed form.

    Raises:
        TautError: ``bad-combination``.
    """
    # Of a program the pairs of families are closed, given what was drawn before them: see `closed_pairs`.
    if isinstance(guide, GuideProgram) and guide.binding is not None and not (guide.binding.base or guide.still):
        return
    if not isinstance(guide, MeanField | FullRank | MeanFieldNet):
        raise TautError(
            "bad-combination",
            site="kl",
            found=f'ELBO(kl="analytic") with {type(guide).__name__}',
            expected="a Gaussian guide, taut.guides.MeanField or FullRank, or a program without transformed or "
            "discrete latents",
            remedy="taut.objectives.ELBO(): the KL part is then sampled, which is right for every guide",
        )


def closed_log_weights(program: Program, guide: Guide, draw: Any, model: Any, points: Any, inputs: Any) -> Any:
    r"""Numbers whose mean is the ELBO, and whose noise is that of the sampled sites alone; ``float[particles]``.

    $$\sum_{s \notin A} \log p_s(z_k) + \sum_{s \in A} \mathbb E_q[\log p_s \mid z_{k, -s}] + H(q)$$

    Args:
        program: the traced model.
        guide: `MeanField` or `FullRank`.
        draw: its parameters.
        model: unconstrained values of the model's parameters.
        points: draws from it, with a leading axis.
        inputs: `Problem.inputs`.
    """
    closed = closed_sites(program, guide)
    alone = [name for name in closed if all(_own(program, name, label) for label in program.reach["density"][name])]
    below = [name for name in closed if name not in alone]
    others = [name for name in program.outputs["density"] if name not in closed]
    assert isinstance(guide, MeanField | FullRank | MeanFieldNet)
    noise = jnp.zeros(guide.noise_size(program), points.coordinates.dtype)
    centre = guide.push(program, draw, noise, inputs)[0]
    loc, centredness = centre.coordinates, centre.centredness
    # Every squared noise has mean one, as it has at one.
    upper, log_q = guide.push(program, draw, noise + 1.0, inputs)
    spread = jnp.abs(upper.coordinates - loc) if isinstance(guide, MeanField | MeanFieldNet) else _spread(draw)

    def density(z: Any, names: list[str]) -> Any:
        whole = jnp.concatenate([z, model]) if program.num_params else z
        found = program.evaluate("density", fill(program, whole, centredness), *inputs, names=names)
        return sum(found.values(), jnp.zeros(()))

    def expected(name: str, z: Any) -> Any:
        """The mean of one site's log prior over its own coordinates, the others at ``z``."""
        part = program.layout[name]
        return _mean(lambda u: density(z.at[part].set(u), [name]), loc[part], spread[part])

    def one(point: Flat) -> Any:
        z = point.coordinates
        rows = guide.row_densities(program, draw, point, model, inputs)
        sampled = density(z, [name for name in others if name not in rows])
        return sum((*(expected(name, z) for name in below), *rows.values()), sampled)

    return jax.vmap(one)(points) + sum((expected(name, loc) for name in alone), -log_q)


def _mean(f: Any, loc: Any, spread: Any) -> Any:
    """The mean of a sum of the forms above over independent normals."""
    ones = jnp.ones_like(loc)

    def slope(u: Any) -> Any:
        return jax.grad(f)(u)

    def bend(u: Any) -> Any:
        return jax.jvp(slope, (u,), (ones,))[1]

    second, third = jax.jvp(bend, (loc,), (ones,))
    curved = second != 0
    rate = jnp.where(curved, third / jnp.where(curved, second, 1.0), 0.0)
    half = 0.5 * spread**2
    steep = jnp.abs(rate) > _FLAT
    safe = jnp.where(steep, rate, 1.0)
    factor = jnp.where(steep, jnp.expm1(safe**2 * half) / safe**2, half * (1.0 + 0.5 * rate**2 * half))
    return f(loc) + jnp.sum(second * factor)


def _spread(params: Any) -> Any:
    """Standard deviations of a full-rank normal."""
    factor = jnp.tril(params["lower"], -1) + jnp.diag(jnp.exp(params["log_diagonal"]))
    return jnp.sqrt(jnp.sum(factor**2, axis=1))
