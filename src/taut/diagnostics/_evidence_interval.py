"""What a fit knows of its log evidence: an interval, the estimates that it is made of, and what they rest on."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from taut.diagnostics._evidence import EvidenceLine

ERRORS = 3.0  # standard errors by which an end lies beyond its estimate
_ORDER = {"below": 0, "near": 1, "above": 2}
_STOCHASTIC = (
    "Each line is a random estimate: those below and above bound the log evidence on average, an end of the interval "
    f"lies {ERRORS:g} standard errors beyond. A mode that no draw reached is missing from all of them."
)


@dataclass(frozen=True)
class EvidenceInterval:
    """Two ends that hold the log evidence, in nats; made by `Fit.evidence`.

    ``value in interval`` asks whether a value lies between the ends. ``print`` shows a table, from below to above.

    Attributes:
        low: the highest of the estimates from below that hold, less three standard errors.
        high: the lowest of those from above, plus three; ``inf`` where none holds.
        estimate: the most precise estimate near the log evidence that holds; NaN where none does.
        se: its standard error.
        lines: all estimates, see `EvidenceLine`.
        warnings: what a reader must know before using any of it.
        notes: what else the estimates rest on.
        title: the model's name.
    """

    low: float
    high: float
    estimate: float
    se: float
    lines: tuple[EvidenceLine, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    title: str = "model"

    @property
    def width(self) -> float:
        """High minus low, nats; ``inf`` where nothing holds from above."""
        return self.high - self.low

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __getitem__(self, name: str) -> EvidenceLine:
        """The first line whose name starts so: ``interval["IWAE"]``."""
        return next(line for line in self.lines if line.name.startswith(name))

    def __str__(self) -> str:
        width = max(len(line.name) for line in self.lines)
        places = _places(self.lines)
        head = f"log evidence of {self.title}, nats: {self._words(places)}"
        rows = [f"{'':7}{'':{width}}  {'estimate':>{places + 9}}  {'±':>{places + 5}}"]
        for line in self.lines:
            value = _number(line.value, places)
            se = f"{line.se:.{places}f}" if math.isfinite(line.se) else "?"
            doubt = "" if line.holds else f"  needs {line.rests_on}"
            rows.append(f"{line.side:<7}{line.name:{width}}  {value:>{places + 9}}  {se:>{places + 5}}{doubt}".rstrip())
        said = [_wrapped("! ", text) for text in self.warnings]
        said += [_wrapped("", text) for text in (*self.notes, _STOCHASTIC)]
        return "\n".join([head, *rows, *said])

    def __repr__(self) -> str:
        return self.__str__()

    def _words(self, places: int) -> str:
        low, high = _number(self.low, places), _number(self.high, places)
        near = "" if math.isnan(self.estimate) else f"; near {_number(self.estimate, places)} ± {self.se:.{places}f}"
        return f"between {low} and {high}{near}" if math.isfinite(self.high) else f"at least {low}, open above{near}"


def interval(
    lines: Sequence[EvidenceLine],
    *,
    slack: float,
    best: str | None = None,
    warnings: Sequence[str] = (),
    notes: Sequence[str] = (),
    title: str = "model",
) -> EvidenceInterval:
    """The interval that some estimates give.

    Ends that contradict each other are not believed: the interval then reaches from the lowest to the highest line, and
    says so.

    Args:
        lines: the estimates.
        slack: rounding, by which both ends lie further out, in nats.
        best: start of the name of the line to prefer as the estimate; else the one of smallest error.
        warnings, notes, title: see `EvidenceInterval`.
    """
    ordered = sorted(lines, key=lambda line: _ORDER[line.side])  # stable: as they came within a side
    held = [line for line in ordered if line.holds and math.isfinite(line.value) and math.isfinite(line.se)]
    low = max((line.value - ERRORS * line.se for line in held if line.side == "below"), default=-math.inf) - slack
    high = min((line.value + ERRORS * line.se for line in held if line.side == "above"), default=math.inf) + slack
    near = sorted((line for line in held if line.side == "near"), key=lambda line: line.se)
    chosen = next((line for line in near if best and line.name.startswith(best)), near[0] if near else None)
    found, said = list(held), list(warnings)
    if low > high:
        said.insert(0, "The estimates from below and from above contradict each other: draws that were taken for the "
                       "posterior's are not, or an error is larger than stated. The interval holds all.")  # fmt: skip
        low = min(line.value - ERRORS * line.se for line in found) - slack
        high = max(line.value + ERRORS * line.se for line in found) + slack
    elif chosen is not None and not (
        low - ERRORS * chosen.se - slack <= chosen.value <= high + ERRORS * chosen.se + slack
    ):
        said.insert(0, f"{chosen.name} lies outside of the bounds by more than its error: one of them is wrong. The "
                       "interval holds both.")  # fmt: skip
        low = min(low, chosen.value - ERRORS * chosen.se)
        high = max(high, chosen.value + ERRORS * chosen.se)
    return EvidenceInterval(
        low=low,
        high=high,
        estimate=math.nan if chosen is None else chosen.value,
        se=math.inf if chosen is None else chosen.se,
        lines=tuple(ordered),
        warnings=tuple(said),
        notes=tuple(notes),
        title=title,
    )


def _places(lines: Sequence[EvidenceLine]) -> int:
    """Decimals that the smallest error deserves: 2 to 6."""
    errors = [line.se for line in lines if math.isfinite(line.se) and line.se > 0]
    return min(max(2, 1 - math.floor(math.log10(min(errors)))), 6) if errors else 6


def _number(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def _wrapped(first: str, text: str) -> str:
    return textwrap.fill(text, 110, initial_indent=first, subsequent_indent=" " * len(first))
