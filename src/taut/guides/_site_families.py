"""A distribution for every latent, chosen by where its values lie, in the model's own space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut._precision import real_dtype, scope
from taut.guides._families import FAMILIES, PUSHED, USUAL, draw, kind_of, pushed, real, shift_of
from taut.guides._guide import Guide
from taut.guides._local import chosen_rows, rows_each, wide_dim, wide_layout, wide_shape
from taut.guides._start import Start, first_loc
from taut.problem import DISCRETE, Latent, Problem, Program, count_compilation


@dataclass(frozen=True)
class SiteFamilies(Guide):
    r"""Independent sites, each with a family that fits its support: $q(z) = \prod_j q_j(z_j; \phi_j)$.

    | support | family |
    | --- | --- |
    | real | ``"normal"`` |
    | positive, above or below a bound | ``"lognormal"``; ``"gamma"``, ``"inversegamma"``, ``"weibull"`` |
    | the same | ``"halfnormal"``, ``"foldednormal"``, ``"exponential"`` |
    | an interval | ``"beta"`` |
    | simplex | ``"dirichlet"`` |
    | angles | ``"vonmises"`` |
    | any other, or any | ``"pushed"``: a normal of full rank for each event on the real line, pushed by its map |

    Conjugate posteriors are members: a beta of Bernoulli data, a gamma of Poisson data, a Dirichlet of counts. Draws
    follow the parameters, gamma, beta, Dirichlet and von Mises by implicit differentiation. Parameters are
    ``"tau.concentration"`` and so on, logarithms where they are positive, in the shape of the site; a von Mises has
    the vector $\kappa (\cos\mu, \sin\mu)$.

    Args:
        families: by site, a name from the table or a distribution's class (``dist.Gamma``), for sites that shall have
            another than the usual one.
        start: where to begin; near the origin of the real line by default.

    Raises:
        TautError: ``bad-argument`` for an unknown family; when it is bound, ``site-missing`` for a name that is no
            latent, ``guide-support`` for a family on another support, or a support that depends on other latents.

    Source: Figurnov, Mohamed, Mnih (2018), Implicit reparameterization gradients.

    Example:
        >>> def model(y):
        ...     rate = taut.sample("rate", dist.Gamma(2.0, 1.0))
        ...     with taut.plate("rows", len(y)):
        ...         taut.sample("y", dist.Poisson(rate), obs=y)
        >>> guide = taut.guides.SiteFamilies({"rate": "gamma"})
        >>> fit = taut.fit(model, dict(y=np.array([3, 5, 4])), guide=guide)
        >>> round(float(fit["rate"].mean), 1)  # (2 + 12) / (1 + 3)
        3.5
    """

    families: Any = ()
    start: Start | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        entries = self.families.items() if isinstance(self.families, Mapping) else self.families
        object.__setattr__(self, "families", tuple(sorted((site, _name(site, f)) for site, f in entries)))

    @property
    def follows_rows(self) -> bool:
        """See `Guide`."""
        return True

    def bind(self, problem: Problem) -> SiteFamilies:
        """See `Guide`: families are checked against supports."""
        for site, _ in self.families:
            if site not in problem.latents:
                raise TautError(
                    "site-missing",
                    site=site,
                    found=f"SiteFamilies({{{site!r}: ...}})",
                    expected=f"latents of the model: {', '.join(problem.latents)}",
                    remedy=f"leave {site!r} out of families",
                )
        for latent in problem.latents.values():
            self._check(problem.program, latent)
        return self

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """Narrow distributions around where the start says."""
        self.bind(problem)
        program = problem.program
        loc, layout = first_loc(self.start, problem, 1.0, key, wide_dim(program)), wide_layout(program)
        found: dict[str, Any] = {}
        with scope(problem.precision):
            for name, latent in problem.latents.items():
                support, family = problem.program.supports[name], self.family_of(problem.program, name)
                u = loc[layout[name]].reshape(wide_shape(program, latent))
                if family == PUSHED:
                    batch, size = _events(latent, u.shape)
                    found[f"{name}.loc"] = u.reshape(*batch, size)
                    found[f"{name}.log_diagonal"] = np.full((*batch, size), np.log(0.1))
                    found[f"{name}.lower"] = np.zeros((*batch, size, size))
                    continue
                transform = dist.unconstrainer(support)
                assert transform is not None
                shift, scale = shift_of(support)
                x = np.asarray(transform(jnp.asarray(u, real_dtype())), float)
                if family not in ("normal", "vonmises"):
                    x = (x - np.asarray(shift, float)) / np.asarray(scale, float)
                found |= {f"{name}.{entry}": value for entry, value in FAMILIES[family].start(x).items()}
        return found

    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[dict[str, Any], Any]:
        """See `Guide`."""
        point, keys = {}, jax.random.split(key, len(program.latents))
        for name, own in zip(program.latents, keys, strict=True):
            fn, back = self._distribution(program, params, name, inputs)
            point[name] = back(draw(fn, own))
        return point, self.log_prob(program, params, point, inputs)

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        return sum(jnp.sum(term) for term in self.log_prob_by_site(program, params, point, inputs).values())

    def log_prob_by_site(
        self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any]:
        """See `Guide`: over each site's batch shape."""
        found = {}
        for name, latent in program.latents.items():
            family, value = self.family_of(program, name), jnp.asarray(point[name], real_dtype())
            fn, _ = self._distribution(program, params, name, inputs)
            if family == PUSHED:
                transform = dist.unconstrainer(program.supports[name])
                assert transform is not None
                u: Any = transform.inv(value)
                batch, size = _events(latent, latent.coordinate_shape)
                volume = transform.log_abs_det_jacobian(u, value)
                term = fn.log_prob(u.reshape(*batch, size)) - jnp.reshape(volume, (*batch, -1)).sum(axis=-1)
            else:
                shift, scale = _affine(family, program.supports[name])
                term = fn.log_prob((value - shift) / scale) - jnp.log(jnp.abs(scale))
                events = latent.event_dim - fn.event_dim
                term = term.sum(axis=tuple(range(term.ndim - events, term.ndim))) if events > 0 else term
            found[name] = term * rows_each(program, latent)
        return found

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `Guide`."""
        words = rng.integers(0, 2**32, (rows, 2), dtype=np.uint32)
        with scope(problem.precision):
            point, log_q = _draws(self, problem.program, dict(params), words, problem.inputs)
        return {name: np.asarray(value) for name, value in point.items()}, np.asarray(log_q, float)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`: the parameters by their own names."""
        found = {}
        for name in problem.latents:
            family = self.family_of(problem.program, name)
            kinds = {"loc": "identity", "log_diagonal": "exp", "lower": "identity"}
            for entry, kind in (kinds if family == PUSHED else FAMILIES[family].params).items():
                raw = np.asarray(params[f"{name}.{entry}"])
                value = np.exp(raw) if kind == "exp" else raw
                found[f"{name}.{entry}"] = {"loc": raw, "value": value, "transform": kind}
        return found

    def kinds(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, str]:
        """See `Guide`."""
        return {name: entry["transform"] for name, entry in self.named(problem, params).items()}

    def family_of(self, program: Program, name: str) -> str:
        """The family of a site, by name."""
        return dict(self.families).get(name) or USUAL.get(kind_of(program.supports.get(name)), PUSHED)

    def _check(self, program: Program, latent: Latent) -> None:
        support = program.supports.get(latent.name)
        transform = None if support is None else dist.unconstrainer(support)
        if latent.transform == DISCRETE or support is None or transform is None:
            why = "is discrete" if latent.transform == DISCRETE else "depends on other latents, or has no map"
            raise TautError(
                "guide-support",
                site=latent.name,
                source=latent.source,
                found=f"support {latent.support}, which {why}",
                expected="a support that is known before the fit",
                remedy="guide=taut.guides.MeanField(), or a guide function with "
                f'taut.sample("{latent.name}", ...) inside of that support',
            )
        family, kind = self.family_of(program, latent.name), kind_of(support)
        if family != PUSHED and FAMILIES[family].kind != kind:
            fitting = [name for name, f in FAMILIES.items() if f.kind == kind]
            raise TautError(
                "guide-support",
                site=latent.name,
                source=latent.source,
                found=f"{family!r} for the support {latent.support}",
                expected=f"one of {', '.join(map(repr, [*fitting, PUSHED]))}",
                remedy=f'taut.guides.SiteFamilies({{"{latent.name}": "{(fitting or [PUSHED])[0]}"}})',
            )

    def _distribution(self, program: Program, params: Mapping[str, Any], name: str, inputs: Any) -> tuple[Any, Any]:
        """The distribution of a site before its support's bounds are put in, and the map that does so."""
        family, support, latent = self.family_of(program, name), program.supports[name], program.latents[name]

        def own(entry: str) -> Any:
            return chosen_rows(program, latent, jnp.asarray(params[f"{name}.{entry}"]), inputs)

        if family == PUSHED:
            entries = (own(e) for e in ("loc", "log_diagonal", "lower"))
            transform = dist.unconstrainer(support)
            assert transform is not None
            return pushed(*entries), lambda u: transform(u.reshape(latent.coordinate_shape))
        shift, scale = _affine(family, support)
        kinds = FAMILIES[family].params
        values = {entry: real(own(entry), kind) for entry, kind in kinds.items()}
        return FAMILIES[family].make(**values), lambda x: shift + scale * x


def _affine(family: str, support: Any) -> tuple[Any, Any]:
    shift, scale = (0.0, 1.0) if family in ("normal", "vonmises", "dirichlet") else shift_of(support)
    return jnp.asarray(shift, real_dtype()), jnp.asarray(scale, real_dtype())


def _events(latent: Latent, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Batch shape of a site whose coordinates have a shape, and how many coordinates one event has."""
    batch = len(latent.shape) - latent.event_dim
    return shape[:batch], int(np.prod(shape[batch:], dtype=int))


def _name(site: str, family: Any) -> str:
    name = family.__name__ if isinstance(family, type) else family
    name = name.lower().replace("_", "").replace("-", "") if isinstance(name, str) else None
    name = {"folded": "foldednormal", "foldeddistribution": "foldednormal", "half": "halfnormal"}.get(name or "", name)
    if name == PUSHED or name in FAMILIES:
        return str(name)
    raise TautError(
        "bad-argument",
        site=site,
        found=f"SiteFamilies({{{site!r}: {family!r}}})",
        expected=f"one of {', '.join(map(repr, [*FAMILIES, PUSHED]))}, or a distribution's class",
        remedy=f'taut.guides.SiteFamilies({{"{site}": "gamma"}})',
    )


@partial(jax.jit, static_argnums=(0, 1))
def _draws(guide: SiteFamilies, program: Program, params: Any, words: Any, inputs: Any) -> Any:
    count_compilation()
    raw = jax.tree.map(jnp.asarray, params)
    return jax.vmap(lambda w: guide.sample_and_log_prob(program, raw, jax.random.wrap_key_data(w), inputs))(words)
