"""The data: a logistic regression with 20 columns, written to a Parquet file a row group at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

COLUMNS, GROUP = 20, 100_000


def truth() -> np.ndarray:
    """Intercept and coefficients, ``float64[21]``."""
    return np.random.default_rng(1).normal(scale=0.3, size=COLUMNS + 1)


def write(path: Path, rows: int) -> None:
    """A file of ``rows`` rows: ``x`` a list of 20 floats of 32 bits, ``y`` 0 or 1.

    The columns are correlated and have heavy tails, so that the posterior is no multiple of a unit matrix. The first
    rows of a longer file are those of a shorter one.

    Args:
        path: where to write.
        rows: how many.
    """
    import pyarrow
    import pyarrow.parquet

    w = truth()
    mix = np.eye(COLUMNS) + 0.3 * np.random.default_rng(2).standard_normal((COLUMNS, COLUMNS)) / np.sqrt(COLUMNS)
    schema = pyarrow.schema([("x", pyarrow.list_(pyarrow.float32(), COLUMNS)), ("y", pyarrow.int8())])
    with pyarrow.parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for number, first in enumerate(range(0, rows, GROUP)):
            rng = np.random.default_rng([3, number])
            x = (rng.laplace(scale=np.sqrt(0.5), size=(GROUP, COLUMNS)) @ mix).astype(np.float32)
            y = (rng.uniform(size=GROUP) < 1 / (1 + np.exp(-(w[0] + x @ w[1:])))).astype(np.int8)
            count = min(GROUP, rows - first)
            flat: Any = pyarrow.array(x[:count].ravel())
            lists = pyarrow.FixedSizeListArray.from_arrays(flat, COLUMNS)
            file.write_table(pyarrow.table([lists, pyarrow.array(y[:count])], schema=schema), row_group_size=GROUP)
