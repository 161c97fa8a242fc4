"""What may be combined: objective, gradient estimator, noise, guide. Refusals and the documentation read this table.

An objective is of one of three kinds:

- *mean*: a plain mean of log-weights (`ELBO`; any objective of one particle);
- *logarithm*: another smooth function of the log-weights (`IWAE`, `Renyi`, `TVO`, `FDivergence`, `JVI`);
- *own gradient*: not differentiated as it stands (`CUBO`, `ForwardKL`, `RWS`, `UpperTVO`).

An estimator that is not listed may be combined with everything that its own ``valid_for`` lets pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from taut._errors import TautError

Kind = Literal["mean", "logarithm", "own gradient"]
KINDS: tuple[Kind, ...] = ("mean", "logarithm", "own gradient")

EXACT = "unbiased"
CONSISTENT = "consistent as particles grow"


@dataclass(frozen=True)
class Row:
    """What one estimator may be combined with.

    Attributes:
        mean, logarithm, own: `EXACT` or `CONSISTENT` where it may be combined with that kind of objective; else why
            not, as the end of the sentence "...: ".
        instead: the remedy for each refusal, by kind.
        balanced: kinds of objectives with which draws may depend on one another (antithetic, orthogonal,
            quasi-random).
        fixed: kinds of objectives with which the same draws may be used in every step.
        guides: which guides it moves, in words.
    """

    mean: str
    logarithm: str
    own: str
    instead: dict[Kind, str]
    balanced: tuple[Kind, ...] = ()
    fixed: tuple[Kind, ...] = ()
    guides: str = "smooth draws"

    def of(self, kind: Kind) -> str:
        """The entry of a kind of objective."""
        return {"mean": self.mean, "logarithm": self.logarithm, "own gradient": self.own}[kind]


_LEADS_AWAY = "its estimate from few draws is no bound, and the gradient of that estimate leads away from the posterior"
_NOT_OWN = "gradient=taut.gradients.Wake()"
_SMOOTH = "gradient=taut.gradients.DoublyReparam()"
_ONE_DRAW = "without its score term the gradient of a logarithm of a mean is biased"
_NEEDS_MEAN = "it is made for plain means of log-weights"

TABLE: dict[str, Row] = {
    "Pathwise": Row(
        EXACT,
        EXACT,
        _LEADS_AWAY,
        {"own gradient": _SMOOTH},
        balanced=("mean", "logarithm"),
        fixed=("mean", "logarithm"),
    ),
    "StickingTheLanding": Row(
        EXACT,
        _ONE_DRAW,
        _LEADS_AWAY,
        {"logarithm": f"{_SMOOTH}, or Pathwise()", "own gradient": _SMOOTH},
        balanced=("mean",),
    ),
    "DoublyReparam": Row(EXACT, EXACT, CONSISTENT, {}, balanced=("mean",)),
    "GeneralizedDoublyReparam": Row(
        EXACT,
        EXACT,
        "it converts the score of learned priors, which these objectives do not have",
        {"own gradient": _SMOOTH},
        guides="smooth draws; learned priors of location-scale families",
    ),
    "QuadraticControl": Row(
        EXACT,
        _NEEDS_MEAN,
        _LEADS_AWAY,
        {"logarithm": _SMOOTH, "own gradient": _SMOOTH},
        balanced=("mean",),
        guides="Gaussians on the real line",
    ),
    "ScoreFunction": Row(EXACT, EXACT, _LEADS_AWAY, {"own gradient": _NOT_OWN}, guides="any, discrete ones too"),
    "VarGrad": Row(
        EXACT,
        _NEEDS_MEAN,
        _LEADS_AWAY,
        {"logarithm": "gradient=taut.gradients.VIMCO()", "own gradient": _NOT_OWN},
        guides="any, discrete ones too",
    ),
    "VIMCO": Row(
        "there is no logarithm whose baselines it could take apart",
        EXACT,
        _LEADS_AWAY,
        {"mean": "gradient=taut.gradients.ScoreFunction()", "own gradient": _NOT_OWN},
        guides="any, discrete ones too",
    ),
    "Wake": Row(
        "the objective has no weights of its own for the scores",
        "the objective has no weights of its own for the scores",
        CONSISTENT,
        {"mean": "objective=taut.objectives.RWS()", "logarithm": "objective=taut.objectives.RWS()"},
        guides="any, discrete ones too",
    ),
}


def kind_of(objective: Any) -> Kind:
    """Which kind an objective is of."""
    if objective.own_gradient:
        return "own gradient"
    return "mean" if objective.averages or objective.particles == 1 else "logarithm"


def check_objective(estimator: str, objective: Any) -> None:
    """Refuse an objective whose gradient an estimator would get wrong.

    Args:
        estimator: its class's name; one that is not in the table is not judged.
        objective: the objective.

    Raises:
        TautError: ``bad-combination``.
    """
    row, kind = TABLE.get(estimator), kind_of(objective)
    if row is None or row.of(kind) in (EXACT, CONSISTENT):
        return
    raise TautError(
        "bad-combination",
        site="gradient",
        found=f"{estimator} with {type(objective).__name__}(particles={objective.particles})",
        expected=f"another estimator: {row.of(kind)}",
        remedy=row.instead[kind],
    )


def check_noise(estimator: str, objective: Any, noise: str, sort: Literal["fresh", "balanced", "fixed"]) -> None:
    """Refuse noise under which an estimator is biased.

    Args:
        estimator: its class's name; one that is not in the table may have fresh noise alone.
        objective: the objective.
        noise: the noise's name, for the message.
        sort: what it is: independent draws; draws that depend on one another; the same draws in every step.

    Raises:
        TautError: ``bad-combination``.
    """
    if sort == "fresh":
        return
    row = TABLE.get(estimator)
    allowed = () if row is None else row.balanced if sort == "balanced" else row.fixed
    if kind_of(objective) in allowed:
        return
    why = (
        "its terms have mean zero over draws that change, and not over those that stay"
        if sort == "fixed"
        else "it takes the other draws to know nothing of this one"
    )
    raise TautError(
        "bad-combination",
        site="noise",
        found=f"{noise} noise with {estimator} and {type(objective).__name__}(particles={objective.particles})",
        expected=f"independent fresh draws for {estimator}: {why}",
        remedy="noise=taut.gradients.Fresh()"
        + (", or gradient=taut.gradients.Pathwise()" if kind_of(objective) != "own gradient" else ""),
    )


def table_rows() -> list[tuple[str, ...]]:
    """The table in words: estimator, one column per kind of objective, dependent noise, fixed noise, guides."""
    rows = []
    for name, row in TABLE.items():
        cells = [row.of(kind) if row.of(kind) in (EXACT, CONSISTENT) else f"refused: {row.of(kind)}" for kind in KINDS]
        rows.append((name, *cells, ", ".join(row.balanced) or "refused", ", ".join(row.fixed) or "refused", row.guides))
    return rows
