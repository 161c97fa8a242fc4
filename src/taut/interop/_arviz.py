"""A posterior as ArviZ's DataTree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from taut._errors import TautError


def to_arviz(
    draws: Mapping[str, np.ndarray],
    *,
    predictions: Mapping[str, np.ndarray] | None = None,
    observed: Mapping[str, np.ndarray] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Any:
    """Groups of draws as one ArviZ ``DataTree``, with a single chain.

    Args:
        draws: the posterior by site, ``(n, *shape)``.
        predictions: posterior predictive draws of observed sites, ``(n, *shape)``.
        observed: the data of observed sites.
        attributes: text to keep with the posterior.

    Returns:
        ``arviz_base``'s ``DataTree`` with the groups ``posterior``, ``posterior_predictive`` and ``observed_data``.

    Raises:
        TautError: ``missing-extra`` when arviz-base is not installed.
    """
    try:
        import arviz_base
    except ImportError as error:
        raise TautError(
            "missing-extra",
            found="no package arviz-base",
            expected="arviz-base, for fit.to_arviz()",
            remedy="pip install arviz-base",
        ) from error
    groups: dict[str, Any] = {"posterior": {name: v[None] for name, v in draws.items()}}
    if predictions:
        groups["posterior_predictive"] = {name: v[None] for name, v in predictions.items()}
    if observed:
        groups["observed_data"] = dict(observed)
    return arviz_base.from_dict(groups, attrs={"posterior": dict(attributes or {})})
