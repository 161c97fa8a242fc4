"""The problem: a model on data, as inference sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taut._errors import TautError
from taut._precision import Precision, default, real_dtype, scope
from taut.data import Batches
from taut.problem._assignments import Assignments, sum_notes
from taut.problem._batch import ROWS, OnBatch, check_plate, first_batch, leaves_of
from taut.problem._coordinates import Latent, Param
from taut.problem._cost import warn_of_length
from taut.problem._data import exempt, split
from taut.problem._influence import check_params, warn_of_unused
from taut.problem._kernel import Kernel, log_joint
from taut.problem._parity import sign_notes
from taut.problem._predictive import NewRows, predictive
from taut.problem._preflight import check_data, check_structure
from taut.problem._probabilities import check_probabilities
from taut.problem._program import trace_program
from taut.problem._untraced import Untraced, may_run_untraced

# What is read off draws, always together, so that it is compiled once.
READ_OUT = ("value", "param", "scale", "location")


class Problem:
    r"""A model and its data: named latents, their layout on the real line, and $\log p(x, z)$.

    Making one runs the model once, abstractly, and checks what can be checked before the first step.

    Args:
        model: a function written with taut's primitives.
        data: values by argument name. Arrays are traced; whole numbers, booleans and strings are fixed. Or
            `taut.data.Batches`: the problem is then that of a batch, whose rows stand for all.
        precision: ``"float64"`` (default on a CPU) or ``"float32"``.
        subsample: keep subsampled plates subsampled; otherwise they are opened whole.
        allow: by data entry, codes of checks that it is exempt from: ``{"labels": "unused-argument"}``.
        discrete: discrete latents that are left in, for a guide that draws them: all, or these. Every other one is
            summed out exactly, so that the log joint is that of the continuous latents.
        latents: whether a model without any is refused, as it is unless only its parameters are asked for.
        last: of `taut.data.Batches`, take the last and smaller batch of an epoch for a pattern, not the first.

    Attributes:
        model, data, precision, discrete: as given; of batches, ``data`` are the first one.
        arrays, constants: the data, traced and fixed.
        batches: `taut.data.Batches`, if the data are.
        program: the traced model.
        latents: `Latent` by name, in program order; discrete ones that are summed out are in ``summed`` instead.
        params: `Param` by name: what the model learns as a point.
        dim: number of latent coordinates $D$.
        layout: slice of each latent, then of each parameter, in a flat vector of length ``dim + num_params``.
        hierarchical: ``bool[dim + num_params]``, where centredness matters.
        notes: what is unusual but allowed.

    Raises:
        TautError: see `docs/errors.md`.

    Example:
        >>> import numpy as np, taut
        >>> from taut import dist
        >>> def model(y):
        ...     mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        ...     taut.sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> problem = taut.Problem(model, dict(y=2.0))
        >>> problem.dim, problem.layout
        (1, {'mu': slice(0, 1, None)})
        >>> round(float(problem.log_joint({"mu": 1.0})), 4)
        -2.8379
    """

    def __init__(
        self,
        model: Callable[..., Any],
        data: Mapping[str, Any] | Batches | None = None,
        *,
        precision: Precision | None = None,
        subsample: bool = False,
        discrete: bool | Collection[str] = False,
        latents: bool = True,
        last: bool = False,
        allow: Mapping[str, str | Iterable[str]] | None = None,
    ):
        self.model = model
        self.discrete = discrete
        self.precision: Precision = default() if precision is None else precision
        self.batches = data if isinstance(data, Batches) else None
        if isinstance(data, Batches):
            subsample, data = True, first_batch(data, last)
        arrays, constants = split(model, data)
        self.data = dict({} if data is None else data)
        self.allow = exempt(self.data, allow)
        program = model
        if self.batches is not None:
            program = OnBatch(model, self.batches.plate, self.batches.total)
            arrays[ROWS] = self.batches.first(last).rows
        with scope(self.precision):
            try:
                self.program, leaves = trace_program(
                    program, arrays, constants, subsample, discrete, self.batches is not None
                )
            except TautError as error:
                if not arrays or self.batches is not None or not may_run_untraced(error):
                    raise
                self.model = model = Untraced(model)
                arrays, constants = split(model, data)
                self.program, leaves = trace_program(model, arrays, constants, subsample, discrete)
        self.arrays, self.constants = arrays, constants
        if self.batches is not None:
            check_plate(self.batches, self.program.sites)
        self.notes = check_structure(model, self.data, self.program, latents)
        check_params(self.program)
        self._kernel = Kernel(self.program, leaves, self.precision)
        self.notes += check_data(arrays, constants, self.program, self._kernel)
        self.notes += sign_notes(self.program) + sum_notes(self.program)
        if not subsample:
            check_probabilities(self.program, self._kernel)
            warn_of_unused(self.program, arrays, self.allow)
            warn_of_length(self.program)
        self.dim = self.program.dim
        self.num_params = self.program.num_params
        self.layout = self.program.layout
        self.hierarchical = self.program.hierarchical

    @property
    def latents(self) -> dict[str, Latent]:
        """The latents by name, in program order."""
        return self.program.latents

    @property
    def summed(self) -> dict[str, Latent]:
        """The discrete latents that are summed out, by name."""
        return {} if self.program.sums is None else self.program.sums.latents

    @property
    def assignments(self) -> Assignments:
        """The posterior of the discrete latents that are summed out, given the others; there must be some."""
        assert self.program.sums is not None
        return Assignments(self.program.sums, self.precision, self._kernel._inputs)

    @property
    def params(self) -> dict[str, Param]:
        """The model's own parameters by name."""
        return self.program.params

    @cached_property
    def remainder(self) -> Problem:
        """The problem of the last and smaller batch of an epoch."""
        return Problem(
            self.model, self.batches, precision=self.precision, discrete=self.discrete, latents=False, last=True
        )

    @cached_property
    def tables(self) -> dict[int, Any]:
        """All rows of batches that are `resident`, as device arrays by their place among the inputs."""
        assert self.batches is not None and self.batches.source.whole is not None
        with scope(self.precision):
            none = np.zeros(0, int)
            found = leaves_of(self.arrays, self.batches.source.whole, none)
            rows = leaves_of(self.arrays, {}, none)
            return {place: jnp.asarray(table) for place, table in found.items() if place not in rows}

    @property
    def inputs(self) -> tuple[list[Any], list[Any]]:
        """Data leaves and constants as device arrays: what a compiled function takes as arguments."""
        return self._kernel._inputs, self._kernel._consts

    @cached_property
    def fingerprint(self) -> np.ndarray:
        """Tells data from other data of the same shapes by a sample of their entries, ``uint32[2]``."""
        hasher = hashlib.blake2b(digest_size=8)
        for leaf in self._kernel._inputs[:-1]:
            if leaf.is_fully_addressable:
                flat = np.asarray(leaf).ravel()
                hasher.update(flat[:: max(1, flat.size // 1024)].tobytes())
        return np.frombuffer(hasher.digest(), np.uint32)

    def kernel(self) -> Kernel:
        """The compiled kernel; it counts gradients and compilations."""
        return self._kernel

    def centredness(self, hierarchies: float = 1.0) -> np.ndarray:
        """A centredness vector: ``hierarchies`` at hierarchical coordinates (0 is non-centred), 1 elsewhere."""
        return np.where(self.hierarchical, hierarchies, 1.0)

    def log_joint(self, point: Any, centredness: Any = None, inputs: Any = None) -> Any:
        r"""$\log p(x, z)$ in nats; traceable.

        Args:
            point: a mapping of values in the model's own space, or a flat vector ``float[dim + num_params]`` on the
                real line, whose density includes the Jacobian of the map.
            centredness: of a flat vector; the model as written by default.
            inputs: `Problem.inputs`, passed as arguments by compiled functions.

        Returns:
            A scalar.
        """
        leaves, consts = self.inputs if inputs is None else inputs
        with scope(self.precision):
            if isinstance(point, Mapping):
                return sum(self.program.evaluate("plain", {}, leaves, consts, values=self._values(point)).values())
            lam = self.centredness() if centredness is None else centredness
            return log_joint(self.program, jax.numpy.asarray(point, real_dtype()), lam, leaves, consts)

    def log_joint_by_site(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The log density that each site adds at given values, in nats; the sum is `log_joint`."""
        leaves, consts = self.inputs
        with scope(self.precision):
            return self.program.evaluate("plain", {}, leaves, consts, values=self._values(values))

    def constrain(self, points: np.ndarray, centredness: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Values in the model's own space.

        Args:
            points: ``float[n, dim + num_params]`` on the real line.
            centredness: the coordinates that ``points`` are in; the model as written by default.

        Returns:
            Latents, deterministic sites and parameters by name, ``(n, *shape)``.
        """
        lam = self.centredness() if centredness is None else centredness
        values, params, *_ = self._kernel.outputs(READ_OUT, np.atleast_2d(points), lam)
        return self.in_order(values | params)

    def in_order(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The same mapping in program order."""
        return {name: values[name] for name in self.program.sites if name in values}

    def observed(self) -> dict[str, np.ndarray]:
        """The data of the observed sites that do not depend on latents, by name."""
        return self._kernel.constants(("observed",), self.program.fixed())[0]

    def hierarchies(self, points: np.ndarray, centredness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Location and log scale of every coordinate's prior, where it is a location-scale family; 0 elsewhere.

        Args:
            points: ``float[n, dim + num_params]``.
            centredness: the coordinates that they are in.

        Returns:
            Two arrays ``float64[n, dim + num_params]``.
        """
        _, _, scales, locations = self._kernel.outputs(READ_OUT, points, centredness)
        location, log_scale = np.zeros(points.shape), np.zeros(points.shape)
        for name, scale in scales.items():
            part = self.layout[name]
            log_scale[:, part] = np.log(scale).reshape(len(points), -1)
            location[:, part] = locations[name].reshape(len(points), -1)
        return location, log_scale

    def predict(
        self,
        draws: Mapping[str, np.ndarray] | None = None,
        data: Mapping[str, Any] | None = None,
        *,
        size: int | None = None,
        key: int | jax.Array = 0,
        new_rows: NewRows = "error",
    ) -> dict[str, np.ndarray]:
        """Predictive draws: prior ones without ``draws``, posterior ones with them; see `predictive`.

        Args:
            draws: values of latents and parameters, ``(n, *shape)``.
            data: other arguments for the model; by default the problem's own, with observed sites drawn anew.
            size: number of runs; by default that of ``draws``, else 1,000.
            key: an integer or a JAX key.
            new_rows: see `predictive`.

        Returns:
            Drawn and deterministic sites by name, ``(size, *shape)``.
        """
        draws = {} if draws is None else {n: v for n, v in draws.items() if n in self.layout or n in self.summed}
        if size is None:
            size = len(next(iter(draws.values()))) if draws else 1000
        return predictive(
            self.model,
            self.data if data is None else data,
            draws,
            size=size,
            key=key,
            precision=self.precision,
            forget=data is None,
            new_rows=new_rows,
        )

    def _values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        missing = [name for name in self.layout if name not in values]
        if missing:
            raise TautError(
                "site-missing",
                site=missing[0],
                found=f"values for {', '.join(values) or 'nothing'}",
                expected=f"a value for each of {', '.join(self.layout)}",
                remedy=f"add {missing[0]!r} to the mapping",
            )
        found: dict[str, Any] = {}
        for site in (*self.latents.values(), *self.params.values()):
            value = found[site.name] = jax.numpy.asarray(values[site.name], real_dtype())
            if value.shape != site.shape:
                raise TautError(
                    "bad-argument",
                    site=site.name,
                    source=site.source,
                    found=f"a value of shape {value.shape}",
                    expected=f"one point of shape {site.shape}",
                    remedy="jax.vmap(problem.log_joint)(values) for many points",
                )
        return found
