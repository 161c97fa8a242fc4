"""What a report is made from: plain values, never a problem or a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from taut._errors import TautError

LEVELS = ("trusted", "trusted after correction", "not trusted", "unverified")
KINDS = ("latent", "deterministic", "param")
COVERS = ("q", "moved", "reweighted")


@dataclass(frozen=True, eq=False)
class SiteDraws:
    """Draws of one site, in the model's own space.

    Args:
        kind: ``"latent"``, ``"deterministic"`` or ``"param"``.
        values: ``(S, *shape)``; a param may have ``S = 1``: it is then a point.
        support: the site's support in words, for the reader only.
        source: where the site stands (``"model.py:12"``), for the reader only.
    """

    kind: str
    values: np.ndarray
    support: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one draw."""
        return np.shape(self.values)[1:]

    @property
    def size(self) -> int:
        """Number of scalars in one draw."""
        return int(np.prod(self.shape, dtype=int))


@dataclass(frozen=True, eq=False)
class History:
    """The objective along the run.

    Args:
        steps: ``(T,)`` step numbers.
        elbo: ``(T,)`` the objective, rising, in nats.
        se: ``(T,)`` its Monte Carlo standard error; NaN or zero where there is none.
        label: the name of the objective.
        held_out: ``(L, 3)`` steps, objective and standard error of rows that were held out.
    """

    steps: np.ndarray
    elbo: np.ndarray
    se: np.ndarray
    label: str = "ELBO"
    held_out: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))


@dataclass(frozen=True, eq=False)
class Content:
    """Everything that the text, the page and the pictures show.

    Args:
        title: the model's name.
        level: one of `LEVELS`.
        headline: the verdict in one sentence.
        reasons: what the verdict rests on.
        advice: what to do next; empty if nothing.
        status: how the run ended: ``"converged"``, ``"budget"``, ``"nonfinite"``, ``"interrupted"``, ``"plateaued"``...
        sites: draws by site name, in the order to show them.
        log_weights: ``(S,)`` values of log_p - log_q for the draws, up to a constant, or None.
        covers: which draws the table shows, ``"q"``, ``"moved"`` (to the posterior) or ``"reweighted"``.
        guide_draws: q's own draws by site, ``(R, *shape)``, where the sites show draws that were moved from them.
        guide_log_weights: ``(R,)`` log_p - log_q of these.
        numbers: figures by name: (value, standard error or None, unit).
        history: the objective along the run, or None.
        facts: versions, guide, algorithm, key, precision, plates, in words.

    Raises:
        TautError: ``bad-argument`` if a word is unknown or the draws do not match the weights.

    Example:
        >>> draws = np.random.default_rng(0).normal(size=1000)
        >>> content = Content("demo", "trusted", "The weights are flat.", sites={"mu": SiteDraws("latent", draws)})
    """

    title: str
    level: str
    headline: str
    reasons: tuple[str, ...] = ()
    advice: str = ""
    status: str = "converged"
    sites: Mapping[str, SiteDraws] = field(default_factory=dict)
    log_weights: np.ndarray | None = None
    covers: str = "q"
    guide_draws: Mapping[str, np.ndarray] = field(default_factory=dict)
    guide_log_weights: np.ndarray | None = None
    numbers: Mapping[str, tuple[float, float | None, str]] = field(default_factory=dict)
    history: History | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("level", self.level, LEVELS)
        _one_of("covers", self.covers, COVERS)
        if self.covers == "reweighted" and self.log_weights is None:
            raise TautError(
                "bad-argument",
                site="covers",
                found="'reweighted' without log_weights",
                expected="log weights, one per draw",
                remedy="Content(..., log_weights=log_p - log_q)",
            )
        for name, site in self.sites.items():
            count = np.shape(site.values)[0] if np.ndim(site.values) else None
            short = site.kind == "param" and count == 1
            if count is None or (self.log_weights is not None and count != len(self.log_weights) and not short):
                weights = "" if self.log_weights is None else f" for {len(self.log_weights)} log weights"
                raise TautError(
                    "bad-argument",
                    site=name,
                    found=f"draws of shape {np.shape(site.values)}{weights}",
                    expected="draws along the first axis, one per log weight",
                    remedy="SiteDraws(kind, values)  # values of shape (draws, *site_shape)",
                )


def _one_of(name: str, found: str, allowed: tuple[str, ...]) -> None:
    if found not in allowed:
        raise TautError(
            "bad-argument",
            site=name,
            found=repr(found),
            expected="one of " + ", ".join(map(repr, allowed)),
            remedy=f"{name}={allowed[0]!r}",
        )
