"""What is done to rows on their way into a batch: drawn afresh at every step, and the same for the same key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from taut._errors import TautError
from taut._keys import generator

# Columns of a batch, and a generator that key and step determine, to columns.
Transform = Callable[[dict[str, np.ndarray], np.random.Generator], dict[str, np.ndarray]]


@dataclass(frozen=True, init=False)
class Binarise:
    r"""Dynamic binarisation: every step sees a fresh black-and-white image, $x \sim \text{Bernoulli}(\text{grey})$.

    Grey values are intensities from 0 to 1, or whole numbers of 8 bits from 0 to 255. Given as ``transform`` of
    `Batches`, the draws depend on the run's key and on the step alone, so that a run that is cut, resumed or read in
    other chunks sees the same images.

    Args:
        columns: names of the columns that hold grey values.

    Raises:
        TautError: when called: ``data-type`` for a column that is not there, ``data-support`` for values that are no
            intensities.

    Source: Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders, after Salakhutdinov, Murray (2008),
    On the quantitative analysis of deep belief networks.

    Example:
        >>> grey = np.full((1000, 4), 51, np.uint8)
        >>> white = taut.data.Binarise("x")(dict(x=grey), np.random.default_rng(0))["x"]
        >>> sorted(set(white.ravel().tolist())), bool(abs(white.mean() - 51 / 255) < 0.03)
        ([0.0, 1.0], True)
    """

    columns: tuple[str, ...]

    def __init__(self, *columns: str):
        if not columns or not all(isinstance(name, str) and name for name in columns):
            raise TautError(
                "bad-argument",
                site="transform",
                found=f"Binarise({', '.join(map(repr, columns))})",
                expected="names of columns that hold grey values",
                remedy='taut.data.Binarise("x")',
            )
        object.__setattr__(self, "columns", columns)

    def __call__(self, table: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The same columns, the named ones drawn: ``float32``, 0 or 1."""
        missing = [name for name in self.columns if name not in table]
        if missing:
            raise TautError(
                "data-type",
                site=missing[0],
                found=f"Binarise({missing[0]!r}) on columns {', '.join(table)}",
                expected="the name of a column",
                remedy=f'transform=taut.data.Binarise("{next(iter(table))}")',
            )
        return {**table, **{name: _drawn(name, table[name], rng) for name in self.columns}}


def binarise(grey: np.ndarray, key: int = 0) -> np.ndarray:
    """One fixed black-and-white version of grey images, for held-out data that must not change from run to run.

    Args:
        grey: intensities from 0 to 1, or whole numbers of 8 bits; any shape.
        key: an integer or a JAX key; the same key gives the same images.

    Returns:
        ``float32`` of the same shape, 0 or 1.

    Raises:
        TautError: ``data-support`` for values that are no intensities.

    Example:
        >>> taut.data.binarise([0.0, 1.0, 0.0])
        array([0., 1., 0.], dtype=float32)
    """
    return _drawn("grey", np.asarray(grey), generator(key, _FIXED))


def _drawn(name: str, grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, high = (np.min(grey), np.max(grey)) if grey.size else (0, 0)
    bytes_ = grey.dtype == np.uint8 and high > 1
    if not (low >= 0 and (bytes_ or high <= 1)):
        raise TautError(
            "data-support",
            site=name,
            found=f"grey values from {low:g} to {high:g}",
            expected="intensities from 0 to 1, or whole numbers of 8 bits (uint8) from 0 to 255",
            remedy=f"{name}={name} / {255 if 1 < high <= 255 and low >= 0 else f'{high:g}'}",
        )
    if bytes_:
        # 0, ..., 254 are equally probable: i is above a share i / 255 of them.
        return (rng.integers(0, 255, grey.shape, np.uint8) < grey).astype(np.float32)
    return (rng.random(grey.shape, np.float32) < grey).astype(np.float32)


# The stream of keys of `binarise`; steps of batches have those from `STEPS` on.
_FIXED, STEPS = 2**40 - 1, 2**40
