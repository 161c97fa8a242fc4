"""A model on a batch: the plate that it opens with as many rows as it is given stands for all rows there are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from taut._errors import TautError
from taut.core import Handler, Site
from taut.data import Batches
from taut.problem._data import in_scope

# The data entry that holds the numbers of a batch's rows; no argument can have this name.
ROWS = "$rows"


class OnBatch:
    """A program for whole data, run on a batch whose row numbers come with it.

    Args:
        program: the model.
        plate: the plate of the rows.
        total: how many there are.
    """

    def __init__(self, program: Callable[..., Any], plate: str, total: int):
        functools.update_wrapper(self, program)
        self.program, self.plate, self.total = program, plate, total

    def __call__(self, **data: Any) -> Any:
        rows = data.pop(ROWS)
        with _Rows(self.plate, self.total, rows):
            return self.program(**data)


class _Rows(Handler):
    def __init__(self, plate: str, total: int, rows: Any):
        super().__init__()
        self.plate, self.total, self.rows = plate, total, rows

    def before(self, site: Site) -> Site:
        if site.kind != "plate" or site.name != self.plate or site.value is not None:
            return site
        frame, length = site.fn, int(self.rows.shape[0])
        # Opened with the length of the batch, or with the number of all rows.
        if frame.length not in (length, self.total):
            raise TautError(
                "plate-size",
                site=site.name,
                source=site.source,
                found=f"plate {site.name!r} of {frame.length} rows, on a batch of {length}",
                expected="as many rows as the model is given",
                remedy=f'taut.plate("{site.name}", len(y))',
            )
        note = {**site.infer, "batch": True}
        return replace(site, value=self.rows, fn=frame._replace(size=self.total, length=length), infer=note)


def first_batch(batches: Batches, last: bool = False) -> dict[str, Any]:
    """The data of a batch, with what all rows share."""
    table = batches.first(last)
    return {**table.columns, **batches.shared}


def check_plate(batches: Batches, sites: Mapping[str, Site]) -> None:
    """Refuse a model that does not open the batches' plate.

    Raises:
        TautError: ``plate-size``.
    """
    if batches.plate in sites and sites[batches.plate].kind == "plate":
        return
    plates = [name for name, site in sites.items() if site.kind == "plate"]
    raise TautError(
        "plate-size",
        site=batches.plate,
        found=f"a model with {'plates ' + ', '.join(map(repr, plates)) if plates else 'no plate'}, on batches of "
        f"plate {batches.plate!r}",
        expected="a plate of that name over the rows: by it the rows of a batch are weighed",
        remedy=f'plate="{plates[0]}"' if len(plates) == 1 else f'with taut.plate("{batches.plate}", len(y)): ...',
    )


def leaves_of(arrays: Mapping[str, Any], columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[int, Any]:
    """The leaves of a problem's inputs that change from batch to batch, by their place.

    Args:
        arrays: the traced data of the problem, by argument name.
        columns: values of the rows, ``(..., B, *)``; those that are no argument are left out.
        rows: their numbers, ``(..., B)``.
    """
    changing = {**{name: value for name, value in columns.items() if name in arrays}, ROWS: rows}
    found: dict[int, Any] = {}
    place = 0
    for name in sorted(arrays):
        count = len(jax.tree.leaves(arrays[name]))
        if name in changing:
            found[place] = in_scope(changing[name])
        place += count
    return found
