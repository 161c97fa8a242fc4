"""A log density as a model, for those who have no program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut.core import factor, sample, user_line


def density(
    logp: Callable[..., Any], like: Mapping[str, Any], support: Mapping[str, Any] | None = None
) -> Callable[..., None]:
    r"""A model whose posterior is a given log density, $p(z) \propto e^{\text{logp}(z)}$.

    The constant need not be known: what a fit reports as the log evidence is then the logarithm of
    $\int e^{\text{logp}(z)} dz$ over the support.

    Args:
        logp: the log density in nats, in the space of ``support``, without any Jacobian. It takes the latents by name,
            ``logp(x, y)``, or all of them as one mapping, ``logp(z)``; whatever else it takes is data. It must be
            written with `jax.numpy` and return one number.
        like: a number or an array per latent, of which only the shape is read.
        support: constraints of `taut.dist.constraints` by name; ``real`` where none is given.

    Returns:
        A function for `taut.fit` and `taut.Problem`, whose arguments are the data that ``logp`` takes.

    Raises:
        TautError: ``bad-argument`` for a ``like`` that is no mapping to arrays, for an unknown name in ``support``, and
            when the model is traced for a density that is not one number.

    Example:
        >>> def logp(x, y, scale):
        ...     return -0.5 * (x / scale) ** 2 + 2.0 * jnp.log(y) - 3.0 * y
        >>> model = taut.density(logp, like={"x": 0.0, "y": 0.0}, support={"y": dist.constraints.positive})
        >>> fit = taut.fit(model, dict(scale=2.0))
        >>> round(float(fit["x"].sd), 1), round(float(fit["y"].mean), 1)
        (2.0, 1.0)
    """
    title = getattr(logp, "__name__", "logp")
    shapes = _shapes(like)
    sets = _sets(shapes, {} if support is None else support)
    by_name, arguments = _call(logp, shapes)
    term = "log_density" if "log_density" not in shapes else f"{title}_log_density"

    def model(**data: Any) -> None:
        values = {name: sample(name, dist.ImproperUniform(sets[name], (), shape)) for name, shape in shapes.items()}
        terms = jnp.asarray(logp(**values, **data) if by_name else logp(values, **data))
        if terms.shape != ():
            raise TautError(
                "bad-argument",
                site=title,
                source=user_line(),
                found=f"a log density of shape {terms.shape}",
                expected="one number: the log density of all latents together",
                remedy="return jnp.sum(terms)",
            )
        factor(term, terms)

    model.__name__ = model.__qualname__ = title
    model.__signature__ = inspect.Signature(arguments)  # pyright: ignore[reportFunctionMemberAccess]
    return model


def _shapes(like: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    if isinstance(like, Mapping) and like and all(isinstance(name, str) for name in like):
        arrays = {name: np.asarray(value) for name, value in like.items()}
        if all(array.dtype.kind in "biuf" for array in arrays.values()):
            return {name: array.shape for name, array in arrays.items()}
    raise TautError(
        "bad-argument",
        site="like",
        source=user_line(),
        found=f"like={like!r:.80}",
        expected="a number or an array for each latent, by name",
        remedy='taut.density(logp, like={"x": 0.0, "w": jnp.zeros(3)})',
    )


def _sets(shapes: Mapping[str, Any], support: Mapping[str, Any]) -> dict[str, Any]:
    for name, constraint in support.items():
        known = isinstance(constraint, dist.constraints.Constraint)
        if name in shapes and known:
            continue
        raise TautError(
            "bad-argument",
            site=name,
            source=user_line(),
            found=f"support={{{name!r}: ...}}" if known else f"support={{{name!r}: {constraint!r:.60}}}",
            expected=f"one of {', '.join(shapes)}" if known else "a constraint of taut.dist.constraints",
            remedy=f'support={{"{next(iter(shapes))}": dist.constraints.positive}}',
        )
    return {name: support.get(name, dist.constraints.real) for name in shapes}


def _call(logp: Callable[..., Any], shapes: Mapping[str, Any]) -> tuple[bool, list[inspect.Parameter]]:
    """Whether the density takes its latents by name, and the arguments that are data."""
    try:
        parameters = list(inspect.signature(logp).parameters.values())
    except (TypeError, ValueError):
        return False, []
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    open_ended = [p for p in parameters if p.kind is p.VAR_KEYWORD]
    by_name = set(shapes) <= {p.name for p in named} or parameters == open_ended
    data = [p for p in named if p.name not in shapes] if by_name else [p for p in parameters[1:] if p in named]
    return by_name, [*(p.replace(kind=p.KEYWORD_ONLY) for p in data), *open_ended]
