"""The contract of a guide: a family q(z; phi) that can be drawn from and evaluated."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._precision import real_dtype
from taut.problem import Problem, Program


class Flat(NamedTuple):
    """A point on the real line.

    Attributes:
        coordinates: ``float[D]``, laid out as `Problem.layout` says; by site where the parameters are (`Guide.cut`).
        centredness: ``float[D + P]``: which coordinates hierarchical latents are in.
        stream: words of a key, where a guide draws noise for every row of data by itself (see `Guide.row_densities`).
    """

    coordinates: Any
    centredness: Any
    stream: Any = None


# A point is either `Flat`, or a mapping of values in the model's own space.
Point = Flat | Mapping[str, Any]


# Under this name a guide that reads the model's parameters finds them among its own.
MODEL = "model"


# What the parameters of families are the logarithm of.
_LOGS = {
    "log_scale": "exp",
    "log_diagonal": "exp",
    "log_stretch": "exp",
    "log_step": "exp",
    "log_rate": "exp",
    "log_weight": "softmax",
}


class Guide(abc.ABC):
    """A family $q(z; \\phi)$.

    Guides are frozen and hashable: they stand as static arguments of compiled functions. Parameters are a mapping from
    names to real arrays; every real value of them is valid.

    Laws, which the conformance suite checks: draws match `log_prob`; every draw lies in the model's support.
    """

    @property
    def follows_rows(self) -> bool:
        """Whether it falls apart into the rows of a subsampled plate: with parameters for all of them, it stands at
        those that ``inputs`` choose."""
        return False

    @property
    def evaluable(self) -> bool:
        """Whether `log_prob` can be had at a point, not only along with the draw."""
        return True

    @property
    def reads_model(self) -> bool:
        """Whether its draws depend on the model's own parameters: see `with_model`."""
        return False

    def bind(self, problem: Problem) -> Guide:
        """The guide ready for a problem: itself, for families that need to know no more than the traced program."""
        return self

    @abc.abstractmethod
    def init(self, problem: Problem, key: int | jax.Array) -> dict[str, Any]:
        """Parameters before the first step, as NumPy arrays."""

    @abc.abstractmethod
    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[Point, Any]:
        r"""One draw $z \sim q$ and $\log q(z)$, differentiable in ``params``; traceable.

        Args:
            program: the traced model.
            params: the guide's parameters.
            key: JAX key.
            inputs: `Problem.inputs`; guides that are functions of the data read them.
        """

    @property
    def still(self) -> dict[str, str]:
        """Sites whose draws do not follow their parameters smoothly, with their families."""
        return {}

    def still_log_prob(self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None) -> Any:
        """Log probability of the `still` sites in the draw of that key; differentiable in ``params``, traceable."""
        return 0.0

    @property
    def by_rows(self) -> bool:
        """Whether it draws noise for every row of data by itself, so that only means of log-weights are estimated."""
        return False

    def row_densities(
        self, program: Program, params: Mapping[str, Any], point: Any, model: Any, inputs: Any
    ) -> dict[str, Any]:
        r"""Log densities of observed sites at a draw with noise of its own for every row, by name; none by default.

        They stand in place of the sites' densities at the point: their mean over draws is the same, their noise less.

        Args:
            program: the traced model.
            params: the guide's parameters, which the draw follows; differentiable.
            point: what `sample_and_log_prob` returned.
            model: unconstrained values of the model's parameters.
            inputs: `Problem.inputs`.
        """
        return {}

    def cut(self, program: Program, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with long vectors cut up by site, as loops over many of them keep them; traceable.

        What is traceable in a guide takes its parameters this way too, and then a point with coordinates by site.
        """
        return dict(params)

    def joined(self, program: Program, params: Mapping[str, Any]) -> dict[str, Any]:
        """The opposite of `cut`; traceable."""
        return dict(params)

    @abc.abstractmethod
    def log_prob(self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None) -> Any:
        r"""$\log q(z)$ at a point that `sample_and_log_prob` returned; traceable."""

    def log_prob_by_site(
        self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any] | None:
        r"""$\log q$ at a point by site, before it is summed; ``None`` where q does not fall apart. Traceable."""
        return None

    def still_log_prob_by_site(
        self, program: Program, params: Mapping[str, Any], point: Any, inputs: Any = None
    ) -> dict[str, Any]:
        """What `still_log_prob` says at a point, by site, where q falls apart into sites. Traceable."""
        terms = self.log_prob_by_site(program, params, point, inputs) or {}
        return {name: terms[name] for name in self.still}

    @abc.abstractmethod
    def draws(
        self, problem: Problem, params: Mapping[str, Any], rows: int, rng: np.random.Generator
    ) -> tuple[Any, np.ndarray]:
        """Many draws at once, on the host: a point with a leading axis ``rows``, and $\\log q$, ``float64[rows]``."""

    @abc.abstractmethod
    def named(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What the parameters say, by site: arrays in unconstrained coordinates, with the transform's name."""

    def kinds(self, problem: Problem, params: Mapping[str, Any]) -> dict[str, str]:
        """By parameter, the map from the real line onto the space that it is read in: ``"identity"``, ``"exp"``,
        ``"softmax"``."""
        return {name: _LOGS.get(name.removeprefix("globals."), "identity") for name in params}


class NoiseGuide(Guide):
    r"""A guide whose draws are a smooth function of standard normal noise, $z = g(\epsilon; \phi)$.

    Members write `push`; where the noise comes from (fresh, antithetic, orthogonal, quasi-random, fixed) is not theirs.
    """

    @abc.abstractmethod
    def noise_size(self, program: Program) -> int:
        """How many standard normals one draw takes."""

    @abc.abstractmethod
    def push(self, program: Program, params: Mapping[str, Any], noise: Any, inputs: Any = None) -> tuple[Point, Any]:
        r"""The draw $z = g(\epsilon; \phi)$ and $\log q(z)$; traceable, differentiable in ``params``.

        Args:
            program: the traced model.
            params: the guide's parameters.
            noise: $\epsilon$, ``float[noise_size]``.
            inputs: `Problem.inputs`.
        """

    def from_gaussian(self, problem: Problem, loc: np.ndarray, factor: np.ndarray) -> dict[str, Any] | None:
        r"""Parameters of the member near $\mathcal N(m, C C^\top)$; ``None`` where only `init` can tell a start.

        Args:
            problem: the problem.
            loc: $m$ on the real line in the guide's coordinates, ``float[D]``.
            factor: lower triangular $C$ ``float[D, D]``, or standard deviations ``float[D]``.
        """
        return None

    def square_root(self, problem: Problem, params: Mapping[str, Any]) -> np.ndarray | None:
        r"""Any $A$ with $q = \mathcal N(m, A A^\top)$ and $m$ the parameter ``loc``, ``float[D, D]``; else ``None``."""
        return None

    def sample_and_log_prob(
        self, program: Program, params: Mapping[str, Any], key: jax.Array, inputs: Any = None
    ) -> tuple[Point, Any]:
        """See `Guide`: `push` of fresh noise."""
        noise = jax.random.normal(key, (self.noise_size(program),), real_dtype())
        return self.push(program, params, noise, inputs)


def with_model(guide: Guide, params: Mapping[str, Any], model: Any) -> Any:
    """A guide's parameters, and among them the model's where the guide reads these.

    Args:
        guide: the guide.
        params: its parameters.
        model: unconstrained values of the model's parameters, ``float[num_params]``.
    """
    return {**params, MODEL: model} if guide.reads_model and jnp.size(model) else params


def model_in(program: Program, params: Mapping[str, Any], dtype: Any) -> Any:
    """The model's parameters that `with_model` put among a guide's, ``float[num_params]``.

    Raises:
        TautError: ``bad-combination`` where an algorithm gave none.
    """
    if program.num_params and MODEL not in params:
        raise TautError(
            "bad-combination",
            found=f"a guide that follows the model's gradient, without the model's parameters "
            f"{', '.join(program.params)}",
            expected="an algorithm that gives them",
            remedy="algorithm=taut.algorithms.SVI()",
        )
    return jnp.asarray(params[MODEL], dtype) if program.num_params else jnp.zeros(0, dtype)
