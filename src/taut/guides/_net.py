"""Mean-field guides of networks: the weights' noise is drawn for every row of data by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._keys import jax_key
from taut._precision import real_dtype, scope
from taut.guides._gaussian import Delta, MeanField, check_scale
from taut.guides._guide import Flat, Guide, NoiseGuide
from taut.guides._local import wide_layout
from taut.guides._noise import DropInputs, LocalReparametrisation
from taut.guides._products import Product, RowNoise, Spread, columns, products, reached, with_noise
from taut.guides._start import Start
from taut.problem import Problem, Program, fill


@dataclass(frozen=True)
class MeanFieldNet(NoiseGuide):
    r"""Mean field, $q(w) = \prod_j \mathcal N(w_j; m_j, s_j^2)$, with noise of its own for every row of data.

    The same family, parameters and draws as `MeanField`; what differs is how the ELBO is estimated. The traced model
    is searched for layers: weights that meet the rows of a plate in one product and nowhere else, and biases. Their
    products are drawn row by row,

    $$\hat{\mathcal L} = \sum_i \log p(y_i \mid a_i) + \log p(w) - \log q(w), \qquad a_i \sim q(x_i w)$$

    which leaves the expectation as it is, because the likelihood is a sum over rows, and takes away the noise that rows
    share. All other latents are drawn once for all rows. It is for means of log-weights (the ELBO): an
    importance-weighted bound needs one draw for all of a row's layers and all rows.

    Args:
        noise: `LocalReparametrisation` (the default), or `Flipout`.
        scale: standard deviation of every weight at the start.
        start: where to begin: ``taut.nn.AtModule("net", net)`` is a network's usual start; near the origin by default.

    Raises:
        TautError: ``bad-combination``, at `init`, where no layer is found or rows are not independent.

    Source: Kingma, Salimans, Welling (2015), Variational dropout and the local reparameterization trick; Wen et al.
    (2018), Flipout.

    Example:
        >>> def model(x, y):
        ...     w = taut.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        ...     with taut.plate("rows", len(x)):
        ...         taut.sample("y", dist.Normal(x @ w, 1.0), obs=y)
        >>> problem = taut.Problem(model, dict(x=np.eye(2), y=np.ones(2)))
        >>> taut.guides.MeanFieldNet().layers(problem.program)
        ('w',)
    """

    noise: RowNoise = LocalReparametrisation()
    scale: float = 0.1
    start: Start | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_scale("MeanFieldNet", self.scale)
        if not isinstance(self.noise, RowNoise):
            raise TautError(
                "bad-argument",
                site="noise",
                found=f"MeanFieldNet(noise={self.noise!r})",
                expected="taut.nn.LocalReparametrisation() or taut.nn.Flipout()",
                remedy="taut.nn.MeanFieldNet()",
            )

    @property
    def by_rows(self) -> bool:
        """See `Guide`."""
        return True

    @property
    def follows_rows(self) -> bool:
        """See `Guide`."""
        return _MEAN_FIELD.follows_rows

    def layers(self, program: Program) -> tuple[str, ...]:
        """The latents whose noise is drawn row by row."""
        return tuple(product.name for product in layers(program))

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """See `MeanField`; the model's layers and the independence of its rows are checked."""
        params = MeanField(start=self.start, scale=self.scale).init(problem, key)
        check_layers(problem, self, self.noise, layers(problem.program), params)
        return params

    def row_densities(
        self, program: Program, params: Mapping[str, Any], point: Any, model: Any, inputs: Any
    ) -> dict[str, Any]:
        """See `Guide`."""
        return densities(program, layers(program), self.spreads, self.noise, params, point, model, inputs)

    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[Flat, Any]:
        """See `Guide`: a draw of the weights, and a key for the rows' own noise."""
        weights, rows = jax.random.split(key)
        point, log_q = _MEAN_FIELD.sample_and_log_prob(program, params, weights, inputs)
        assert isinstance(point, Flat)
        return point._replace(stream=jax.random.key_data(rows)), log_q

    def noise_size(self, program: Program) -> int:
        """See `NoiseGuide`."""
        return _MEAN_FIELD.noise_size(program)

    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Flat, Any]:
        """See `NoiseGuide`; the rows' own noise follows from that of the weights."""
        point, log_q = _MEAN_FIELD.push(program, params, noise, inputs)
        words = jax.lax.bitcast_convert_type(jnp.stack([jnp.sum(noise), jnp.sum(noise**2)]).astype("float32"), "uint32")
        return point._replace(stream=words), log_q

    def cut(self, program: Program, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `Guide`."""
        return _MEAN_FIELD.cut(program, params)

    def joined(self, program: Program, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `Guide`."""
        return _MEAN_FIELD.joined(program, params)

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`."""
        return _MEAN_FIELD.log_prob(program, params, point, inputs)

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`: draws of the weights."""
        return _MEAN_FIELD.draws(problem, params, rows, rng)

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`."""
        return _MEAN_FIELD.named(problem, params)

    @staticmethod
    def spreads(program: Program, params: Mapping[str, Any], point: Flat) -> dict[str, Spread]:
        """Means, standard deviations and draws of the layers' weights."""
        wide = wide_layout(program)
        found = {}

        def of(values: Any, where: Mapping[str, slice], name: str) -> Any:
            part = values[name] if isinstance(values, Mapping) else values[where[name]]
            return part.reshape(program.latents[name].shape)

        for product in layers(program):
            mean, log_sd = (of(params[name], wide, product.name) for name in ("loc", "log_scale"))
            drawn = of(point.coordinates, program.layout, product.name)
            found[product.name] = Spread(mean, jnp.exp(log_sd), drawn)
        return found


@dataclass(frozen=True)
class MCDropout(Guide):
    r"""A point, with inputs of layers left out at random: $q(W) = M \operatorname{diag}(b / (1 - p))$, $b_k$ Bernoulli.

    Fitted by `SVI`, it is a network trained with dropout, whose weight decay is the model's prior; its draws are
    networks with units left out, so that predictions from them are Monte Carlo dropout. It has no density: what is
    maximised is the log joint under dropout, no bound on the evidence, and the result says so. It is here to be
    compared with.

    Args:
        rate: the share $p$ of a layer's inputs that is left out.
        data: drop the data's own columns, too.
        start: where to begin: ``taut.nn.AtModule("net", net)`` is a network's usual start; near the origin by default.

    Raises:
        TautError: ``bad-combination``, at `init`, where no layer is found or rows are not independent.

    Source: Gal, Ghahramani (2016), Dropout as a Bayesian approximation.
    """

    rate: float = 0.5
    data: bool = False
    start: Start | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 <= self.rate < 1:
            raise TautError(
                "bad-argument",
                site="rate",
                found=f"MCDropout(rate={self.rate!r})",
                expected="a share from 0 to below 1",
                remedy="taut.nn.MCDropout(rate=0.5)",
            )

    @property
    def by_rows(self) -> bool:
        """See `Guide`."""
        return True

    @property
    def evaluable(self) -> bool:
        """See `Guide`: it has no density."""
        return False

    def dropped(self, program: Program) -> list[Product]:
        """The layers whose inputs are left out."""
        found = [p for p in layers(program) if p.kind == "dot"]
        return found if self.data else [p for p in found if _is_inner(program, p, found)]

    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """A point near the origin; the model's layers and the independence of its rows are checked."""
        params = Delta(start=self.start).init(problem, key)
        check_layers(problem, self, DropInputs(self.rate), self.dropped(problem.program), params)
        return params

    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[Flat, Any]:
        """See `Guide`: the point, and 0."""
        point, zero = _DELTA.sample_and_log_prob(program, params, key, inputs)
        return point._replace(stream=jax.random.key_data(key)), zero

    def row_densities(
        self, program: Program, params: Mapping[str, Any], point: Any, model: Any, inputs: Any
    ) -> dict[str, Any]:
        """See `Guide`."""
        noise = DropInputs(self.rate)
        return densities(program, self.dropped(program), self.spreads, noise, params, point, model, inputs)

    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        """See `Guide`: 0, for the want of a density."""
        return _DELTA.log_prob(program, params, point, inputs)

    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Flat, np.ndarray]:
        """See `Guide`: networks with inputs of layers left out, one choice per draw."""
        point, zeros = _DELTA.draws(problem, params, rows, rng)
        z = np.array(point.coordinates)
        for product in self.dropped(problem.program):
            spread, inputs = columns(problem.program, product)
            kept = (rng.random((rows, inputs)) >= self.rate) / (1.0 - self.rate)
            with scope(problem.precision):
                masks = np.asarray(jax.vmap(spread)(jnp.asarray(kept, real_dtype())))
            z[:, problem.layout[product.name]] *= masks.reshape(rows, -1)
        return point._replace(coordinates=z), zeros

    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """See `Guide`."""
        return _DELTA.named(problem, params)

    @staticmethod
    def spreads(program: Program, params: Mapping[str, Any], point: Flat) -> dict[str, Spread]:
        """Means, standard deviations and draws of the layers' weights."""
        found = {}
        for product in layers(program):
            mean = point.coordinates[program.layout[product.name]].reshape(program.latents[product.name].shape)
            found[product.name] = Spread(mean, jnp.zeros_like(mean), mean)
        return found


_MEAN_FIELD, _DELTA = MeanField(), Delta()


def layers(program: Program) -> list[Product]:
    """Products of latents with rows whose noise may be drawn row by row: of latents that are their own coordinates."""
    own = ("real", "identity")
    names = [n for n, s in program.latents.items() if not s.plates and (s.support, s.transform) == own]
    found = products(program, names)
    length = _rows(program, found)
    return [p for p in found if p.rows == length]


def densities(
    program: Program,
    found: list[Product],
    spreads: Any,
    noise: RowNoise,
    params: Mapping[str, Any],
    point: Any,
    model: Any,
    inputs: Any,
    group: str = "density",
    spoil: Any = None,
) -> dict[str, Any]:
    """Log densities of the sites that the layers reach, with noise drawn row by row; see `Guide.row_densities`."""
    holes = fill(program, point.coordinates, point.centredness, model)
    key = jax.random.wrap_key_data(point.stream)
    return with_noise(program, found, spreads(program, params, point), noise, key, holes, inputs, group, spoil)


def check_layers(
    problem: Problem, guide: Any, noise: RowNoise, found: list[Product], params: Mapping[str, Any]
) -> None:
    """Refuse a model without layers, or one whose rows see each other's products.

    Raises:
        TautError: ``bad-combination``.
    """
    program, inputs = problem.program, problem.inputs
    name = next(iter(problem.latents), None)
    if not found:
        raise _refusal(
            name,
            f"{type(noise).__name__}, and no latent that meets the rows of a plate in one product and nowhere else",
            "a layer, net(x) row by row (jax.vmap) and not inside of jax.jit, with its data in a plate",
        )
    rows = found[0].rows
    with scope(problem.precision):
        real = {n: jnp.asarray(v, real_dtype()) for n, v in params.items()}
        point, _ = guide.sample_and_log_prob(program, real, jax_key(0), inputs)
        model = np.zeros(problem.num_params)
        if problem.num_params:
            (inits,) = problem.kernel().constants(("init",))
            model = np.concatenate([inits[n].ravel() for n in problem.params])

        # The network is an argument: the compiler would take its time over the products of constants.
        @jax.jit
        def terms(spoil: Any, real: Any, point: Any, model: Any, inputs: Any) -> Any:
            made = (guide.spreads, noise, real, point, model, inputs)
            seen = densities(program, found, *made, group="density_terms", spoil=spoil)
            return {n: _by_row(program, n, term) for n, term in seen.items()}

        def run(spoil: Any) -> Any:
            return terms(spoil, real, point, jnp.asarray(model, real_dtype()), inputs)

        index = np.arange(rows)
        if not all(np.isfinite(np.asarray(t)).all() for t in run(jnp.zeros(rows, bool)).values()):
            return  # the run itself will say where
        for bit in range((rows - 1).bit_length()):
            for mask in ((index >> bit & 1).astype(bool), ~(index >> bit & 1).astype(bool)):
                for site, term in run(jnp.asarray(mask)).items():
                    if not np.isfinite(np.asarray(term)[~mask]).all():
                        raise _refusal(
                            site,
                            f"{type(noise).__name__}, and rows of {site!r} that depend on the products of other rows",
                            "rows that are independent given the weights: noise of its own for every row would change "
                            "what they have in common",
                        )


def _refusal(site: str | None, found: str, expected: str) -> TautError:
    return TautError(
        "bad-combination", site=site, found=found, expected=expected, remedy="guide=taut.guides.MeanField()"
    )


def _rows(program: Program, found: list[Product]) -> int:
    """The length of the plate that all sites which the products reach stand in; 0 without one."""
    sites = [program.sites[name] for name in reached(program, found)]
    common = set.intersection(*({p.name for p in s.plates} for s in sites)) if sites else set()
    lengths = [p.length for p in sites[0].plates if p.name in common] if common else []
    counts = [p.rows for p in found]
    return max(lengths, key=counts.count, default=0)


def _by_row(program: Program, name: str, term: Any) -> Any:
    """A site's terms, summed over everything but the rows."""
    rows = next(p.rows for p in layers(program))
    frame = next(p for p in program.sites[name].plates if p.length == rows)
    axis = jnp.ndim(term) + frame.dim
    return jnp.sum(term, axis=[a for a in range(jnp.ndim(term)) if a != axis])


def _is_inner(program: Program, product: Product, found: list[Product]) -> bool:
    """Whether a layer's input depends on an earlier layer."""
    earlier = {program.closed.jaxpr.eqns[p.equation].outvars[0] for p in found if p.equation < product.equation}
    eqns = program.closed.jaxpr.eqns
    for eqn in eqns[: product.equation]:
        if any(not _is_literal(v) and v in earlier for v in eqn.invars):
            earlier.update(eqn.outvars)
    return eqns[product.equation].invars[1 - product.side] in earlier


def _is_literal(v: Any) -> bool:
    return not hasattr(v, "count") and hasattr(v, "val")
