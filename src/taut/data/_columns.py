"""What a column may hold: a number, or an array of numbers of one shape, in every row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from taut._errors import TautError
from taut.data._pieces import Kind


def one_length(shapes: Mapping[str, tuple[int, ...]], where: str) -> int:
    """The number of rows that all columns have.

    Raises:
        TautError: ``data-type``, naming the columns and their lengths.
    """
    flat = [name for name, shape in shapes.items() if not shape]
    lengths = {name: shape[0] for name, shape in shapes.items() if shape}
    if flat or not lengths:
        name = flat[0] if flat else "data"
        raise TautError(
            "data-type",
            site=name,
            found=f"{name!r} in {where} has no axis of rows" if flat else f"no columns in {where}",
            expected="arrays with a leading axis of rows",
            remedy=f"shared=dict({name}=...) for what all rows share" if flat else "dict(x=x, y=y)",
        )
    if len(set(lengths.values())) > 1:
        longest = max(lengths.values())
        odd = next(name for name, n in lengths.items() if n != longest)
        raise TautError(
            "data-type",
            site=odd,
            found=f"columns of different lengths in {where}: "
            + ", ".join(f"{name} has {n:,}" for name, n in lengths.items()),
            expected="one row of every column for each row of the plate",
            remedy=f"shared=dict({odd}={odd}) if all rows share it; otherwise cut the columns to one length",
        )
    return next(iter(lengths.values()))


def as_array(value: Any) -> Any:
    """A column in memory as an array; what is read from a file in parts (h5py, zarr) stays what it is."""
    return value if isinstance(value, np.ndarray) or hasattr(value, "chunks") else np.asarray(value)


def numeric(name: str, value: Any) -> None:
    """Refuse a column that holds no numbers.

    Raises:
        TautError: ``data-type``, with how to make numbers of it.
    """
    kind = np.dtype(value.dtype).kind
    if kind in "biuf":
        return
    remedy = f"{name}, labels = pandas.factorize({name})"
    if kind in "mM":
        remedy = f'{name} = ({name} - {name}.min()) / numpy.timedelta64(1, "D")'
    if kind == "c":
        remedy = f"numpy.stack([{name}.real, {name}.imag], axis=-1)"
    raise TautError(
        "data-type",
        site=name,
        found=f"a column of {value.dtype}",
        expected="integers, floats or booleans",
        remedy=remedy,
    )


def from_arrow(name: str, column: Any) -> np.ndarray:
    """A column of pyarrow's as an array: numbers, or equally long lists of them, nested as deep as one likes.

    Raises:
        TautError: ``data-type`` for missing values, ragged lists and what is no number.
    """
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    if column.null_count:
        raise TautError(
            "data-type",
            site=name,
            found=f"{column.null_count} missing values",
            expected="a number in every row",
            remedy=f"df = df.dropna(subset=[{name!r}])",
        )
    if hasattr(column, "storage") and hasattr(column.type, "shape"):  # tensors of one shape
        return from_arrow(name, column.storage).reshape(len(column), *column.type.shape)
    if hasattr(column.type, "value_type") and hasattr(column, "flatten"):
        inner = from_arrow(name, column.flatten())
        return inner.reshape(len(column), _list_length(name, column), *inner.shape[1:])
    value = column.to_numpy(zero_copy_only=False)
    numeric(name, value)
    return value


def _list_length(name: str, column: Any) -> int:
    if hasattr(column.type, "list_size") and column.type.list_size >= 0:
        return column.type.list_size
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    shortest, longest = (int(lengths.min()), int(lengths.max())) if len(lengths) else (0, 0)
    if shortest < longest:
        raise TautError(
            "data-type",
            site=name,
            found=f"lists of {shortest} to {longest} entries",
            expected="lists of one length",
            remedy=f"pad {name!r} to one length, with a column that says how many count",
        )
    return longest


def kinds_of(columns: Mapping[str, Any]) -> dict[str, Kind]:
    """What the rows of every column are."""
    return {name: Kind(tuple(value.shape[1:]), np.dtype(value.dtype)) for name, value in columns.items()}


def check_kinds(columns: Mapping[str, Any], kinds: Mapping[str, Kind], where: str) -> None:
    """Refuse columns that are not what those before them were.

    Raises:
        TautError: ``data-type`` for other columns, rows of another shape, and fractions after whole numbers.
    """
    if set(columns) != set(kinds):
        raise other_columns(where, columns, kinds)
    for name, value in columns.items():
        shape, dtype = kinds[name]
        if value.shape[1:] != shape:
            raise TautError(
                "data-type",
                site=name,
                found=f"rows of shape {value.shape[1:]} in {where}, after rows of shape {shape}",
                expected="rows of one shape",
                remedy=f"pad {name!r} to one length",
            )
        if not np.can_cast(value.dtype, dtype, "same_kind"):
            raise TautError(
                "data-type",
                site=name,
                found=f"{value.dtype} in {where}, after {dtype}",
                expected="one type in all parts",
                remedy=f'{name}.astype("{np.result_type(value.dtype, dtype)}") in every part',
            )


def other_columns(where: str, found: Iterable[str], expected: Iterable[str]) -> TautError:
    """The refusal of a part with other columns than the rest."""
    return TautError(
        "data-type",
        site=where,
        found=f"columns {', '.join(found)}",
        expected=f"columns {', '.join(expected)}",
        remedy="give every part the same columns",
    )
