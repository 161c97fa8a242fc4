"""The rows that an encoder sees: which latents belong to them, which data, and who stands for everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from taut._errors import TautError
from taut.core import PlateFrame
from taut.guides._encoder import Encoder
from taut.guides._guide import Guide
from taut.problem import DISCRETE, Program


class Standing(NamedTuple):
    """How an amortised guide stands to a problem.

    Attributes:
        plate: whose rows are encoded.
        sites: its latents, in program order.
        takes: the data that the encoder gets.
        treedef, constants: how data leaves become the model's arguments.
        encoder: the encoder, taken apart.
        digest: identifies the encoder's equations.
        origin: the guide before it was bound.
    """

    plate: str
    sites: tuple[str, ...]
    takes: tuple[str, ...]
    treedef: Any
    constants: dict[str, Any]
    encoder: Encoder
    digest: str
    origin: Any


def sites_of(program: Program, of: str | tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The plate, and its latents that are encoded."""
    plates = {plate: None for latent in program.latents.values() for plate in latent.plates}
    continuous = {n: latent for n, latent in program.latents.items() if latent.transform != DISCRETE}
    if isinstance(of, str) and of in plates:
        return of, tuple(n for n, latent in continuous.items() if of in latent.plates)
    names = (of,) if isinstance(of, str) else of
    unknown = [n for n in names if n not in continuous]
    if unknown or not names:
        known = ", ".join([*plates, *continuous])
        raise TautError(
            "site-missing",
            site=unknown[0] if unknown else None,
            found=f"Amortised({of!r}, ...)",
            expected=f"a plate with latents, or latents in one: {known}",
            remedy=f'taut.guides.Amortised("{next(iter(plates or continuous))}", encoder)',
        )
    common = [p for p in continuous[names[0]].plates if all(p in continuous[n].plates for n in names)]
    if len(common) != 1:
        latent = continuous[names[0]]
        raise TautError(
            "bad-argument",
            site=names[0],
            source=latent.source,
            found=f"{', '.join(names)} in {' and '.join(map(repr, common)) or 'no plate'}",
            expected="latents in one plate, whose rows are encoded; or the plate by its name",
            remedy=f'taut.guides.Amortised("{common[0]}", encoder)' if common else "leave it to globals=",
        )
    return common[0], tuple(n for n in program.latents if n in names)


def check_others(program: Program, plate: str, sites: tuple[str, ...], family: Guide) -> None:
    """Refuse what would have to follow rows and cannot."""
    chosen = program.outputs["rows"]
    for name, latent in program.latents.items():
        also = [p for p in latent.plates if p in chosen and (p != plate or name not in sites)]
        if also and (name in sites or not family.follows_rows):
            who = "an encoder of rows of " + repr(plate) if name in sites else type(family).__name__
            raise TautError(
                "bad-combination",
                site=name,
                source=latent.source,
                found=f"{who} for a latent in plate {also[0]!r}, whose rows change from step to step",
                expected="one plate whose rows are chosen, or a family that falls apart into the rows of the other",
                remedy=f'taut.plate("{also[0]}", ...) without subsample_size'
                if name in sites
                else "globals=taut.guides.MeanField()",
            )


def data_taken(wanted: tuple[str, ...] | None, arguments: Mapping[str, Any], rows: int, plate: str) -> tuple[str, ...]:
    """The data whose rows are encoded."""
    # What is no argument's name, such as the numbers of a batch's rows, is not the user's.
    arguments = {name: value for name, value in arguments.items() if name.isidentifier()}

    def fits(value: Any) -> bool:
        leaves = jax.tree.leaves(value)
        return bool(leaves) and all(np.shape(leaf)[:1] == (rows,) for leaf in leaves)

    if wanted is None:
        wanted = tuple(n for n, value in arguments.items() if not isinstance(value, str) and fits(value))
    shapes = ", ".join(f"{n} {np.shape(v)}" for n, v in arguments.items() if hasattr(v, "shape")) or "none"
    bad = [n for n in wanted if n not in arguments or not fits(arguments[n])]
    if bad or not wanted:
        long = [n for n, value in arguments.items() if fits(value)]
        raise TautError(
            "bad-argument",
            site="takes",
            found=f"takes={bad[0]!r}, data {shapes}" if bad else f"data {shapes}",
            expected=f"data whose first dimension is plate {plate!r}, {rows} rows long",
            remedy=f"takes={long[0]!r}" if long else f"pass the data with the {rows} rows first",
        )
    return wanted


def is_batch(program: Program, plate: str) -> bool:
    """Whether the data hold the rows of a batch and no others."""
    return bool(program.sites[plate].infer.get("batch"))


def rows_given(program: Program, name: str, plate: str) -> int:
    """How many rows of a site's plate the data hold."""
    frame = frame_of(program, name, plate)
    return frame.length if is_batch(program, plate) else frame.size


def frame_of(program: Program, name: str, plate: str) -> PlateFrame:
    """A site's plate of that name."""
    return next(p for p in program.sites[name].plates if p.name == plate)


def axis_of(program: Program, name: str, plate: str) -> int:
    """The axis of a latent's coordinate along which the plate's rows lie."""
    latent = program.latents[name]
    return len(latent.shape) - latent.event_dim + frame_of(program, name, plate).dim


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """A shape less one of its axes."""
    return (*shape[:axis], *shape[axis + 1 :])
