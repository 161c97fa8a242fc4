"""A guide that is a function, as a family; NumPyro's automatic guides are refused with taut's of the same shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taut import dist
from taut._errors import TautError
from taut.guides import Guide, Program

_SAME_SHAPE = {
    "AutoDelta": "guide=taut.guides.Delta()",
    "AutoNormal": "guide=taut.guides.MeanField()",
    "AutoDiagonalNormal": "guide=taut.guides.MeanField()",
    "AutoMultivariateNormal": "guide=taut.guides.FullRank()",
    "AutoLowRankMultivariateNormal": "guide=taut.guides.LowRank(rank=3)",
    "AutoLaplaceApproximation": "algorithm=taut.algorithms.Laplace()",
    "AutoBatchedMultivariateNormal": "guide=taut.guides.BlockDense()",
    "AutoBatchedLowRankMultivariateNormal": "guide=taut.guides.BlockDense()",
    "AutoIAFNormal": "guide=taut.guides.Flow()",
    "AutoBNAFNormal": "guide=taut.guides.Flow()",
    "AutoDAIS": "guide=taut.guides.DAIS()",
    "AutoSurrogateLikelihoodDAIS": "guide=taut.guides.DAIS()",
    "AutoGuideList": "guide=taut.guides.Combine(...) with a family for each group of latents",
}


def as_family(guide: Guide | Callable[..., Any]) -> Guide:
    """A family of guides, or a guide written as a function with taut's or NumPyro's primitives, as a family.

    Raises:
        TautError: ``bad-argument`` for an automatic guide of NumPyro's.
    """
    if dist.is_autoguide(guide):
        name = (guide if isinstance(guide, type) else type(guide)).__name__
        raise TautError(
            "bad-argument",
            site="guide",
            found=f"NumPyro's {name}, which initialises itself by runs of its own",
            expected="a family of taut.guides, or a function with a site for every latent",
            remedy=_SAME_SHAPE.get(name, "leave guide out: taut.fit chooses one"),
        )
    return guide if isinstance(guide, Guide) else Program(guide)
