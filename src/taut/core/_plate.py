"""Plates: named, conditionally independent dimensions, whole or subsampled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from taut._errors import TautError
from taut.core._site import PlateFrame, Site, user_line
from taut.core._stack import Frame, Handler, apply, frames, push


class plate(Handler):
    r"""Rows that are independent given what stands outside: $\prod_{i=1}^N p(x_i)$.

    Sites inside are widened along the plate's batch dimension. A plate of ``subsample_size`` $B < N$ yields $B$ rows
    drawn without replacement, and every site inside counts $N/B$ times, so that sums over rows stay unbiased.

    Args:
        name: the plate's name.
        size: number of rows $N$, a whole number known before compilation.
        subsample_size: rows per evaluation $B$; all of them by default.
        dim: batch dimension, negative, counted from the right; by default the first that is free.

    Returns:
        In a ``with`` statement, the row numbers: ``int[B]``.

    Raises:
        TautError: ``plate-size``, ``plate-reuse`` (name or dimension already open), ``plate-shape`` for a site that
            does not fit.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> with taut.handlers.seed(key=0), taut.plate("rows", 3):
        ...     x = taut.sample("x", dist.Normal(0.0, 1.0))
        >>> x.shape
        (3,)
    """

    def __init__(self, name: str, size: int | None = None, subsample_size: int | None = None, dim: int | None = None):
        super().__init__()
        self.name = name
        if size is None and subsample_size is not None:
            raise _no_total(name, subsample_size)
        self.size = _whole(name, "size", size)
        self.length = self.size if subsample_size is None else _whole(name, "subsample_size", subsample_size)
        if dim is not None and dim >= 0:
            raise _refusal(name, f"dim={dim}", "a negative dim, counted from the right")
        self.dim = dim

    def __enter__(self) -> Any:
        frame = self._frame()
        site = Site("plate", self.name, value=None, fn=frame, source=user_line())
        # A handler (replay, whole plates, batches) may know other numbers of rows than the program does.
        site = apply(site, rows)
        # A prediction for few rows may be made by a model that was fitted in larger batches.
        if self.length > self.size and not site.infer.get("few rows"):
            raise _too_many(self.name, self.length, self.size)
        index = site.value
        push(self, _OpenPlate(site.fn._replace(length=int(index.shape[0]))))
        return index

    def _frame(self) -> PlateFrame:
        taken = {plate.dim: plate.name for f in frames() for plate in f.opened}
        if self.name in taken.values():
            raise _refusal(self.name, "a plate of this name is already open", "nested plates with different names")
        dim = self.dim
        if dim is None:
            dim = -1
            while dim in taken:
                dim -= 1
        if dim in taken:
            raise TautError(
                "plate-reuse",
                site=self.name,
                source=user_line(),
                found=f"dim={dim}, where plate {taken[dim]!r} already lies",
                expected="one plate per batch dimension",
                remedy=f'taut.plate("{self.name}", {self.size}, dim={min(taken) - 1})',
            )
        return PlateFrame(self.name, self.size, self.length, dim)


class _OpenPlate(Frame):
    def __init__(self, frame: PlateFrame):
        self.frame = frame

    @property
    def opened(self) -> tuple[PlateFrame, ...]:
        return (self.frame,)

    def before(self, site: Site) -> Site:
        if site.kind == "plate":
            return site
        frame = self.frame
        if site.kind == "sample":
            site = replace(site, fn=_widen(site, frame))
        elif site.kind == "factor":
            shape = np.shape(site.value)
            target = _target(site, shape, frame)
            if target != shape:
                site = replace(site, value=jax.numpy.broadcast_to(site.value, target))
        scale = site.scale if frame.length == frame.size else site.scale * (frame.size / frame.length)
        return replace(site, plates=(*site.plates, frame), scale=scale)


def rows(site: Site) -> Site:
    """Give a plate its rows: all of them, or a draw without replacement."""
    frame: PlateFrame = site.fn
    if frame.length == frame.size:
        return replace(site, value=np.arange(frame.size))
    if frame.length > frame.size:
        raise _too_many(site.name, frame.length, frame.size)
    if site.key is None:
        raise TautError(
            "no-key",
            site=site.name,
            source=site.source,
            found=f"a plate that draws {frame.length} of {frame.size} rows",
            expected="a key in scope",
            remedy="taut.handlers.seed(model, key=0)(...)",
        )
    return replace(site, value=jax.random.permutation(site.key, frame.size)[: frame.length])


def _target(site: Site, shape: tuple[int, ...], frame: PlateFrame) -> tuple[int, ...]:
    padded = (1,) * max(0, -frame.dim - len(shape)) + tuple(shape)
    found = padded[frame.dim]
    if found not in (1, frame.length):
        raise TautError(
            "plate-shape",
            site=site.name,
            source=site.source,
            found=f"batch shape {tuple(shape)}: {found} along dimension {frame.dim}",
            expected=f"{frame.length} there, the length of plate {frame.name!r} (or 1)",
            remedy=f'make the plate as long as the data, taut.plate("{frame.name}", {found}), or .to_event(1) if '
            "the dimension belongs to one draw",
        )
    dim = len(padded) + frame.dim
    return (*padded[:dim], frame.length, *padded[dim + 1 :])


def _widen(site: Site, frame: PlateFrame) -> Any:
    target = _target(site, site.fn.batch_shape, frame)
    return site.fn if target == site.fn.batch_shape else site.fn.expand(target)


def _whole(name: str, what: str, value: Any) -> int:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0:
        return int(value)
    if isinstance(value, np.ndarray) and value.shape == () and np.issubdtype(value.dtype, np.integer) and value > 0:
        return int(value)
    traced = isinstance(value, Tracer)
    raise TautError(
        "plate-size",
        site=name,
        source=user_line(),
        found=f"{what} computed from data or latents" if traced else f"{what}={value!r}",
        expected="a positive whole number known before compilation: a Python int, or len() of an array",
        remedy=f'taut.plate("{name}", len(y)), or pass the size as an int in the data: dict(n=8, ...)',
    )


def _too_many(name: str, length: int, size: int) -> TautError:
    return _refusal(name, f"subsample_size={length} of size={size}", "no more rows than the plate has")


def _no_total(name: str, rows: Any) -> TautError:
    return TautError(
        "plate-size",
        site=name,
        source=user_line(),
        found=f"subsample_size={rows!r} of an unknown number of rows",
        expected="the plate's full size: how many rows each of a batch stands for depends on it",
        remedy=f'taut.plate("{name}", 10_000, subsample_size={rows!r}), with the number of rows in all',
    )


def _refusal(name: str, found: str, expected: str) -> TautError:
    return TautError(
        "plate-reuse",
        site=name,
        source=user_line(),
        found=found,
        expected=expected,
        remedy=f'with taut.plate("{name}", n): ...',
    )
