"""pyarrow, an optional extra and a heavy one: imported here, on first use."""

from __future__ import annotations

from typing import Any

from taut._errors import TautError


def arrow(site: str) -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``.

    Args:
        site: what is to be read.

    Raises:
        TautError: ``missing-extra``.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise TautError(
            "missing-extra",
            site=site,
            found="no pyarrow",
            expected="pyarrow, which reads Parquet",
            remedy="pip install 'taut[data]'",
        ) from error
    return pyarrow, parquet
